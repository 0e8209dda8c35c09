"""Works for the tests of the shard runner; as a command it runs one: OUTPUT WORK SHARD_SIZE WHERE."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from ndec_builder.core.config import pixel_limit
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.asking import ask
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.locks import locked
from ndec_builder.core.storage import write_text


def square(folder: Path, shard: Shard) -> Outcome:
    """The work of the tests: squares of the shard's items; each run is counted in a side file."""
    with (folder / "calls.log").open("a") as log:
        log.write(f"{shard.index}\n")
    write_text(folder / f"{shard.name}.txt", " ".join(str(i * i) for i in range(shard.start, shard.stop)))
    return Outcome((f"{shard.name}.txt",), {"items": shard.items})


def collecting(folder: Path, shard: Shard) -> Outcome:
    """Notes whether Python collects garbage while shards are worked on."""
    write_text(folder / f"{shard.name}.txt", str(gc.isenabled()))
    return Outcome((f"{shard.name}.txt",), {})


def slow(folder: Path, shard: Shard) -> Outcome:
    time.sleep(0.05)
    return square(folder, shard)


def on_both_nodes(folder: Path, shard: Shard) -> Outcome:
    """Waits until both nodes have a shard, and from shard 20 on until the test has written the file `lost`."""
    with (folder / "where.log").open("a") as log:  # a node has one worker here: its parent process is the node's raylet
        log.write(f"{os.getppid()}\n")
    for _ in range(6000):
        nodes = set((folder / "where.log").read_text().split()) - {"1"}  # 1: the node was lost while this shard ran
        if len(nodes) == 2 and (shard.index < 20 or (folder / "lost").exists()):
            break
        time.sleep(0.02)
    return square(folder, shard)


def process_and_limit(folder: Path, shard: Shard) -> Outcome:
    """Writes which process ran the shard, and the largest picture that it would decode."""
    write_text(folder / f"{shard.name}.txt", f"{os.getpid()} {pixel_limit()}")
    return Outcome((f"{shard.name}.txt",), {})


def poisoned(folder: Path, shard: Shard) -> Outcome:
    """Shard 1 fails until it is fixed: by an error, or by taking its process down."""
    if shard.index == 1 and not (folder / "fixed").exists():
        with (folder / "tries").open("a") as file:
            file.write("x")
        if (folder / "deadly").exists():
            os.kill(os.getpid(), signal.SIGSEGV)
        raise ValueError("poison")
    return square(folder, shard)


def asking(folder: Path, shard: Shard) -> Outcome:
    """Asks for the square of each item, and of shard 1 also for what cannot be answered."""
    if shard.index == 1 and not (folder / "fixed").exists():
        ask("nonsense")
    squares = [ask(np.array([item])) for item in range(shard.start, shard.stop)]
    write_text(folder / f"{shard.name}.txt", " ".join(str(int(found[0])) for found in squares))
    return Outcome((f"{shard.name}.txt",), {"items": shard.items})


def stop(folder: Path, shard: Shard) -> Outcome:
    raise NdecError("the disk is full; make room")


def forever(folder: Path, shard: Shard) -> Outcome:
    write_text(folder / "pid", str(os.getpid()))
    time.sleep(60)
    raise AssertionError


def main(output: Path, work: str, size: str, where: str) -> None:
    with locked(output):
        plan = Plan(40, int(size), "f" * 64)
        folder = open_plan(output, plan)
        run_shards(folder, plan, functools.partial(globals()[work], folder), Engine(here=where == "here"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
