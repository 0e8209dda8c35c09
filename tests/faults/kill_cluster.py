"""Kill the driver, the workers and a node of a Ray cluster while `ndec mine` runs on it; the bytes must not change.

    python tests/faults/kill_cluster.py [--kills 10] [--seed 0] [--quick]

Two real nodes on loopback. Each run gets up to three SIGKILLs of one kind, when a random number of shards is done. A
killed driver starts again; a lost node is replaced. Compares candidates.parquet, geometry.parquet and the contact sheet
with those of a run on one machine without Ray. Writes tests/faults/results/kill_cluster.md.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from ndec_builder.core.storage import sha256_file  # noqa: E402
from support.described_bench import Bench  # noqa: E402
from support.pictures import scene  # noqa: E402
from support.two_nodes import NODE, TwoNodes, on_loopback, two_nodes  # noqa: E402

RESULTS = ("candidates.parquet", "geometry.parquet", "contact_sheet.html")
PER_RUN = {"driver": 3, "worker": 3, "node": 2}
CAPS = {"top": 40, "max_per_query": 2, "max_per_reference": 6, "rank_by": "normalized"}
LIMIT = 600.0  # seconds of one run, kills included


@dataclass(frozen=True)
class Run:
    victim: str
    kills: int
    same: bool
    leftovers: int
    seconds: float


def make_bench(root: Path) -> None:
    bench = Bench(root)
    bench.add("reference", {f"r{i:02}": scene(i) for i in range(10)})
    crops = {f"crop{i:02}": scene(i).crop((0, 0, 100, 80)) for i in range(10)}
    bench.add("pool", crops | {f"other{i:02}": scene(50 + i) for i in range(60)})
    bench.add("basic", {f"b{i}": scene(200 + i) for i in range(5)})


def work(root: Path, address: str) -> None:
    """What is killed. Small ranges and shards that take a moment, so that kills meet them at work."""
    from ndec_builder.candidates.geometry import table
    from ndec_builder.candidates.mine import run
    from ndec_builder.candidates.search import ranges, rounds
    from ndec_builder.candidates.settings import MineConfig
    from support.range_work import SlowRange

    rounds.SAMPLE, table.SHARD_SIZE = 8, 4
    ranges.range_size_for, ranges.RangeTask = lambda *_: 2, SlowRange  # type: ignore[misc,assignment]
    with on_loopback():
        run(MineConfig(root, engine="ray", ray_address=address, **CAPS))  # type: ignore[arg-type]


def start(root: Path, address: str) -> subprocess.Popen[bytes]:
    with (root / "log.txt").open("ab") as log:
        return subprocess.Popen([sys.executable, __file__, "--work", str(root), address], stdout=log, stderr=log)


def shards_done(root: Path) -> int:
    return len(list((root / "candidates" / "test").rglob("*.done.json")))


def ray_workers() -> list[int]:
    """Processes of this cluster that run a shard at the moment."""
    mine, found = f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_run_there" in (path / "cmdline").read_bytes() and mine in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def killed_run(root: Path, nodes: TwoNodes, victim: str, kills: int, chance: random.Random) -> Run:
    began, child, killed = time.monotonic(), start(root, nodes.address), 0
    try:
        while child.poll() is None and killed < kills and time.monotonic() - began < LIMIT:
            goal = shards_done(root) + chance.randrange(1, 12)
            while shards_done(root) < goal and child.poll() is None and time.monotonic() - began < LIMIT:
                time.sleep(0.01)
                goal = min(goal, shards_done(root) + 12)  # a finished round takes its markers along
            if child.poll() is not None:
                break
            if victim == "driver":
                child.kill()
                child.wait()
                child = start(root, nodes.address)
            elif victim == "node":
                nodes.lose_the_second()
                nodes.second = nodes.cluster.add_node(**NODE, num_cpus=1)
            elif workers := ray_workers():
                os.kill(chance.choice(workers), signal.SIGKILL)
            else:
                continue
            killed += 1
        if child.wait(LIMIT) != 0:
            raise SystemExit(f"the run after the kills failed:\n{(root / 'log.txt').read_text()[-3000:]}")
    finally:
        child.kill()
        child.wait()
    directory = root / "candidates" / "test"
    wanted = root.parent / "one" / "candidates" / "test"
    same = all(sha256_file(directory / name) == sha256_file(wanted / name) for name in RESULTS)
    leftovers = [p for p in directory.rglob("*") if ".partial" in p.name or p.name == "shards"]
    return Run(victim, killed, same, len(leftovers), time.monotonic() - began)


def run(kills: int, seed: int) -> list[Run]:
    from ndec_builder.candidates.mine import run as mine
    from ndec_builder.candidates.settings import MineConfig

    chance, results = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="kill-cluster-") as name:
        folder = Path(name)
        for where in ("one", "fresh"):
            make_bench(folder / where)
        mine(MineConfig(folder / "one", **CAPS))  # type: ignore[arg-type]
        with two_nodes() as nodes:
            for victim, most in PER_RUN.items():
                left = kills
                while left > 0:
                    root = folder / f"{victim}-{left}"
                    shutil.copytree(folder / "fresh", root)
                    results.append(killed_run(root, nodes, victim, min(left, most), chance))
                    print(results[-1], file=sys.stderr, flush=True)
                    left -= max(1, results[-1].kills)
    return results


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one kill of each kind, no result file")
    arguments = parser.parse_args()
    results = run(1 if arguments.quick else arguments.kills, arguments.seed)
    rows = []
    for victim in PER_RUN:
        some = [one for one in results if one.victim == victim]
        kills, same, left = (sum(getattr(one, name) for one in some) for name in ("kills", "same", "leftovers"))
        rows.append((victim, len(some), kills, same, left, f"{sum(one.seconds for one in some) / len(some):.0f}"))
    head = ("killed", "runs", "kills", "runs with the same bytes", "files left over", "seconds per run")
    notes = [
        "Two nodes with one CPU each; pool 70, references 10, ranges of 2 images, 4 pairs of geometry per shard. "
        f"Compared: sha256 of {', '.join(RESULTS)}, with a run on one machine without Ray."
    ]
    record.write("kill_cluster", "Mining on a Ray cluster under kill -9", head, rows, notes, keep=not arguments.quick)
    sys.exit(not all(one.same and not one.leftovers for one in results))


if __name__ == "__main__":
    main()
