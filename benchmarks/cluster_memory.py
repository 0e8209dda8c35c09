"""Memory of a worker that searches on Ray, for pools of several sizes: its own memory apart from mapped files.

    python benchmarks/cluster_memory.py [--references N] [--quick]

50,000 references × 512 dimensions, pools of 125,000 to 1,000,000, synthetic (`vectors.py`). Two real nodes on loopback
with one CPU each, ranges as `ndec mine` makes them, new worker processes for each pool. Every 50 ms the script reads
`/proc/PID/status`, and every second `/proc/PID/smaps_rollup`, of all workers. Anonymous memory is what a process has
allocated. Pages of mapped files are a cache: they count as resident, and the system drops clean ones when it needs
memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from machine import machine, write_result  # noqa: E402
from vectors import DIM, write_vectors  # noqa: E402

from ndec_builder.candidates.search.ranges import range_size_for  # noqa: E402
from support.two_nodes import two_nodes  # noqa: E402

POOL, REFERENCES = 1_000_000, 50_000
PARTS = (8, 4, 2, 1)
STATUS = ("VmHWM", "RssAnon", "RssFile", "RssShmem")
MAPPED = ("Private_Dirty", "Private_Clean", "Shared_Clean", "Shared_Dirty")


def workers() -> list[Path]:
    """The /proc folders of the processes of this cluster that run tasks."""
    mine, found = f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cmdline").read_bytes().startswith(b"ray::") and mine in (path / "environ").read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


def fields(path: Path, names: tuple[str, ...]) -> dict[str, float]:
    """Values in MiB of a file of /proc with lines like `RssAnon:  1234 kB`."""
    lines = (line.split() for line in path.read_text("utf-8").splitlines())
    return {line[0][:-1]: int(line[1]) / 1024 for line in lines if line[0][:-1] in names}


def measure(folder: Path, pool: int, address: str) -> dict[str, float]:
    """Search once; the highest value of each field in any worker, and the wall time."""
    command = [sys.executable, str(Path(__file__).with_name("cluster_search.py")), "--child", str(folder), str(pool)]
    began, peaks, looks = time.monotonic(), defaultdict[str, float](float), 0
    process = subprocess.Popen([*command, address], stdout=subprocess.PIPE, text=True)
    known: list[Path] = []
    while process.poll() is None:
        if looks % 20 == 0:
            known = workers()
        for path in known:
            try:
                found = fields(path / "status", STATUS)
                if looks % 20 == 0:
                    found |= fields(path / "smaps_rollup", MAPPED)
            except OSError:  # it has exited
                continue
            for name, value in found.items():
                peaks[name] = max(peaks[name], value)
        looks += 1
        time.sleep(0.05)
    assert process.stdout is not None
    json.loads(process.stdout.read().splitlines()[-1])  # fails if the search did
    print(f"{pool} {dict(peaks)}", file=sys.stderr, flush=True)
    return dict(peaks) | {"wall": time.monotonic() - began}


def report(found: dict[int, dict[str, float]], references: int) -> str:
    sizes = sorted(found)
    lines = [
        "# Memory of a worker that searches", "", machine(), "",
        f"{references:,} references × {DIM} dimensions, synthetic; two Ray nodes with one CPU each. The highest value "
        "of any worker, MiB.", "",
        "| pool | images in a range | anonymous (RssAnon) | mapped files (RssFile) | shared memory of Ray (RssShmem) | "
        "private dirty | private clean | shared clean | resident in all (VmHWM) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for size in sizes:
        names = ("RssAnon", "RssFile", "RssShmem", "Private_Dirty", "Private_Clean", "Shared_Clean", "VmHWM")
        cells = [f"{size:,}", f"{min(size, range_size_for(size, references, DIM)):,}"]
        lines.append(f"| {' | '.join([*cells, *(f'{found[size].get(name, 0.0):.0f}' for name in names)])} |")
    lines += ["", "Growth per million pool images, by least squares:", ""]
    for name, text in (("RssAnon", "anonymous"), ("RssFile", "mapped files"), ("VmHWM", "resident in all")):
        slope = np.polyfit(np.array(sizes) / 1e6, [found[size][name] for size in sizes], 1)[0]
        lines.append(f"* {text}: {slope:+.0f} MiB")
    vectors = sizes[-1] * DIM * 2 / 2**20
    lines += ["", f"The vectors of the largest pool have {vectors:,.0f} MiB, those of the references "
              f"{references * DIM * 2 / 2**20:,.0f} MiB."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of both sides, nothing written")
    parser.add_argument("--references", type=int, default=REFERENCES)
    given = parser.parse_args()
    pool, references = (POOL // 20, given.references // 20) if given.quick else (POOL, given.references)
    with tempfile.TemporaryDirectory(prefix="cluster-memory-") as name:
        write_vectors(Path(name), pool, references)
        with two_nodes() as nodes:
            found: dict[int, dict[str, float]] = {}
            for size in (pool // part for part in PARTS):
                found[size] = measure(Path(name), size, nodes.address)
                if len(found) > 1:  # after each pool: a run that is stopped leaves those that it finished
                    text = report(found, references)
                    print(text) if given.quick else write_result("cluster_memory", text)


if __name__ == "__main__":
    main()
