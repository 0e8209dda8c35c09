"""Run every verb with shards on each engine, and compare the sha256 of all result files.

    python tests/faults/same_bytes.py [--seed 0] [--model NAME] [--folder DIR [--only 0|1|2|3]]

Four workspaces with equal pictures: one worker on this machine, two workers, two Ray nodes (real ones, on loopback),
and two Ray nodes of which one is killed (SIGKILL) in the middle of every verb, which the other one finishes. The verbs
follow each other as in a real project; labels are made by rule. Writes tests/faults/results/same_bytes.md.

With --folder the four runs can be separate commands: `--only N` does one of them, and a last command without it
compares what all of them left in the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
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
from ndec_builder.core.storage import read_json, write_json  # noqa: E402
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
    """Kills the second node when some shards of a verb are done, and starts another one for the next verb."""

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
                    return
                time.sleep(0.02)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            if verb in self.killed_after:  # Ray starts nodes in the main thread only
                self.nodes.second = self.nodes.cluster.add_node(**NODE, num_cpus=1)


def run_all(root: Path, steps: dict[str, Callable[..., None]], on: dict[str, Any], killer: Killer | None) -> list[Any]:
    """Of each verb: the hashes after it, the seconds that it took, and the shards after which a node was killed."""
    found = []
    for name, step in steps.items():
        began = time.monotonic()
        with contextlib.nullcontext() if killer is None else killer.at_work(root, name):
            step(root, on)
        after = None if killer is None else killer.killed_after.get(name)
        found.append((hashes(root), time.monotonic() - began, after))
        print(f"{root.name}: {name}, {found[-1][1]:.0f} s", file=sys.stderr, flush=True)
    return found


def run_engine(folder: Path, number: int, steps: dict[str, Callable[..., None]], chance: random.Random) -> None:
    """One of ENGINES on a copy of the fresh workspace; its results go to a file of the folder."""
    shutil.rmtree(folder / f"engine-{number}", ignore_errors=True)
    root = fresh_copy(folder / "fresh", folder / f"engine-{number}")
    if number < 2:
        found = run_all(root, steps, {"workers": number + 1}, None)
    else:
        with two_nodes() as nodes, ray_session():
            on = {"engine": "ray", "ray_address": nodes.address}
            found = run_all(root, steps, on, Killer(nodes, chance) if number == 3 else None)
    write_json(folder / f"engine-{number}.json", found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--folder", type=Path, help="a folder that stays; default: a temporary one")
    parser.add_argument("--only", type=int, choices=range(4))
    given = parser.parse_args()
    steps, chance = verbs(given.model, Sizes(copies=16, known=24, top=12)), random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="same-bytes-") as name, small_shards(4):
        folder = (given.folder or Path(name)).absolute()
        if not (folder / "fresh").is_dir():
            take_pictures(folder / "in", None, references=24, basic=24, pool=72)
            ingested(folder / "fresh", folder / "in")
        for number in range(4) if given.only is None else [given.only]:
            if given.only is not None or not (folder / f"engine-{number}.json").is_file():
                run_engine(folder, number, steps, chance)
        if given.only is not None:
            return
        results = {engine: read_json(folder / f"engine-{number}.json") for number, engine in enumerate(ENGINES)}
    before: set[str] = set()
    rows, wrong = [], set[str]()
    for place, verb in enumerate(steps):
        files = results[ENGINES[0]][place][0]
        others = [results[engine][place][0] for engine in ENGINES[1:]]
        own = sorted({name for found in (files, *others) for name in found} - before)
        same = [sum(found.get(name) == files.get(name) for name in own) for found in others]
        wrong |= {name for found in others for name in found.keys() | files if found.get(name) != files.get(name)}
        seconds = " · ".join(f"{results[engine][place][1]:.0f}" for engine in ENGINES)
        after = results[ENGINES[3]][place][2] or "not killed"
        rows.append((verb, len(own), *(f"{count} of {len(own)}" for count in same), after, seconds))
        before |= set(own)
    head = ("verb", "new files", *(f"same on {engine}" for engine in ENGINES[1:]),
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
    sys.exit(bool(wrong) or any(found[2] is None for found in results[ENGINES[3]]))


if __name__ == "__main__":
    main()
