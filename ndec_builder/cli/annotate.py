"""`ndec annotate …`: mined pairs go to annotators, labels come back."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ndec_builder.annotation.settings import StatusConfig
from ndec_builder.cli.options import Json, print_result
from ndec_builder.cli.verbs import VerbCall, verb
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


@verb(app, "serve", "port image_port host database without_backup url", common=("workspace", "config"))
def serve(call: VerbCall) -> None:
    """Run Label Studio and the image server until Ctrl-C (or `ndec annotate stop`)."""
    COMMANDS["serve"].run(call.config())


@verb(app, "stop", common=("workspace", "json"))
def stop(call: VerbCall) -> None:
    """Stop the servers that `serve` runs for this workspace in another terminal."""
    from ndec_builder.annotation.serve import stop
    from ndec_builder.core.workspace import Workspace

    stopped = stop(Workspace(call.workspace))
    text = "stopped" if stopped else "nothing runs for this workspace"
    typer.echo(json.dumps({"stopped": stopped}) if call.as_json else text)


@verb(
    app,
    "push",
    "split annotators plan overlap overlap_people sample order count below keepable finish_queries gold check_pairs",
)
def push(call: VerbCall) -> None:
    """First round: make one project per annotator and import the pairs that are not yet there.

    A new annotator gets open pairs of the others.
    """
    call.run(round="first")


@verb(app, "double-check", "split annotators plan double_check", configs=("push",))
def double_check(call: VerbCall) -> None:
    """Second round: annotators re-label the kept (or the uncertain) pairs that others labelled first."""
    call.run(round="double_check")


@verb(app, "adjudicate", "split annotators plan", configs=("push",))
def adjudicate(call: VerbCall) -> None:
    """Last round: pairs on which annotators still disagree go to one more annotator."""
    call.run(round="adjudication")


@verb(app, "audit", "split annotators plan audit_pairs weighted", configs=("push",))
def audit(call: VerbCall) -> None:
    """Draw kept hard negatives at random for an annotator who has not seen them. Run it again for disputed pairs.

    After `pull` and `resolve`, agreement.json, `status` and the card show the upper bound of edited copies left.
    """
    call.run(round="audit")


@verb(app, "auto-clear", "split above allowed undo")
def auto_clear(call: VerbCall) -> None:
    """Discard pairs that the pre-label calls edited copies, above a confidence that a random slice of labels proves.

    It never runs by itself. First `push --check-pairs 209` (or more), have them labelled, `pull`. It never accepts a
    hard negative, and `resolve` reverts it when later labels contradict.
    """
    call.run()


@verb(app, "leave", "annotator split others")
def leave(call: VerbCall) -> None:
    """An annotator stops: the open pairs go to others, the labels stay."""
    call.run()


@verb(app, "send-back", "annotator why split since round by others")
def send_back(call: VerbCall) -> None:
    """Set an annotator's labels aside, all or since a time; the pairs go to others. Nothing is deleted."""
    call.run()


@verb(app, "pull", "split everything accept_deleted")
def pull(call: VerbCall) -> None:
    """Fetch new labels into the append-only labels table."""
    call.run()


@verb(app, "check", "split")
def check(call: VerbCall) -> None:
    """Verify that no stored label was lost or changed, and compare with Label Studio if it runs."""
    call.run()


@verb(app, "forget", "annotator offline")
def forget(call: VerbCall) -> None:
    """Replace an annotator's name by a pseudonym in the whole workspace and remove the login; the labels stay."""
    call.run()


@verb(app, "relearn", "split")
def relearn(call: VerbCall) -> None:
    """Learn pre-labels from the labels pulled so far; double-checks, queues and auto-clearing use them afterwards."""
    call.run()


@verb(app, "certify", "split recall confidence error again")
def certify(call: VerbCall) -> None:
    """Say how many labels certify a recall of the hard negatives, from the random sample of `push --sample`.

    After `relearn`. Label what it names, pull, and run it again: the other pairs need not be labelled.
    """
    call.run()


@verb(app, "plan", "split budget goal")
def plan(call: VerbCall) -> None:
    """Which way of labelling keeps the most hard negatives for a budget, or reaches a goal with the fewest labels.

    A SIMULATED forecast from the pilot's own labels, after `push --sample`, `pull` and `relearn`.
    """
    call.run()


@verb(app, "recheck", "split distractors engine ray_address")
def recheck(call: VerbCall) -> None:
    """Search each kept query against all references once more; near matches go back to annotation (push again).

    With --distractors N, the N never mined pool images that are closest to a reference go to annotation too.
    """
    call.run()


@verb(app, "resolve", "split plan posterior")
def resolve(call: VerbCall) -> None:
    """Turn labels into one decision per pair, with agreement figures."""
    call.run()


@verb(app, "status", "split", configs=StatusConfig, common=("workspace", "json"))
def status(call: VerbCall) -> None:
    """Per annotator and round: done, left, speed, accuracy on gold, flags; the audit's bound; what was auto-cleared."""
    from ndec_builder.annotation import status
    from ndec_builder.annotation.label_studio.server_snapshot import trouble_lines

    config = StatusConfig(call.workspace, **{name: value for name, value in call.flags.items() if value})
    rows, found = status.status(config), status.audit_and_clearing(config)
    if call.as_json:
        audit = found["audit"].as_json() if found["audit"] else None
        rest = {name: found[name] for name in ("auto_clear", "certificate")}
        typer.echo(json.dumps({"annotators": rows, "audit": audit, **rest}))
    else:
        typer.echo("\n".join([status.status_text(rows), status.finish_text(rows), *status.findings_text(found)]))
    for note in [*status.former_text(config), *trouble_lines(config.workspace, config.split)]:
        typer.echo(note, err=True)
