"""Prints one markdown table under a title and the line about the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from machine import RESULTS, machine, write_result


def write_report(
    name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], quick: bool, folder: Path = RESULTS
) -> None:
    """Print the table; a full run also writes it to NAME.md in `folder`."""
    lines = [
        f"# {title}",
        "",
        machine(),
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    if quick:
        print("\n".join(lines))
    else:
        write_result(name, "\n".join(lines), folder)
