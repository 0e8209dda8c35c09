"""The line about the machine on top of each result, and where results are written."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def machine() -> str:
    """One line: date, cores, CPU, flags that matter, commit, command."""
    text = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").is_file() else ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    flags = [flag for flag in FLAGS if flag in text] or ["none of " + ", ".join(FLAGS)]
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC · {os.cpu_count()} cores, {model}, "
        f"{' '.join(flags)} · commit {git.stdout.strip() or '?'} · `python {without_machine_paths(' '.join(sys.argv))}`"
    )


def without_machine_paths(text: str) -> str:
    """The text with `OUT` in place of folders of this machine: temporary folders, the home and the checkout."""
    own = {tempfile.gettempdir(), str(Path.home()), str(Path(__file__).resolve().parents[2])} - {"/"}
    roots = "|".join(re.escape(root) for root in sorted(own, key=len, reverse=True))
    return re.sub(rf"(?<![\w.])(?:{roots})/[^/\s`|]+", "OUT", text)


RESULTS = Path(__file__).parent / "results"


def write_result(name: str, text: str, folder: Path = RESULTS) -> None:
    path = folder / f"{name}.md"
    path.parent.mkdir(exist_ok=True)
    text = without_machine_paths(text)
    path.write_text(text + "\n", "utf-8")
    print(text)
