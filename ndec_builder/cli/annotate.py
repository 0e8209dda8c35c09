"""`ndec annotate …`: the mined pairs before people's eyes, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ndec_builder.cli.options import HERE, Json, Settings, Split, Workspace, build_and_run, run

app = typer.Typer(help="Label the mined pairs in Label Studio: serve, push, pull, resolve.", no_args_is_help=True)


@app.command("install")
def annotate_install() -> None:
    """Install the Label Studio server into an environment of its own."""
    from ndec_builder.annotation.environment import install

    typer.echo(str(install()))


@app.command("serve")
def annotate_serve(
    workspace: Workspace = HERE,
    port: Annotated[int | None, typer.Option(help="Port of Label Studio on 127.0.0.1.")] = None,
    image_port: Annotated[int | None, typer.Option(help="Port of the image server on 127.0.0.1.")] = None,
    config: Settings = None,
) -> None:
    """Run Label Studio and the image server on this machine until Ctrl-C."""
    build_and_run("serve", workspace, config, port=port, image_port=image_port)


Annotators = Annotated[list[str] | None, typer.Option("--annotator", help="Who labels; give it several times.")]


@app.command("push")
def annotate_push(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    overlap: Annotated[float | None, typer.Option(help="Share of pairs seen by two people.")] = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """First round: make one project per annotator and import the pairs that are not there yet."""
    _push("first", split, workspace, annotator, config, as_json, overlap=overlap)


@app.command("double-check")
def annotate_double_check(
    split: Split = "test",
    workspace: Workspace = HERE,
    annotator: Annotators = None,
    config: Settings = None,
    as_json: Json = False,
) -> None:
    """Second round: the kept pairs go to people other than those who labelled them first."""
    _push("double_check", split, workspace, annotator, config, as_json)


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


@app.command("pull")
def annotate_pull(
    split: Split = "test", workspace: Workspace = HERE, config: Settings = None, as_json: Json = False
) -> None:
    """Fetch new labels into the append-only labels table."""
    run("pull", workspace, config, as_json, split=split)


@app.command("resolve")
def annotate_resolve(
    split: Split = "test", workspace: Workspace = HERE, config: Settings = None, as_json: Json = False
) -> None:
    """Turn labels into one decision per pair, with agreement figures."""
    run("resolve", workspace, config, as_json, split=split)


@app.command("recheck")
def annotate_recheck(
    split: Split = "test", workspace: Workspace = HERE, config: Settings = None, as_json: Json = False
) -> None:
    """Search each kept query against all references once more; near matches go back to annotation (then push again)."""
    run("recheck", workspace, config, as_json, split=split)


@app.command("status")
def annotate_status(split: Split = "test", workspace: Workspace = HERE, as_json: Json = False) -> None:
    """Per annotator and round: done, left, pairs an hour."""
    from ndec_builder.annotation import status
    from ndec_builder.annotation.settings import StatusConfig

    rows = status.status(StatusConfig(workspace, split))
    typer.echo(json.dumps(rows) if as_json else status.as_text(rows))
