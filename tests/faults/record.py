"""The table that a fault run writes to tests/faults/results: date, version, machine, command, rows, notes."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import ndec_builder
from benchmarks.machine import without_machine_paths

RESULTS = Path(__file__).parent / "results"


def stamp() -> str:
    """One line: date, version, machine and command."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS.parent, capture_output=True, text=True
    ).stdout.strip()
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return (
        f"{datetime.date.today()} · ndec {ndec_builder.__version__}, commit {commit or '?'} · {os.cpu_count()} cores "
        f"{platform.machine()}, Python {platform.python_version()} · `python tests/faults/{command}`"
    )


def write(
    name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str], *, keep: bool
) -> None:
    """Print the table; a full run (`keep`) also writes it to results/NAME.md."""
    lines = [
        f"# {title}",
        "",
        stamp(),
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows),
        "",
        *notes,
    ]
    text = without_machine_paths("\n".join(lines)).rstrip() + "\n"
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text, "utf-8")
    print(text)
