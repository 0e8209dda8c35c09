"""Shared by all verbs: the common options, running a verb and printing its result."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ndec_builder.api import configure
from ndec_builder.cli.assist.next_steps import next_command
from ndec_builder.commands import COMMANDS

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and everything else on stderr.")]
_COMMON: dict[str, tuple[str, Any, Any]] = {
    "workspace": (
        "workspace",
        Annotated[Path, typer.Option("--workspace", "-w", help="Directory of this benchmark.")],
        Path(),
    ),
    "config": (
        "config",
        Annotated[Path | None, typer.Option("--config", help="Settings file; default: ndec.toml in the workspace.")],
        None,
    ),
    "json": ("as_json", Json, False),
}
# The options that verbs share, by their name on the command line.
COMMON = {
    option: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    for option, (name, annotation, default) in _COMMON.items()
}


def among(*choices: str) -> Callable[[str], list[str]]:
    """Shell completion from a list of choices."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def print_outcome(verb: str, config: Any, as_json: bool) -> None:
    """Run a verb and print the path of its result (or one JSON object).

    At a terminal it also prints what the verb is about to do, and the next command.
    """
    say_to_person(lambda: _forecast(verb, config))
    result = COMMANDS[verb].run(config)
    print_result(result, as_json)
    say_to_person(lambda: (command := next_command(verb, config, result)) and f"next: {command}")


def _forecast(verb: str, config: Any) -> str | None:
    from ndec_builder.cli.assist.forecast import forecast  # imports pyarrow: too slow for the start

    return forecast(verb, config)


def say_to_person(text: Callable[[], str | None]) -> None:
    """Print one line on stderr, if that is a terminal."""
    if sys.stderr.isatty() and (line := text()):
        typer.echo(line, err=True)


def configured(verb: str, workspace: Path, settings: Path | None, **flags: Any) -> Any:
    """The config of a verb: defaults, then the settings file, then the flags."""
    return configure(COMMANDS[verb].config_class(), workspace, file=settings, **flags)


def print_result(path: Path, as_json: bool) -> None:
    if not as_json:
        typer.echo(str(path))
        return
    typer.echo(json.dumps({"result": str(path), "counts": _counts(path)}))


def _counts(path: Path) -> dict[str, Any]:
    """The counts in the run record next to a result; a folder of images tables has one record per role."""
    folder = (path if path.is_dir() else path.parent) / "run.json"
    own = path.with_name(f"{path.stem}.run.json")
    for record in (folder, own):
        if record.is_file():
            counts: dict[str, Any] = json.loads(record.read_text("utf-8")).get("counts", {})
            return counts
    roles = sorted(path.glob("*.run.json")) if path.is_dir() else []
    return {record.name.split(".")[0]: json.loads(record.read_text("utf-8")).get("counts", {}) for record in roles}


def print_models(as_json: bool) -> None:
    """The kinds of models: how each is written, what it needs, its licence, commercial use of its weights."""
    from ndec_builder.embeddings.model_kinds import model_kind_rows

    if as_json:
        typer.echo(json.dumps({"models": model_kind_rows()}, ensure_ascii=False))
        return
    for row in model_kind_rows():
        typer.echo(row["form"])
        for name in ("needs", "input", "license", "commercial"):
            typer.echo(f"    {name + ':':<12}{row[name]}")
