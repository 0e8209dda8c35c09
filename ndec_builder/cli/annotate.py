"""`ndec annotate …`: the mined pairs before people's eyes, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ndec_builder.cli.options import HERE, Json, Settings, Split, Workspace, build_and_run, print_result, run

app = typer.Typer(help="Label the mined pairs in Label Studio: serve, push, pull, resolve.", no_args_is_help=True)


@app.command("install")
def annotate_install(
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Bring another version there to ndec's.")] = False,
    as_json: Json = False,
) -> None:
    """Install the Label Studio server into an environment of its own."""
    from ndec_builder.annotation.label_studio.environment import install

    print_result(install(upgrade=upgrade), as_json)


@app.command("serve")
def annotate_serve(
    workspace: Workspace = HERE,
    port: Annotated[int | None, typer.Option(help="Port of Label Studio.")] = None,
    image_port: Annotated[int | None, typer.Option(help="Port of the image server.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: this machine only.")] = None,
    database: Annotated[str | None, typer.Option(help="postgresql://USER@HOST:PORT/NAME; default: SQLite.")] = None,
    url: Annotated[str | None, typer.Option(help="A Label Studio that runs already: serve the pictures only.")] = None,
    config: Settings = None,
) -> None:
    """Run Label Studio and the image server until Ctrl-C (or `ndec annotate stop`)."""
    flags = {"port": port, "image_port": image_port, "host": host, "database": database, "url": url}
    build_and_run("serve", workspace, config, **flags)


@app.command("stop")
def annotate_stop(workspace: Workspace = HERE, as_json: Json = False) -> None:
    """Stop what `serve` runs for this workspace in another terminal."""
    from ndec_builder.annotation.serve import stop
    from ndec_builder.core.workspace import Workspace as Bench

    stopped = stop(Bench(workspace))
    words = "stopped" if stopped else "nothing runs for this workspace"
    typer.echo(json.dumps({"stopped": stopped}) if as_json else words)


Annotators = Annotated[list[str] | None, typer.Option("--annotator", help="Who labels; give it several times.")]


@app.command("push")
def annotate_push(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    overlap: Annotated[float | None, typer.Option(help="Share of pairs seen by several people.")] = None,
    overlap_people: Annotated[int | None, typer.Option(help="How many see those: 2 or 3.")] = None,
    sample: Annotated[int | None, typer.Option(help="Only so many pairs, drawn at random, to relearn from.")] = None,
    order: Annotated[str | None, typer.Option(help="rank (default), informative, copies_last or likeliest.")] = None,
    count: Annotated[int | None, typer.Option(help="Only the next so many pairs of that order.")] = None,
    below: Annotated[float | None, typer.Option(help="Only pairs less likely to be an edited copy than this.")] = None,
    keepable: Annotated[
        bool | None, typer.Option("--keepable", help="Leave out pairs of queries that hold an edited copy already.")
    ] = None,
    gold: Annotated[float | None, typer.Option(help="Share of gold pairs among what people see; try 0.03.")] = None,
    check_pairs: Annotated[
        int | None, typer.Option(help="Random pairs of a high pre-label for people, to prove `auto-clear`.")
    ] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """First round: make one project per annotator and import the pairs that are not there yet.

    Somebody new gets open pairs of the others.
    """
    flags: dict[str, Any] = {
        "overlap": overlap,
        "overlap_people": overlap_people,
        "sample": sample,
        "check_pairs": check_pairs,
        "gold": gold,
    }
    flags |= {"order": order, "count": count, "below": below, "keepable": keepable}
    _push("first", split, workspace, annotator, config, as_json, **flags)


@app.command("double-check")
def annotate_double_check(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    which: Annotated[str | None, typer.Option(help="hard_negative (default), all, or uncertain.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Second round: the kept (or the uncertain) pairs go to people other than those who labelled them first."""
    _push("double_check", split, workspace, annotator, config, as_json, double_check=which)


@app.command("adjudicate")
def annotate_adjudicate(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Last round: pairs on which people still disagree go to one more person."""
    _push("adjudication", split, workspace, annotator, config, as_json)


@app.command("audit")
def annotate_audit(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    pairs: Annotated[int | None, typer.Option(help="Kept hard negatives to draw at random; default: 550.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Draw kept hard negatives at random for somebody who has not seen them; run it again for the disputed ones.

    After `pull` and `resolve`, agreement.json, `status` and the card hold the upper bound of edited copies left.
    """
    _push("audit", split, workspace, annotator, config, as_json, audit_pairs=pairs)


@app.command("auto-clear")
def annotate_auto_clear(
    split: Split = "test",
    workspace: Workspace = HERE,
    above: Annotated[float | None, typer.Option(help="The probability that the slice was drawn above.")] = None,
    allowed: Annotated[float | None, typer.Option(help="Share of no copies among the cleared that is allowed.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Give the cleared pairs back to people.")] = False,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Discard pairs that the pre-label calls edited copies, above a confidence that a random slice of labels proves.

    Off unless run. First `push --check-pairs 194` (or more), let people label them, `pull`. It never accepts a hard
    negative, and `resolve` takes it back when later labels contradict.
    """
    run("auto-clear", workspace, config, as_json, split=split, above=above, allowed=allowed, undo=undo)


def _push(
    round_: str,
    split: str,
    workspace: Path,
    annotator: list[str] | None,
    config: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    names = tuple(annotator) if annotator else None
    run("push", workspace, config, as_json, split=split, round=round_, annotators=names, **flags)


@app.command("leave")
def annotate_leave(
    annotator: Annotated[str, typer.Argument(help="Who stops labelling.")],
    split: Split = "test",
    workspace: Workspace = HERE,
    to: Annotated[list[str] | None, typer.Option("--to", help="Who takes over; default: the others.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Somebody stops: their open pairs go to others, their labels stay."""
    run("leave", workspace, config, as_json, split=split, annotator=annotator, others=tuple(to) if to else None)


@app.command("send-back")
def annotate_send_back(
    annotator: Annotated[str, typer.Argument(help="Whose labels are set aside.")],
    why: Annotated[str, typer.Option(help="The reason; it is kept beside the labels.")],
    split: Split = "test",
    workspace: Workspace = HERE,
    since: Annotated[str | None, typer.Option(help="Only labels given then or later, like 2026-11-24T10:30.")] = None,
    round_: Annotated[str | None, typer.Option("--round", help="Only labels of this round.")] = None,
    by: Annotated[str | None, typer.Option(help="Who decided it; default: your user name.")] = None,
    to: Annotated[list[str] | None, typer.Option("--to", help="Who takes the pairs over; default: the others.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Set somebody's labels aside, all or since a time; their pairs go to others. Nothing is deleted."""
    flags = {"since": since, "round": round_, "by": by, "others": tuple(to) if to else None}
    run("send-back", workspace, config, as_json, split=split, annotator=annotator, why=why, **flags)


def _of_a_split(verb: str, what: str) -> None:
    """Register a verb whose only choice is the split."""

    @app.command(verb, help=what)
    def command(
        split: Split = "test", workspace: Workspace = HERE, config: Settings = None, as_json: Json = False
    ) -> None:
        run(verb, workspace, config, as_json, split=split)


_of_a_split("pull", "Fetch new labels into the append-only labels table.")
_of_a_split(
    "relearn",
    "Learn pre-labels from the labels pulled so far; second looks, queue and auto-clearing use them from then on.",
)
_of_a_split(
    "recheck",
    "Search each kept query against all references once more; near matches go back to annotation (then push again).",
)


@app.command("resolve")
def annotate_resolve(
    split: Split = "test",
    workspace: Workspace = HERE,
    posterior: Annotated[
        bool | None, typer.Option("--posterior", help="Also what each pair most probably is, by Dawid & Skene.")
    ] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Turn labels into one decision per pair, with agreement figures."""
    run("resolve", workspace, config, as_json, split=split, posterior=posterior)


@app.command("status")
def annotate_status(split: Split = "test", workspace: Workspace = HERE, as_json: Json = False) -> None:
    """Per annotator and round: done, left, speed, accuracy on gold, flags; the audit's bound; what was auto-cleared."""
    from ndec_builder.annotation import status
    from ndec_builder.annotation.label_studio.server_snapshot import trouble_lines
    from ndec_builder.annotation.settings import StatusConfig

    settings = StatusConfig(workspace, split)
    rows, found = status.status(settings), status.found_so_far(settings)
    if as_json:
        audit = found["audit"].as_json() if found["audit"] else None
        typer.echo(json.dumps({"annotators": rows, "audit": audit, "auto_clear": found["auto_clear"]}))
    else:
        typer.echo("\n".join([status.as_text(rows), status.finish(rows), *status.findings(found)]))
    for note in trouble_lines(workspace, split):
        typer.echo(note, err=True)
