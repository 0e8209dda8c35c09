"""Kill the driver, the workers and a node of a Ray cluster while a verb runs on it; the bytes must not change.

    python tests/faults/kill_cluster.py [--kills 2] [--seed 0] [--verbs "mine,train-asl"] [--quick]

Two real nodes on loopback, every verb with shards, small pictures and shards. Each run gets up to `--kills` SIGKILLs of
one kind, each when a random number of shards is done. A killed driver starts again; a lost node is replaced. Compares
every file of the workspace with that of a run on one machine without Ray. Writes tests/faults/results/kill_cluster.md.
"""

from __future__ import annotations

import argparse
import contextlib
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
from unittest import mock

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.small_bench import take_pictures  # noqa: E402
from ndec_builder.core.executor import runner  # noqa: E402
from ndec_builder.core.storage import sha256_bytes  # noqa: E402
from ndec_builder.evaluation.detectors.pair_geometry import signals_by_key  # noqa: E402
from support import every_verb, range_work  # noqa: E402
from support.every_verb import Sizes, hashes, ingested, small_shards, verbs  # noqa: E402
from support.tiny_trunk import tiny_model  # noqa: E402
from support.two_nodes import NODE, TwoNodes, on_loopback, two_nodes  # noqa: E402

VICTIMS = ("driver", "worker", "node")
SIZES = Sizes(copies=16, known=24, top=10)
LIMIT = 300.0  # seconds of one run, kills included


@dataclass
class Run:
    """One run of a verb. done: shards finished at each kill · wrong: files that differ or should not be there."""

    verb: str
    victim: str
    done: list[int]
    wrong: list[str]
    seconds: float


def work(root: Path, verb: str, model: str, address: str) -> None:
    """What is killed. Shards take a moment, so that kills meet them at work. Export runs on one machine, afterwards."""
    with (
        on_loopback(),
        small_shards(SIZES.shard),
        mock.patch.object(runner, "perform", range_work.slow_perform),
        mock.patch.object(every_verb, "exported", lambda root: None),
    ):
        verbs(model, SIZES)[verb](root, {"engine": "ray", "ray_address": address})


class Scene:
    """The workspace before and after each verb, made on one machine without Ray."""

    def __init__(self, folder: Path, last: str) -> None:
        """last: the verb after which none is needed."""
        self.folder, self.model = folder, tiny_model(folder)
        self.wanted: dict[str, dict[str, str]] = {}
        take_pictures(folder / "in", None, references=24, basic=24, pool=72)
        one = ingested(folder / "one", folder / "in")
        with small_shards(SIZES.shard):
            for verb, step in verbs(self.model, SIZES).items():
                shutil.copytree(one, self._before(verb))
                step(one, {"workers": 1})
                self.wanted[verb] = results(one)
                if verb == last:
                    break

    def copy(self, verb: str) -> Path:
        """A workspace in which the verb can run."""
        root = self.folder / "run"
        shutil.rmtree(root, ignore_errors=True)
        return Path(shutil.copytree(self._before(verb), root))

    def wrong(self, verb: str, root: Path) -> list[str]:
        """Files that are not those of one machine."""
        if verb == "edit":
            every_verb.exported(root)
        found, wanted = results(root), self.wanted[verb]
        return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))

    def _before(self, verb: str) -> Path:
        return self.folder / f"before-{verb.replace(' ', '')}"


def results(root: Path) -> dict[str, str]:
    """sha256 of every result file. The cache of pair geometry is one entry with all its pairs.

    Its shards are found by pair, so a command that starts again measures only the missing pairs: how they are spread
    over files depends on the moment of the kill.
    """
    folder = root / "cache" / "geometry"
    found = {name: sha for name, sha in hashes(root).items() if not name.startswith("cache/geometry/")}
    pairs = sorted(signals_by_key(folder).items())
    return found | {"cache/geometry": sha256_bytes(b"".join(key + signals.tobytes() for key, signals in pairs))}


def start(root: Path, verb: str, model: str, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--work", str(root), verb, model, address]
    with root.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def shards_done(root: Path) -> int:
    with contextlib.suppress(OSError):  # a finished plan is removed while it is counted
        return len(list(root.rglob("*.done.json")))
    return 0


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


def killed_run(scene: Scene, nodes: TwoNodes, verb: str, victim: str, kills: int, chance: random.Random) -> Run:
    root = scene.copy(verb)
    root.with_suffix(".log").unlink(missing_ok=True)
    began, child, done = time.monotonic(), start(root, verb, scene.model, nodes.address), list[int]()
    before = shards_done(root)  # caches of earlier verbs
    try:
        while child.poll() is None and len(done) < kills and time.monotonic() - began < LIMIT:
            goal = shards_done(root) + chance.randrange(1, 4)
            while shards_done(root) < goal and child.poll() is None and time.monotonic() - began < LIMIT:
                time.sleep(0.01)
                goal = min(goal, shards_done(root) + 4)  # a finished plan takes its markers along
            if child.poll() is not None:
                break
            now = shards_done(root) - before
            if victim == "driver":
                child.kill()
                child.wait()
                child = start(root, verb, scene.model, nodes.address)
            elif victim == "node":
                nodes.lose_the_second()
                nodes.second = nodes.cluster.add_node(**NODE, num_cpus=1)
            elif workers := ray_workers():
                os.kill(chance.choice(workers), signal.SIGKILL)
            else:
                continue
            done.append(now)
        if child.wait(LIMIT) != 0:
            raise SystemExit(f"{verb} failed after the kills:\n{root.with_suffix('.log').read_text()[-3000:]}")
    finally:
        child.kill()
        child.wait()
    return Run(verb, victim, done, scene.wrong(verb, root), time.monotonic() - began)


def run(wanted: list[str], kills: int, seed: int) -> list[Run]:
    chance, runs = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="kill-cluster-") as name:
        scene = Scene(Path(name), max(wanted, key=[*verbs("", SIZES)].index, default=""))
        with two_nodes() as nodes:
            for verb in [verb for verb in scene.wanted if not wanted or verb in wanted]:
                for victim in VICTIMS:
                    runs.append(killed_run(scene, nodes, verb, victim, kills, chance))
                    print(runs[-1], file=sys.stderr, flush=True)
    return runs


def rows_of(runs: list[Run]) -> list[tuple[object, ...]]:
    """A row per verb, and the sum."""
    rows: list[tuple[object, ...]] = []
    for verb in [*dict.fromkeys(one.verb for one in runs), "all"]:
        some = [one for one in runs if verb in (one.verb, "all")]
        kills = [sum(len(one.done) for one in some if one.victim == victim) for victim in VICTIMS]
        most = max((count for one in some for count in one.done), default=0)
        rows.append((verb, *kills, len(some), sum(not one.wrong for one in some), sum(len(one.wrong) for one in some),
                     most, f"{sum(one.seconds for one in some) / len(some):.0f}"))  # fmt: skip
    return rows


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), *sys.argv[3:6])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2, help="of each kind in each verb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", default="", help="separated by commas; default: all")
    parser.add_argument("--quick", action="store_true", help="one kill of each kind in `edit`, no result file")
    given = parser.parse_args()
    chosen = ["edit"] if given.quick else [verb for verb in given.verbs.split(",") if verb]
    runs = run(chosen, 1 if given.quick else given.kills, given.seed)
    head = ("verb", *(f"kills of {victim}" for victim in VICTIMS), "runs", "runs with the same bytes",
            "files different or left over", "shards done at a kill, up to", "seconds per run")  # fmt: skip
    wrong = sorted({name for one in runs for name in one.wrong})
    notes = [
        "Two nodes with one CPU each; 24 references, 24 training and 72 pool pictures, a trunk of two layers, shards "
        "and ranges of 4 items, each of which waits .15 s. Compared: sha256 of every file of the workspace (tables, "
        "vectors, candidates, geometry, pictures, predictions, checkpoints, caches) but run records and logs, with a "
        "run on one machine without Ray; of the cache of pair geometry all pairs with their values. A verb that ends "
        "before its kill has fewer kills.",
        *([f"**Different or left over: {', '.join(wrong)}**"] if wrong else []),
    ]  # fmt: skip
    record.write("kill_cluster", "Every verb on a Ray cluster under kill -9", head, rows_of(runs), notes,
                 keep=not given.quick)  # fmt: skip
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
