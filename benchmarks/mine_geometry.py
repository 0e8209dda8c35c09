"""Cost of the geometry of a mined pair: CPU milliseconds, today's build and this one, in one run, interleaved.

    python benchmarks/mine_geometry.py WORKSPACE [--today CHECKOUT] [--pairs 100] [--rounds 3]

WORKSPACE holds a demo with mined pairs. Each contestant is a process of its own that measures the first pairs of the
split test as `ndec mine` does, in one process with one thread: pictures are read, decoded and described, pairs are
fitted. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine, write_result

HERE = Path(__file__).resolve().parents[1]


def measure(root: str, count: int) -> None:
    """Print one measurement as JSON for each line on stdin."""
    import resource

    from ndec_builder.core.storage import read_table
    from ndec_builder.core.workspace import Workspace

    try:
        from ndec_builder.candidates.geometry import table as module
        from ndec_builder.core.executor.base import Engine

        engine = Engine(here=True)
    except ImportError:  # a checkout from before they had these names
        from ndec_builder.candidates import geometry_table as module
        from ndec_builder.core.engines import Engine

        module.Engine = lambda workers: Engine(here=True)
        engine = 1

    workspace = Workspace(Path(root))
    pairs = read_table(workspace.candidates("test") / "candidates.parquet").slice(0, count)
    for _ in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_SELF)
            found = module.measure(workspace, "test", pairs, Path(folder) / "geometry", engine)
            after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        fitted = found.num_rows - found["homography"].null_count
        print(
            json.dumps({"ms": 1000 * seconds / found.num_rows, "pairs": found.num_rows, "fitted": fitted}), flush=True
        )


def contestant(checkout: Path, arguments: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": f"{checkout}{os.pathsep}{HERE / 'benchmarks'}"}
    environment |= {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--contestant", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin and process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("{"):
            result: dict[str, float] = json.loads(line)
            return result
    raise SystemExit(f"a contestant ended: {process.args}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--today", type=Path, help="checkout of the build to compare with")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    checkouts = {"today": given.today.absolute()} if given.today else {}
    checkouts["new"] = HERE
    arguments = [str(given.workspace.absolute()), str(given.pairs)]
    processes = {name: contestant(checkout, arguments) for name, checkout in checkouts.items()}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
    for _ in range(given.rounds):
        for name, process in processes.items():
            runs[name].append(answer(process))
    for process in processes.values():
        assert process.stdin
        process.stdin.close()
        process.wait()
    ms = {name: statistics.median(run["ms"] for run in found) for name, found in runs.items()}
    lines = ["# Geometry of a mined pair", "", machine(), "", "| build | pairs | fitted | CPU ms a pair | today / it |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, found in runs.items():
        ratio = f"{ms['today'] / ms[name]:.2f} ×" if "today" in ms else "–"
        lines.append(f"| {name} | {found[0]['pairs']:.0f} | {found[0]['fitted']:.0f} | {ms[name]:.1f} | {ratio} |")
    write_result("mine_geometry", "\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        main()
