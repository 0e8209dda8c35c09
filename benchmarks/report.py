"""What the benchmarks of the annotation share: one markdown table with date, machine, commit and command."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def write_report(name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], quick: bool) -> None:
    """Print the table; a full run also writes it to benchmarks/results/NAME.md."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = [
        f"# {title}",
        "",
        f"{datetime.date.today()} · {os.cpu_count()} cores, {platform.machine()}, amx_bf16 {'amx_bf16' in flags} · "
        f"commit {commit} · `python {' '.join(sys.argv)}`",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    text = "\n".join(lines) + "\n"
    if not quick:
        target = Path(__file__).parent / "results" / f"{name}.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, "utf-8")
    print(text)
