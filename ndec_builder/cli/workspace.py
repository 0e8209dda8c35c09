"""Verbs for a complete workspace: demo, init, doctor, status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ndec_builder.cli.options import Json, print_result, say_to_person
from ndec_builder.cli.verbs import VerbCall, verb
from ndec_builder.demo.settings import DemoConfig

app = typer.Typer()


@verb(app, "demo", "out size images group_by annotate_yourself seed port", configs=DemoConfig, common=("json",))
def demo(call: VerbCall) -> None:
    """Every stage on real pictures: corpus, mine, Label Studio, export, train-asl, benchmark."""
    from ndec_builder.demo.run import run

    table = run(DemoConfig(**{name: value for name, value in call.flags.items() if value is not None}))
    typer.echo(json.dumps(table.as_dict()) if call.as_json else table.as_text())


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Workspace to make.")],
    as_json: Json = False,
) -> None:
    """Make a workspace with an `ndec.toml` that shows every setting."""
    from ndec_builder.cli.assist.init import run

    print_result(run(directory), as_json)
    say_to_person(lambda: f"next: cd {directory} && ndec ingest basic FOLDER")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: torch, FAISS flavour, GPU, bf16, Label Studio, chromium, disk; say how to fix it."""
    from ndec_builder.cli.assist.doctor import check_machine, doctor_text

    findings = check_machine()
    typer.echo(json.dumps([vars(finding) for finding in findings]) if as_json else doctor_text(findings))
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


@verb(app, "status", common=("workspace", "json"))
def status(call: VerbCall) -> None:
    """What is done in this workspace, the progress of a run in progress, and the next command."""
    from ndec_builder.cli.assist.status import status_as_dict, status_report, survey

    stages = survey(call.workspace)
    text = status_report(stages, call.workspace)
    typer.echo(json.dumps(status_as_dict(stages, call.workspace)) if call.as_json else text)
