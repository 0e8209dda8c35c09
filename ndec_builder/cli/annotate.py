"""`ndec annotate …`: mined pairs go to annotators, labels come back."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ndec_builder.annotation.settings import StatusConfig
from ndec_builder.cli.options import Json, print_result
from ndec_builder.cli.verbs import Given, verb
from ndec_builder.commands import COMMANDS

app = typer.Typer(help="Label the mined pairs in Label Studio: serve, push, pull, resolve.", no_args_is_help=True)


@app.command("install")
def install(
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Replace a different version with ndec's.")] = False,
    as_json: Json = False,
) -> None:
    """Install the Label Studio server into an environment of its own."""
    from ndec_builder.annotation.label_studio.environment import install

    print_result(install(upgrade=upgrade), as_json)


@verb(app, "serve", "port image_port host database url", common=("workspace", "config"))
def serve(given: Given) -> None:
    """Run Label Studio and the image server until Ctrl-C (or `ndec annotate stop`)."""
    COMMANDS["serve"].run(given.config())


@verb(app, "stop", common=("workspace", "json"))
def stop(given: Given) -> None:
    """Stop the servers that `serve` runs for this workspace in another terminal."""
    from ndec_builder.annotation.serve import stop
    from ndec_builder.core.workspace import Workspace

    stopped = stop(Workspace(given.workspace))
    text = "stopped" if stopped else "nothing runs for this workspace"
    typer.echo(json.dumps({"stopped": stopped}) if given.as_json else text)


@verb(
    app,
    "push",
    "split annotators plan overlap overlap_people sample order count below keepable gold check_pairs",
)
def push(given: Given) -> None:
    """First round: make one project per annotator and import the pairs that are not yet there.

    A new annotator gets open pairs of the others.
    """
    given.run(round="first")


@verb(app, "double-check", "split annotators plan double_check", configs=("push",))
def double_check(given: Given) -> None:
    """Second round: annotators re-label the kept (or the uncertain) pairs that others labelled first."""
    given.run(round="double_check")


@verb(app, "adjudicate", "split annotators plan", configs=("push",))
def adjudicate(given: Given) -> None:
    """Last round: pairs on which annotators still disagree go to one more annotator."""
    given.run(round="adjudication")


@verb(app, "audit", "split annotators plan audit_pairs", configs=("push",))
def audit(given: Given) -> None:
    """Draw kept hard negatives at random for an annotator who has not seen them. Run it again for disputed pairs.

    After `pull` and `resolve`, agreement.json, `status` and the card show the upper bound of edited copies left.
    """
    given.run(round="audit")


@verb(app, "auto-clear", "split above allowed undo")
def auto_clear(given: Given) -> None:
    """Discard pairs that the pre-label calls edited copies, above a confidence that a random slice of labels proves.

    It never runs by itself. First `push --check-pairs 194` (or more), have them labelled, `pull`. It never accepts a
    hard negative, and `resolve` reverts it when later labels contradict.
    """
    given.run()


@verb(app, "leave", "annotator split others")
def leave(given: Given) -> None:
    """An annotator stops: the open pairs go to others, the labels stay."""
    given.run()


@verb(app, "send-back", "annotator why split since round by others")
def send_back(given: Given) -> None:
    """Set an annotator's labels aside, all or since a time; the pairs go to others. Nothing is deleted."""
    given.run()


@verb(app, "pull", "split")
def pull(given: Given) -> None:
    """Fetch new labels into the append-only labels table."""
    given.run()


@verb(app, "relearn", "split")
def relearn(given: Given) -> None:
    """Learn pre-labels from the labels pulled so far; double-checks, queues and auto-clearing use them afterwards."""
    given.run()


@verb(app, "recheck", "split")
def recheck(given: Given) -> None:
    """Search each kept query against all references once more; near matches go back to annotation (push again)."""
    given.run()


@verb(app, "resolve", "split plan posterior")
def resolve(given: Given) -> None:
    """Turn labels into one decision per pair, with agreement figures."""
    given.run()


@verb(app, "status", "split", configs=StatusConfig, common=("workspace", "json"))
def status(given: Given) -> None:
    """Per annotator and round: done, left, speed, accuracy on gold, flags; the audit's bound; what was auto-cleared."""
    from ndec_builder.annotation import status
    from ndec_builder.annotation.label_studio.server_snapshot import trouble_lines

    config = StatusConfig(given.workspace, **{name: value for name, value in given.flags.items() if value})
    rows, found = status.status(config), status.audit_and_clearing(config)
    if given.as_json:
        audit = found["audit"].as_json() if found["audit"] else None
        typer.echo(json.dumps({"annotators": rows, "audit": audit, "auto_clear": found["auto_clear"]}))
    else:
        typer.echo("\n".join([status.status_text(rows), status.finish_text(rows), *status.findings_text(found)]))
    for note in trouble_lines(config.workspace, config.split):
        typer.echo(note, err=True)
