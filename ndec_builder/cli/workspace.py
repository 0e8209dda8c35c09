"""Verbs around a whole workspace: demo, init, doctor, status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ndec_builder.cli.options import HERE, Json, Workspace, print_result, say_to_person

app = typer.Typer()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Workspace of the demo; run again to go on where it stopped.")] = Path(
        "ndec-demo"
    ),
    size: Annotated[str, typer.Option(help="full (about eight minutes) or small (for CI).")] = "full",
    images: Annotated[Path | None, typer.Option(help="Your own photos in place of the mini corpus.")] = None,
    annotate_yourself: Annotated[
        bool,
        typer.Option("--annotate-yourself", help="Open the labelling page instead of letting the known truth answer."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same demo.")] = 0,
    port: Annotated[int, typer.Option(help="Port of Label Studio; the image server takes the next one.")] = 8700,
    as_json: Json = False,
) -> None:
    """The whole way on real pictures: corpus, mine, Label Studio, export, train-asl, benchmark."""
    from ndec_builder.demo.run import DemoConfig, run

    table = run(DemoConfig(out, size, images, annotate_yourself, seed, port))
    typer.echo(json.dumps(table.as_dict()) if as_json else table.as_text())


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Workspace to make.")],
    as_json: Json = False,
) -> None:
    """Make a workspace with an `ndec.toml` that shows every setting."""
    from ndec_builder.cli.assist.init import run

    print_result(run(directory), as_json)
    say_to_person(lambda: f"next: cd {directory} && ndec ingest reference FOLDER")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look at this machine: torch, FAISS flavour, GPU, bf16, Label Studio, chromium, disk; say what to mend."""
    from ndec_builder.cli.assist.doctor import examine, report

    findings = examine()
    typer.echo(json.dumps([vars(finding) for finding in findings]) if as_json else report(findings))
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


@app.command()
def status(workspace: Workspace = HERE, as_json: Json = False) -> None:
    """What is done in this workspace, how far a run is that is going now, and the natural next command."""
    from ndec_builder.cli.assist.status import as_dict, report, survey

    stages = survey(workspace)
    typer.echo(json.dumps(as_dict(stages, workspace)) if as_json else report(stages, workspace))
