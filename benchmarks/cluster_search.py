"""The search stage of `ndec mine` on two Ray nodes against one process with the same cores, and the memory of a worker.

    python benchmarks/cluster_search.py [--rounds 2] [--quick]

500,000 pool × 50,000 references × 512 dimensions, synthetic (`vectors.py`). Local: in one piece, with two threads, as
without a cluster. Ray: two real nodes on loopback with one CPU each, ranges as `ndec mine` makes them. The runs are
interleaved. CPU time on Ray is that of the command, of the workers, and of Ray's own processes; wall time starts with
the nodes running, and has the start of the workers in it. The pairs of all runs must be identical.

Then the same search on Ray with a quarter and half of the pool: the highest memory of a worker process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from machine import machine, write_result  # noqa: E402
from vectors import DIM, read_vectors, write_vectors  # noqa: E402

from support.two_nodes import on_loopback, two_nodes  # noqa: E402

POOL, REFERENCES, TOP = 500_000, 50_000, 50_000
CORES = 2


def local(folder: Path, pool: int) -> Any:
    import faiss
    import torch

    from ndec_builder.candidates.search.exact import top_pairs

    faiss.omp_set_num_threads(CORES)
    torch.set_num_threads(CORES)
    queries, references = read_vectors(folder, "pool", pool), read_vectors(folder, "reference").load()
    return top_pairs(range(pool), queries, range(len(references)), references, top=TOP, max_per_query=1,
                     max_per_reference=10)  # fmt: skip


def on_ray(folder: Path, pool: int, address: str) -> Any:
    from ndec_builder.candidates.search.ranges import RangedSearch
    from ndec_builder.candidates.search.selection import Caps
    from ndec_builder.candidates.search.shared_vectors import SharedSearch, share_vectors
    from ndec_builder.core.executor.base import Engine

    with tempfile.TemporaryDirectory(dir=folder) as name, on_loopback():
        scratch = Path(name)
        shared = SharedSearch(
            share_vectors(read_vectors(folder, "pool", pool), scratch, "pool"),
            share_vectors(read_vectors(folder, "reference"), scratch, "reference"),
        )
        engine = Engine("ray", threads=0, address=address)
        return RangedSearch(shared, Caps(TOP, 1, 10), engine, scratch, "f").run()


def child(folder: Path, pool: int, address: str) -> None:
    """One search; prints its figures as JSON."""
    start, clock = time.monotonic(), time.process_time()
    pairs = on_ray(folder, pool, address) if address else local(folder, pool)
    arrays = pairs.queries, pairs.references, pairs.scores
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": time.monotonic() - start, "cpu": time.process_time() - clock, "peak": peak,
                      "sha256": digest}))  # fmt: skip


def processes() -> dict[int, tuple[bool, float, float]]:
    """Of all processes of this cluster: whether it runs tasks, CPU seconds, highest resident memory in MiB."""
    mine, ticks, found = f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}".encode(), os.sysconf("SC_CLK_TCK"), {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mine not in (path / "environ").read_bytes():
                continue
            fields = (path / "stat").read_text("utf-8").rpartition(")")[2].split()
            status = dict(line.split(":", 1) for line in (path / "status").read_text("utf-8").splitlines())
            is_worker = (path / "cmdline").read_bytes().startswith(b"ray::")
            peak = float(status["VmHWM"].split()[0]) / 1024
        except (OSError, KeyError, ValueError):
            continue
        found[int(path.name)] = is_worker, (int(fields[11]) + int(fields[12])) / ticks, peak
    return found


def measure(folder: Path, pool: int, address: str = "") -> dict[str, float]:
    """Run one search in a process. On Ray, watch the cluster's processes until shortly before they end."""
    before = processes() if address else {}
    command = [sys.executable, __file__, "--child", str(folder), str(pool), address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    last: dict[int, tuple[bool, float, float]] = {}
    while process.poll() is None:
        if address:
            last |= processes()
        time.sleep(0.25)
    assert process.stdout is not None
    found: dict[str, float] = json.loads(process.stdout.read().splitlines()[-1])
    last.pop(process.pid, None)
    used = {pid: cpu - before.get(pid, (False, 0.0, 0.0))[1] for pid, (_, cpu, _) in last.items()}
    workers = {pid for pid, (is_worker, cpu, _) in last.items() if is_worker and pid not in before}
    found["workers"] = sum(used[pid] for pid in workers)
    found["ray"] = sum(seconds for pid, seconds in used.items() if pid not in workers)
    found["worker_peak"] = max((last[pid][2] for pid in workers), default=0.0)
    print(f"{pool} {'ray' if address else 'local'} {found}", file=sys.stderr, flush=True)
    return found


def report(rounds: list[tuple[dict[str, float], dict[str, float]]], memory: dict[int, float], references: int) -> str:
    pool = max(memory)
    total = [(one["cpu"], two["cpu"] + two["workers"] + two["ray"]) for one, two in rounds]
    lines = [
        "# Search on two Ray nodes", "", machine(), "",
        f"{pool:,} pool images × {references:,} references × {DIM} dimensions, synthetic; {CORES} cores on both sides; "
        "identical pairs in all runs: asserted. Other processes ran on the machine: compare CPU seconds, and runs of "
        "the same round.", "",
        "| round | local: wall | CPU | Ray: wall | CPU of the command | of the workers | of Ray itself | "
        "Ray / local: wall | CPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for number, ((one, two), (mine, theirs)) in enumerate(zip(rounds, total, strict=True), 1):
        cells = [number, *(f"{value:.0f}" for value in (one["wall"], mine, two["wall"], two["cpu"], two["workers"],
                 two["ray"])), f"{two['wall'] / one['wall']:.2f}", f"{theirs / mine:.2f}"]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    wall = statistics.median(two["wall"] / one["wall"] for one, two in rounds)
    cpu = statistics.median(theirs / mine for mine, theirs in total)
    lines += [
        "", f"Medians: wall {wall:.2f}, CPU {cpu:.2f} of local.", "",
        "| pool | highest memory of a worker, MiB |", "|---|---|",
        *(f"| {size:,} | {peak:.0f} |" for size, peak in sorted(memory.items())),
        "", "The pool is read block by block through memory maps; pages of it count as memory of the process while the "
        "system keeps them.",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tenth of both sides, nothing written")
    given = parser.parse_args()
    pool, references = (POOL // 10, REFERENCES // 10) if given.quick else (POOL, REFERENCES)
    with tempfile.TemporaryDirectory(prefix="cluster-search-") as name:
        folder = Path(name)
        write_vectors(folder, pool, references)
        rounds, memory = [], dict[int, float]()
        with two_nodes() as nodes:
            for number in range(given.rounds):
                rounds.append((measure(folder, pool), measure(folder, pool, nodes.address)))
                memory[pool] = max(memory.get(pool, 0.0), rounds[-1][1]["worker_peak"])
                for part in (4, 2) if number == 0 else ():
                    memory[pool // part] = measure(folder, pool // part, nodes.address)["worker_peak"]
                assert len({run["sha256"] for both in rounds for run in both}) == 1
                text = report(rounds, memory, references)
                if given.quick:
                    print(text)
                else:  # after each round: a run that is stopped leaves those that it finished
                    write_result("cluster_search", text)


if __name__ == "__main__":
    main()
