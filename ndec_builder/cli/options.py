"""What the verbs share: their common options, and how one is run and its result printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ndec_builder.api import configure
from ndec_builder.cli.assist.next_steps import next_command
from ndec_builder.commands import COMMANDS

Workspace = Annotated[Path, typer.Option("--workspace", "-w", help="Directory of this benchmark.")]
Settings = Annotated[Path | None, typer.Option("--config", help="Settings file; default: WORKSPACE/ndec.toml.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; all else on stderr.")]


def among(*choices: str) -> Callable[[str], list[str]]:
    """For shell completion: the choices that begin as typed."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


Split = Annotated[
    str, typer.Option(help="test: pool × reference. train: pool × basic.", autocompletion=among("test", "train"))
]
Seed = Annotated[int | None, typer.Option(help="Seed; the same seed gives the same bytes.")]
Model = Annotated[
    str | None,
    typer.Option(help="efficientnet-lite0 (default), KIND:FILE, timm:NAME[@FILE] …: `ndec embed --list-models`."),
]
HERE = Path()


def run(verb: str, workspace: Path | None, settings: Path | None, as_json: bool, **flags: Any) -> None:
    """Run a verb and print the path of its result (or one JSON object).

    A person at a terminal is also told what it is about to do, and what comes next; a pipe is not.
    """
    config = configured(verb, workspace, settings, **flags)
    say_to_person(lambda: _forecast(verb, config))
    result = COMMANDS[verb].run(config)
    print_result(result, as_json)
    say_to_person(lambda: (command := next_command(verb, config, result)) and f"next: {command}")


def _forecast(verb: str, config: Any) -> str | None:
    from ndec_builder.cli.assist.forecast import (
        forecast,  # it reads tables: too heavy for the start of the command line
    )

    return forecast(verb, config)


def say_to_person(text: Callable[[], str | None]) -> None:
    """One line on stderr, when that is a terminal and there is something to say."""
    if sys.stderr.isatty() and (line := text()):
        typer.echo(line, err=True)


def build_and_run(verb: str, workspace: Path | None, settings: Path | None, **flags: Any) -> Any:
    return COMMANDS[verb].run(configured(verb, workspace, settings, **flags))


def configured(verb: str, workspace: Path | None, settings: Path | None, **flags: Any) -> Any:
    """The config of a verb: defaults, then the settings file, then the flags."""
    return configure(COMMANDS[verb].config_class(), workspace, file=settings, **flags)


def print_result(path: Path, as_json: bool) -> None:
    if not as_json:
        typer.echo(str(path))
        return
    typer.echo(json.dumps({"result": str(path), "counts": _counts(path)}))


def _counts(path: Path) -> dict[str, Any]:
    """What the run record beside a result counted; a folder of images tables has one record for each role."""
    whole = (path if path.is_dir() else path.parent) / "run.json"
    own = path.with_name(f"{path.stem}.run.json")
    for record in (whole, own):
        if record.is_file():
            counts: dict[str, Any] = json.loads(record.read_text("utf-8")).get("counts", {})
            return counts
    roles = sorted(path.glob("*.run.json")) if path.is_dir() else []
    return {record.name.split(".")[0]: json.loads(record.read_text("utf-8")).get("counts", {}) for record in roles}


def print_models(as_json: bool) -> None:
    """The kinds of models: how each is written, what it needs, its licence, commercial use of its weights."""
    from ndec_builder.embeddings.model_kinds import rows

    if as_json:
        typer.echo(json.dumps({"models": rows()}, ensure_ascii=False))
        return
    for row in rows():
        typer.echo(row["form"])
        for name in ("needs", "input", "license", "commercial"):
            typer.echo(f"    {name + ':':<12}{row[name]}")
