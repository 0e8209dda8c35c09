"""Embed, search, push, label and pull in a loop for an hour: memory and open files stay constant, no temporary files.

    python tests/faults/soak.py [--minutes 60] [--rounds N] [--load 0.3] [--demo DIR] [--result soak] [--quick]

One process runs everything through the Python API with a real Label Studio (that of LABEL_STUDIO_URL, or its own). Each
round uses different pool pictures, so every stage has work, and then sleeps so that the load stays below `--load`
cores. The slope of the memory comes from a straight line through the second half of the rounds, with a 95 % interval by
block bootstrap; the verdicts use the slope of the floor, in the second half and in the last third. Slopes are per
round, so that a busy machine does not lower them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

from faults import record  # noqa: E402
from faults.process_memory import (  # noqa: E402
    allocated,
    handles_of,
    memory_of,
    parts_of_memory,
    processor_seconds,
    tree_of,
)
from faults.small_bench import take_pictures  # noqa: E402
from ndec_builder.annotation.label_studio.connection import connect_label_studio  # noqa: E402
from ndec_builder.annotation.label_studio.data_lock import data_lock  # noqa: E402
from ndec_builder.annotation.label_studio.server import LabelStudioServer, running_state  # noqa: E402
from ndec_builder.commands import COMMANDS  # noqa: E402
from ndec_builder.core.workspace import Workspace  # noqa: E402
from ndec_builder.demo.oracle import answer_all  # noqa: E402
from support.needs import free_port  # noqa: E402

WARM_UP = 0.5  # share of the rounds before memory is measured: caches fill, allocators settle
FRESH = 8  # rounds with one set of projects
ENOUGH = 450  # rounds, from which on the last third has a verdict too: 150 rounds that start after the 300th
INTERNED = 60_000  # names, so that CPython's dictionary of interned strings doubles before round 0, not near round 150
SETTINGS = ("ARROW_DEFAULT_MEMORY_POOL", "MALLOC_ARENA_MAX", "OMP_WAIT_POLICY")  # of the environment, that matter here
FLAT = 0.04  # MiB a round: 2 % of 500 MiB in the 250 rounds that an idle machine does in an hour


@dataclass(frozen=True)
class Sample:
    """After a round. memory and server in MiB of anonymous memory; in_use: MiB of blocks that were not freed.

    heap, arena and maps are the parts of memory: the C library's heap, mappings of 1 GiB (Arrow's allocator), the rest.
    objects: blocks of Python's own allocator that are in use.
    """

    seconds: float
    memory: float
    in_use: float
    handles: int
    threads: int
    server: float
    server_handles: int
    leftovers: int
    heap: float
    arena: float
    maps: float
    objects: int


def leftovers(workspace: Path, scratch: Path) -> list[Path]:
    """Temporary files and work folders that a finished round must not leave, in the workspace and in TMPDIR.

    The lock of Label Studio's data belongs to the running server.
    """
    inside = [p for p in workspace.rglob("*") if ".partial" in p.name or p.name == "shards" or p.name.endswith(".lock")]
    return [*(path for path in inside if path != data_lock(Workspace(workspace).label_studio)), *scratch.iterdir()]


def run_verb(verb: str, **flags: object) -> None:
    COMMANDS[verb].run(COMMANDS[verb].config_class()(**flags))


class Soak:
    def __init__(self, folder: Path, demo: Path | None, size: int) -> None:
        self.folder, self.size = folder, size
        self.root = folder / "bench"
        self.pictures = take_pictures(folder / "in", demo, references=size, basic=size, pool=4 * size)
        self.pool = sorted((self.pictures / "pool").iterdir())
        self.workspace = Workspace(self.root)
        for role in ("reference", "basic"):
            run_verb("ingest", workspace=self.root, role=role, source=self.pictures / role)
            run_verb("embed", workspace=self.root, role=role, workers=1, whitening_images=size)
        self.labelled = 0

    def round(self, number: int) -> None:
        """Other pool pictures, vectors, pairs, tasks; a few answers; labels."""
        chosen = self.folder / "pool"
        shutil.rmtree(chosen, ignore_errors=True)
        chosen.mkdir()
        if number % FRESH == 0:  # the pool's pairs are all labelled by then: a new key makes new projects
            shutil.rmtree(self.root / "annotation", ignore_errors=True)
        for path in random.Random(number).sample(self.pool, self.size):
            os.link(path, chosen / path.name)
        run_verb("ingest", workspace=self.root, role="pool", source=chosen)
        run_verb("embed", workspace=self.root, role="pool", workers=1, whitening_images=self.size)
        run_verb("mine", workspace=self.root, top=self.size // 2, workers=1)
        run_verb("push", workspace=self.root, annotators=("ann",))
        connection = connect_label_studio(self.workspace)
        self.labelled += answer_all(self.workspace, "test", connection, lambda q, r: "hard_negative", "ann", threads=1)
        run_verb("pull", workspace=self.root)
        run_verb("resolve", workspace=self.root)


@contextlib.contextmanager
def label_studio(workspace: Workspace) -> Iterator[int]:
    """The process number of this run's own server; 0 when the environment names one that runs already."""
    if "LABEL_STUDIO_URL" in os.environ:
        yield 0
        return
    with LabelStudioServer(workspace.label_studio, free_port(), image_url="http://127.0.0.1:1") as server:
        state = running_state(server.data)
        assert state is not None
        yield int(state["pid"])


def soak(minutes: float, rounds: int, load: float, demo: Path | None, size: int) -> tuple[list[Sample], Soak, float]:
    with tempfile.TemporaryDirectory(prefix="ndec-soak-") as name:
        folder = Path(name)
        scratch = folder / "tmp"
        scratch.mkdir()
        tempfile.tempdir = str(scratch)  # what ndec and its libraries leave in TMPDIR shows here
        os.environ["TMPDIR"] = str(scratch)
        workspace = Workspace(folder / "bench")
        workspace.root.mkdir()
        samples: list[Sample] = []
        with label_studio(workspace) as server:
            bench = Soak(folder, demo, size)
            for name in range(INTERNED):  # it doubles once and not again: interned.py
                sys.intern(f"soak {name}")
            begun = time.monotonic()
            used = processor_seconds([os.getpid(), *tree_of(server)])
            spent = 0.0
            while time.monotonic() - begun < minutes * 60 and len(samples) < rounds:
                bench.round(len(samples))
                pids = tree_of(server)
                samples.append(
                    Sample(
                        time.monotonic() - begun,
                        memory_of(os.getpid()),
                        allocated(),
                        handles_of(os.getpid()),
                        len(list(Path("/proc/self/task").iterdir())),
                        sum(memory_of(pid) for pid in pids),
                        sum(handles_of(pid) for pid in pids),
                        len(leftovers(workspace.root, scratch)),
                        *parts_of_memory(),
                        sys.getallocatedblocks(),
                    )
                )
                if len(samples) % 10 == 1:
                    print(samples[-1], file=sys.stderr, flush=True)
                spent = processor_seconds([os.getpid(), *pids]) - used
                time.sleep(max(0.0, spent / load - (time.monotonic() - begun)))
            elapsed = time.monotonic() - begun
        tempfile.tempdir = None
        return samples, bench, spent / elapsed


def slope(rounds: np.ndarray, values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """(growth per round by least squares, its 95 % interval): blocks of neighbouring rounds are drawn again."""
    if len(values) < 3:
        return 0.0, 0.0, 0.0
    fit = np.polyfit(rounds, values, 1)
    rest = values - np.polyval(fit, rounds)
    chance, size = np.random.default_rng(seed), min(max(2, len(values) // 12), len(values))
    slopes = []
    for _ in range(1000):
        starts = chance.integers(0, len(values) - size + 1, -(-len(values) // size))
        drawn = np.concatenate([rest[s : s + size] for s in starts])[: len(values)]
        slopes.append(np.polyfit(rounds, np.polyval(fit, rounds) + drawn, 1)[0])
    low, high = np.quantile(slopes, [0.025, 0.975])
    return fit[0], low, high


def floor_rise(rounds: np.ndarray, values: np.ndarray, blocks: int = 8) -> float:
    """Slope per round of the least values of so many stretches. What is needed for a while goes again; a leak stays."""
    parts = [part for part in np.array_split(np.arange(len(values)), blocks) if len(part)]
    if len(parts) < 3:
        return 0.0
    places = [part[values[part].argmin()] for part in parts]
    return float(np.polyfit(rounds[places], values[places], 1)[0])


def third(samples: list[Sample]) -> int:
    return max(1, len(samples) // 3)


def assess(samples: list[Sample], bench: Soak, load: float) -> tuple[list[list[object]], bool]:
    kept = samples[int(WARM_UP * len(samples)) :]
    rounds = np.arange(len(kept))
    settings = ", ".join(f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ)
    rows: list[list[object]] = [
        ["rounds", len(samples), ""],
        ["minutes", f"{samples[-1].seconds / 60:.0f}", ""],
        ["mean load of ndec and Label Studio", f"{load:.2f} cores", ""],
        ["labels given and pulled", bench.labelled, ""],
        ["allocators and threads set by the environment", settings or "no", ""],
    ]
    tenths = [part[-1] for part in np.array_split(np.arange(len(samples)), 10) if len(part)]
    for name, what in (("memory", "memory of ndec"), ("arena", "of it mappings of 1 GiB"), ("maps", "other mappings")):
        course = ", ".join(f"{getattr(samples[at], name):.1f}" for at in tenths)
        rows.append([f"{what}, MiB after each tenth of the rounds", course, ""])
    fine = True
    kinds = (
        ("memory", "memory of ndec"),
        ("heap", "of it the heap of the C library"),
        ("arena", "of it mappings of 1 GiB (Arrow's allocator)"),
        ("maps", "of it other mappings"),
        ("in_use", "blocks not freed"),
        ("server", "memory of Label Studio"),
    )
    for name, what in kinds:
        values = np.array([getattr(s, name) for s in kept])
        if not values.any():  # somebody else's server
            continue
        a_round, low, high = slope(rounds, values)
        rows.append(
            [
                f"{what}, MiB: first, last, least and most after the warm-up",
                f"{values[0]:.1f}, {values[-1]:.1f}, {values.min():.1f} … {values.max():.1f}",
                "",
            ]
        )
        rows.append([f"{what}, MiB a round: slope of all rounds", f"{a_round:+.3f} [{low:+.3f}, {high:+.3f}]", ""])
        rise = floor_rise(rounds, values)
        last = floor_rise(rounds[: third(samples)], values[-third(samples) :])
        judged = name == "memory"
        for share, value in (("", rise), (" in the last third", last)):
            verdict = "" if not judged else "flat" if value < FLAT else "GROWS"
            rows.append([f"{what}, MiB a round: slope of its floor{share}", f"{value:+.3f}", verdict])
            fine &= verdict != "GROWS"
            judged &= len(samples) >= ENOUGH
    objects = [s.objects for s in kept]
    rows.append(["blocks of Python's allocator in use: first, last", f"{objects[0]:,}, {objects[-1]:,}", ""])
    for name, what in (("handles", "open files of ndec"), ("threads", "threads of ndec")):
        found = [getattr(s, name) for s in kept]
        quarter = -(-len(found) // 4)
        flat = np.median(found[-quarter:]) <= np.median(found[:quarter]) + 1
        rows.append([what, f"{min(found)} … {max(found)}, last {found[-1]}", "flat" if flat else "GROWS"])
        fine &= flat
    left = max(s.leftovers for s in samples)
    rows.append(["temporary files, work folders and locks left after a round", left, "none" if not left else "LEFT"])
    return rows, bool(fine and not left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="rounds at most; the default is no limit")
    parser.add_argument("--load", type=float, default=0.3, help="mean cores used at most")
    parser.add_argument("--demo", type=Path, help="workspace of a finished demo whose pictures are used")
    parser.add_argument("--result", default="soak", help="name of the result file")
    parser.add_argument("--quick", action="store_true", help="a minute, few pictures, no sleep")
    given = parser.parse_args()
    if given.quick:
        given.minutes, given.load = min(given.minutes, 1.0), 9.0
    samples, bench, load = soak(given.minutes, given.rounds, given.load, given.demo, 16 if given.quick else 48)
    rows, fine = assess(samples, bench, load)
    notes = [
        f"Memory is anonymous MiB after the first {WARM_UP:.0%} of the rounds. Its floor is the least of each of 8 "
        f"stretches; flat: the floor of the memory of ndec rises by less than {FLAT} MiB a round, in the second half "
        f"and, with {ENOUGH} rounds or more, also in the last third. Label Studio is not part of ndec: its memory is "
        "reported but has no limit. Blocks not freed are counted by the C library (mallinfo2).",
        f"A round: other {bench.size} pool pictures → ingest, embed, mine with geometry, push, answers through the "
        f"API, pull, resolve. Every {FRESH} rounds new projects. Before the first, {INTERNED:,} names were interned "
        "and forgotten, so that CPython's dictionary of them has doubled; `interned.py` shows that it does this once.",
    ]
    title = "Embed, search, push and pull in a loop, in one process"
    record.write(given.result, title, ("what", "measured", "verdict"), rows, notes, keep=not given.quick)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
