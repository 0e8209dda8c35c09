"""The search stage of `ndec mine` on two Ray nodes against this machine alone with the same cores.

    python benchmarks/cluster_search.py [--rounds 3] [--pool 500000] [--quick]

500,000 pool × 50,000 references × 512 dimensions, synthetic (`vectors.py`). Three ways, interleaved: in one piece with
two threads, as without a cluster; the ranges of a cluster in two worker processes of one thread each; two real nodes of
Ray on loopback with one CPU each, so one thread per worker too. CPU time has all processes in it: the command, workers,
and Ray's own. Wall time starts with the nodes running, and has the start of the workers in it. The pairs of all runs
must be identical. `cluster_memory.py` measures the memory of a worker.
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


def in_ranges(folder: Path, pool: int, address: str) -> Any:
    """On Ray, or in two worker processes here without an address."""
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
        engine = Engine("ray", threads=0, address=address) if address else Engine("local", CORES)
        return RangedSearch(shared, Caps(TOP, 1, 10), engine, scratch, "f").run()


def child(folder: Path, pool: int, where: str) -> None:
    """One search; prints its figures as JSON. where: threads, processes, or the address of a cluster."""
    start = time.monotonic()
    if where == "threads":
        pairs = local(folder, pool)
    else:
        pairs = in_ranges(folder, pool, "" if where == "processes" else where)
    arrays = pairs.queries, pairs.references, pairs.scores
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"wall": time.monotonic() - start, "cpu": seconds, "sha256": digest}))


def processes() -> dict[int, tuple[bool, float]]:
    """Of all processes of this cluster: whether it runs tasks, and CPU seconds."""
    mine, ticks, found = f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}".encode(), os.sysconf("SC_CLK_TCK"), {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mine not in (path / "environ").read_bytes():
                continue
            fields = (path / "stat").read_text("utf-8").rpartition(")")[2].split()
            is_worker = (path / "cmdline").read_bytes().startswith(b"ray::")
        except OSError:
            continue
        found[int(path.name)] = is_worker, (int(fields[11]) + int(fields[12])) / ticks
    return found


def measure(folder: Path, pool: int, where: str) -> dict[str, float]:
    """Run one search in a process. On Ray, watch the cluster's processes until shortly before they end."""
    on_ray = where not in ("threads", "processes")
    before = processes() if on_ray else {}
    one_thread = {} if where == "threads" else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--child", str(folder), str(pool), where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | one_thread)
    last: dict[int, tuple[bool, float]] = {}
    while process.poll() is None:
        if on_ray:
            last |= processes()
        time.sleep(0.25)
    assert process.stdout is not None
    found: dict[str, float] = json.loads(process.stdout.read().splitlines()[-1])
    last.pop(process.pid, None)
    used = {pid: cpu - before.get(pid, (False, 0.0))[1] for pid, (_, cpu) in last.items()}
    workers = {pid for pid, (is_worker, _) in last.items() if is_worker and pid not in before}
    found["workers"] = sum(used[pid] for pid in workers)
    found["ray"] = sum(seconds for pid, seconds in used.items() if pid not in workers)
    print(f"{pool} {where} {found}", file=sys.stderr, flush=True)
    return found


def report(rounds: list[list[dict[str, float]]], pool: int, references: int) -> str:
    """One line per round: threads, processes, Ray."""
    lines = [
        "# Search on two Ray nodes", "", machine(), "",
        f"{pool:,} pool images × {references:,} references × {DIM} dimensions, synthetic; {CORES} cores in all three "
        "ways, identical pairs in all runs: asserted. Seconds. Compare CPU time, and runs of the same round.", "",
        "| round | one process, 2 threads: wall | CPU | two processes of 1 thread: wall | CPU | Ray, 2 nodes of 1 CPU: "
        "wall | CPU | of that Ray's own | Ray / two processes: wall | CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    walls, seconds = [], []
    for number, (threads, two, ray) in enumerate(rounds, 1):
        total = ray["cpu"] + ray["workers"] + ray["ray"]
        walls.append(ray["wall"] / two["wall"])
        seconds.append(total / two["cpu"])
        values = (threads["wall"], threads["cpu"], two["wall"], two["cpu"], ray["wall"], total, ray["ray"])
        cells = [str(number), *(f"{value:.0f}" for value in values), f"{walls[-1]:.2f}", f"{seconds[-1]:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Medians of Ray / two processes: wall {statistics.median(walls):.2f}, CPU "
              f"{statistics.median(seconds):.2f}."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument("--quick", action="store_true", help="a tenth of both sides, nothing written")
    given = parser.parse_args()
    pool, references = (given.pool // 10, REFERENCES // 10) if given.quick else (given.pool, REFERENCES)
    with tempfile.TemporaryDirectory(prefix="cluster-search-") as name:
        folder = Path(name)
        write_vectors(folder, pool, references)
        rounds = []
        with two_nodes() as nodes:
            for _ in range(given.rounds):
                rounds.append([measure(folder, pool, where) for where in ("threads", "processes", nodes.address)])
                assert len({run["sha256"] for three in rounds for run in three}) == 1
                text = report(rounds, pool, references)
                if given.quick:
                    print(text)
                else:  # after each round: a run that is stopped leaves those that it finished
                    write_result("cluster_search", text)


if __name__ == "__main__":
    main()
