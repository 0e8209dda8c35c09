"""Time, CPU time and memory of each step of `ndec demo`, with all its processes.

    python benchmarks/demo_steps.py OUT [--size small] [--port 8700]

OUT is the demo's workspace; an existing one is continued, so start with a new folder. Memory is the proportional set
size (PSS): pages that processes share are counted once. Samples are a second apart, so short peaks can be missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from report import write_report

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
STEP, PAUSE = "── ", 1.0  # what starts the title of a step; seconds
NAMES = {"spawn_main": "worker", "label-studio": "Label Studio", "ndec_builder": "ndec"}


@dataclass
class Step:
    """One step. memory: PSS in MiB of each kind of process, when all together held most."""

    title: str
    begun: float
    cpu: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        return sum(self.memory.values())


def children() -> dict[int, tuple[int, float]]:
    """Each process of the machine: its parent, and its CPU seconds with those of its ended children."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:15])) / TICKS
    return found


def tree(root: int, parents: dict[int, tuple[int, float]]) -> Iterator[int]:
    """The process and all that it started."""
    yield root
    for child in [pid for pid, (parent, _) in parents.items() if parent == root]:
        yield from tree(child, parents)


def pss(pid: int) -> tuple[str, float]:
    """Kind and PSS in MiB of a process; 0 MiB if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return "", 0.0
    kind = next((name for part, name in NAMES.items() if part in command), Path(command.split("\0")[0]).name)
    return kind, next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) / 1024


def follow(process: subprocess.Popen[str], steps: list[Step]) -> None:
    """Add CPU time and memory to the last step until the process ends."""
    before: dict[int, float] = {}
    while process.poll() is None:
        parents = children()
        memory: dict[str, float] = {}
        step = steps[-1]
        for pid in tree(process.pid, parents):
            kind, size = pss(pid)
            memory[kind] = memory.get(kind, 0.0) + size
        # what an ended process took moves to the counter of its parent
        now = {pid: parents[pid][1] for pid in tree(process.pid, parents) if pid in parents}
        step.cpu += max(0.0, sum(now.values()) - sum(before.values()))
        before = now
        if sum(memory.values()) > step.peak:
            step.memory = memory
        time.sleep(PAUSE)


def run(out: Path, size: str, port: int) -> list[Step]:
    """Run the demo; its steps in order. Raises SystemExit when it fails."""
    command = [sys.executable, "-m", "ndec_builder", "demo", "--out", str(out), "--size", size, "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    steps = [Step("start", time.monotonic())]
    watcher = threading.Thread(target=follow, args=(process, steps))
    watcher.start()
    assert process.stderr is not None
    for line in process.stderr:
        sys.stderr.write(line)
        if line.startswith(STEP):
            steps.append(Step(line.removeprefix(STEP).strip(), time.monotonic()))
    watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="full", choices=("full", "small"))
    parser.add_argument("--port", type=int, default=8700)
    given = parser.parse_args()
    steps = run(given.out.absolute(), given.size, given.port)
    ends = [*(step.begun for step in steps[1:]), time.monotonic()]
    rows = [
        [
            step.title,
            f"{end - step.begun:.0f}",
            f"{step.cpu:.0f}",
            f"{step.peak:,.0f}",
            ", ".join(f"{kind} {size:,.0f}" for kind, size in sorted(step.memory.items(), key=lambda item: -item[1])),
        ]
        for step, end in zip(steps, ends, strict=True)
    ]
    most = max(steps, key=lambda step: step.peak)
    total = [f"{ends[-1] - steps[0].begun:.0f}", f"{sum(step.cpu for step in steps):.0f}", f"{most.peak:,.0f}"]
    rows.append(["all steps", *total, f"most in: {most.title.partition(':')[0]}"])
    head = ["step", "wall s", "CPU s", "peak PSS, MiB", "of it, MiB"]
    write_report("demo_steps", "Steps of the demo", head, rows, quick=given.size == "small")


if __name__ == "__main__":
    main()
