"""The systemd units of `examples/systemd`, as far as they can be checked without a running systemd."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from ndec_builder.cli import app

UNITS = Path(__file__).parents[2] / "examples" / "systemd"


def commands() -> list[list[str]]:
    """The words of every ExecStart, the program first."""
    lines = [line for path in sorted(UNITS.glob("*.service")) for line in path.read_text().splitlines()]
    return [shlex.split(line.removeprefix("ExecStart=")) for line in lines if line.startswith("ExecStart=")]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS.iterdir():  # the programs are not installed there on this machine
        text = unit.read_text()
        for program, *_ in commands():
            text = text.replace(f"ExecStart={program} ", "ExecStart=/bin/true ")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, tmp_path.iterdir()))], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "ndec-" in line and "postgresql" not in line]
    assert ours == []


@pytest.mark.parametrize("words", [words for words in commands() if words[0].endswith("/ndec")], ids=" ".join)
def test_the_commands_in_the_units_exist_with_their_options(words: list[str]) -> None:
    command: Any = typer.main.get_group(app)
    rest = words[1:]
    while rest and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_a_unit_may_write_where_it_writes() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(UNITS / "ndec-annotate.service")
    assert unit["Service"]["ReadWritePaths"] == unit["Service"]["WorkingDirectory"]
    assert commands()[0][-1] == unit["Service"]["WorkingDirectory"]
