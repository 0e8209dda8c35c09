"""Run every verb with shards on each engine, and compare the sha256 of all result files.

    python tests/faults/same_bytes.py [--seed 0] [--verb NAME …]

Four workspaces with equal pictures: one worker on this machine, two workers, two Ray nodes (real ones, on loopback),
and two Ray nodes of which one is killed (SIGKILL) in the middle of every verb and replaced. The verbs follow each other
as in a real project; labels are made by rule. Writes tests/faults/results/same_bytes.md.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import record  # noqa: E402
from faults.small_bench import take_pictures  # noqa: E402
from ndec_builder.core.executor.ray import ray_session  # noqa: E402
from support.every_verb import NOT_RESULTS, Sizes, fresh_copy, hashes, ingested, small_shards, verbs  # noqa: E402
from support.two_nodes import NODE, TwoNodes, two_nodes  # noqa: E402

MODEL = "efficientnet-lite0"
ENGINES = ("local, 1 worker", "local, 2 workers", "Ray, 2 nodes", "Ray, a node killed")
PATIENCE = 600.0  # seconds to wait for the shard at which a node is killed


def shards_done(root: Path) -> int:
    with contextlib.suppress(OSError):  # a finished plan is removed while it is counted
        return len(list(root.rglob("*.done.json")))
    return 0


class Killer:
    """Kills the second node when some shards of a verb are done, and starts another one."""

    def __init__(self, nodes: TwoNodes, chance: random.Random) -> None:
        self.nodes, self.chance = nodes, chance
        self.killed_after: dict[str, int] = {}

    @contextlib.contextmanager
    def at_work(self, root: Path, verb: str) -> Iterator[None]:
        goal, before, over = self.chance.randrange(1, 4), shards_done(root), threading.Event()

        def watch() -> None:
            began, most = time.monotonic(), 0
            while not over.is_set() and time.monotonic() - began < PATIENCE:
                most = max(most, shards_done(root) - before)
                if most >= goal:
                    self.killed_after[verb] = most
                    self.nodes.lose_the_second()
                    self.nodes.second = self.nodes.cluster.add_node(**NODE, num_cpus=1)
                    return
                time.sleep(0.02)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def run_all(root: Path, steps: dict[str, Callable[..., None]], on: dict[str, Any], killer: Killer | None) -> list[Any]:
    """The hashes after each verb, and the seconds that it took."""
    found = []
    for name, step in steps.items():
        began = time.monotonic()
        with contextlib.nullcontext() if killer is None else killer.at_work(root, name):
            step(root, on)
        found.append((hashes(root), time.monotonic() - began))
        print(f"{root.name}: {name}, {found[-1][1]:.0f} s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=MODEL)
    given = parser.parse_args()
    steps, chance = verbs(given.model, Sizes(copies=16, known=24, top=12)), random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="same-bytes-") as name, small_shards(4):
        folder = Path(name)
        take_pictures(folder / "in", None, references=24, basic=24, pool=72)
        fresh = ingested(folder / "fresh", folder / "in")
        results = {}
        for engine, workers in zip(ENGINES, (1, 2), strict=False):
            results[engine] = run_all(fresh_copy(fresh, folder / f"local-{workers}"), steps, {"workers": workers}, None)
        with two_nodes() as nodes, ray_session():
            on = {"engine": "ray", "ray_address": nodes.address}
            killer = Killer(nodes, chance)
            results[ENGINES[2]] = run_all(fresh_copy(fresh, folder / "ray"), steps, on, None)
            results[ENGINES[3]] = run_all(fresh_copy(fresh, folder / "killed"), steps, on, killer)
    before: set[str] = set()
    rows, wrong = [], set[str]()
    for place, verb in enumerate(steps):
        files = results[ENGINES[0]][place][0]
        others = [results[engine][place][0] for engine in ENGINES[1:]]
        own = sorted({name for found in (files, *others) for name in found} - before)
        same = [sum(found.get(name) == files.get(name) for name in own) for found in others]
        wrong |= {name for found in others for name in found.keys() | files if found.get(name) != files.get(name)}
        seconds = " · ".join(f"{results[engine][place][1]:.0f}" for engine in ENGINES)
        after = killer.killed_after.get(verb, "not killed")
        rows.append((verb, len(own), *(f"{count} of {len(own)}" for count in same), after, seconds))
        before |= set(own)
    head = ("verb", "files it wrote", *(f"same on {engine}" for engine in ENGINES[1:]),
            "node killed after … shards", "seconds")  # fmt: skip
    notes = [
        "Files are compared with those of one worker on this machine, by sha256: tables, vectors, candidates, "
        "geometry, contact sheets, edited pictures, datasets, predictions, metrics, checkpoints, and the caches of "
        f"views, features and geometry. Not compared: run records and logs ({', '.join(NOT_RESULTS)}), which have "
        "times, settings or "
        "the name of the folder. At the end of each verb all earlier files are compared again. 24 references, 24 "
        f"training and 72 pool pictures; {given.model}; shards and ranges of 4 items.",
        *([f"**Different: {', '.join(sorted(wrong))}**"] if wrong else []),
    ]
    record.write("same_bytes", "The same bytes on every engine", head, rows, notes, keep=True)
    sys.exit(bool(wrong) or len(killer.killed_after) < len(steps))


if __name__ == "__main__":
    main()
