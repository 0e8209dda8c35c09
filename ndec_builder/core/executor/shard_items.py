"""Items done inside running shards, so that a bar moves in single items and not in whole shards.

The process that works on a shard writes its count into a small file next to the plan; this also works across machines.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from ndec_builder.core.executor.plan import Shard

_Item = TypeVar("_Item")
PAUSE = 0.5  # seconds between two writes, and between two looks at the files


class _Counter:
    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path, self.clock = path, clock
        self.items, self.written = 0.0, clock()

    def add(self, items: float) -> None:
        self.items += items
        if self.clock() - self.written >= PAUSE:
            self.written = self.clock()
            with contextlib.suppress(OSError):  # the work itself reports a full disk better
                self._write(f"{int(self.items):12d}".encode("ascii"))

    def _write(self, text: bytes) -> None:
        """In one call and without emptying the file first: a reader sees the old number or the new one."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.write(file, text)
        finally:
            os.close(file)


_running: _Counter | None = None  # a process works on one shard at a time


@contextlib.contextmanager
def counting(folder: Path, shard: Shard, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """While the work of a shard runs: `step` counts for it."""
    global _running
    before, _running = _running, _Counter(_path(folder, shard), clock)
    try:
        yield
    finally:
        _running = before
        with contextlib.suppress(OSError):
            _path(folder, shard).unlink(missing_ok=True)


def step(items: float = 1) -> None:
    """The work of the running shard has finished this many more items; outside of a shard nothing happens."""
    if _running is not None:
        _running.add(items)


def stepping(items: Iterable[_Item], each: float = 1) -> Iterator[_Item]:
    """Iterate, with a step after each item. each: items of the shard that one of these stands for."""
    for item in items:
        yield item
        step(each)


def items_inside(folder: Path, shard: Shard) -> int:
    """Items that a running shard has finished, as far as it told; 0 before that."""
    try:
        return min(shard.items, int(_path(folder, shard).read_text("ascii")))
    except (OSError, ValueError):  # not written yet, or being written
        return 0


def _path(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.name}.items"
