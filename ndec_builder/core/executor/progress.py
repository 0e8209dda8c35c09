"""The progress of a run, in a file that other processes can read, such as `ndec status`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.console import Pace, duration, number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.plan import Shard
from ndec_builder.core.locks import is_locked
from ndec_builder.core.storage import read_json, write_json

_PAUSE = 0.5  # seconds between two writes


@dataclass(frozen=True)
class Progress:
    """Counts of shards and items; rate in items per second, seconds_left; both null until they were measured."""

    running: bool
    what: str
    unit: str
    engine: str
    shards_done: int
    shards_failed: int
    shards_left: int
    items_done: int
    items: int
    rate: float | None
    seconds_left: float | None

    def text(self) -> str:
        parts = [
            "running" if self.running else "stopped",
            f"{number_of(self.shards_done, 'shard')} done, {self.shards_failed} failed, {self.shards_left} left",
        ]
        if self.running and self.rate is not None:
            parts.append(f"{self.rate:.1f} {self.unit}/s")
            parts.append(f"{duration(self.seconds_left or 0)} left")
        return "; ".join(parts)


class ProgressFile:
    """Written by the one process that runs the shards; atomically, and at most every _PAUSE seconds."""

    def __init__(
        self,
        folder: Path,
        shards: list[Shard],
        finished: Collection[int],
        *,
        what: str,
        unit: str,
        engine: str,
        effort: Callable[[float], float] = float,
    ) -> None:
        self.effort = effort
        self.what, self.items_done = what, sum(shard.items for shard in shards if shard.index in finished)
        self._path = folder / "progress.json"
        self._items = sum(shard.items for shard in shards)
        self._fixed = {"what": what, "unit": unit, "engine": engine, "items": self._items}
        self._shards, self._done, self._failed = len(shards), len(finished), 0
        self._pace, self._lock = Pace(self._items, self.items_done, effort=effort), threading.Lock()
        self._written = 0.0
        self._write()

    def inside(self, items: int) -> int:
        """The running shards have finished `items`; returns the items done in all. Called by a different thread."""
        with self._lock:
            done = self.items_done + items
            self._pace.reach(done)
            if time.monotonic() - self._written > _PAUSE:
                with contextlib.suppress(NdecError):
                    self._write()
            return done

    def done(self, shard: Shard) -> None:
        with self._lock:
            self._done += 1
            self.items_done += shard.items
            self._pace.reach(max(self._pace.done, self.items_done))
            if time.monotonic() - self._written > _PAUSE or self._done + self._failed == self._shards:
                self._write()

    def failed(self, shard: Shard) -> None:
        with self._lock:
            self._failed += 1
            self._write()

    def close(self) -> None:
        with contextlib.suppress(NdecError):  # a full disk stops the run with its own message
            self._write()

    def _write(self) -> None:
        rate = self._pace.rate
        left = self._shards - self._done - self._failed
        write_json(
            self._path,
            self._fixed
            | {
                "shards_done": self._done,
                "shards_failed": self._failed,
                "shards_left": left,
                "items_done": int(max(self._pace.done, self.items_done)),
                "rate": rate,
                "seconds_left": self._pace.seconds_left,
                "updated_at": time.time(),
            },
        )
        self._written = time.monotonic()


def read_progress(output: Path) -> Progress | None:
    """The progress of the unfinished run for an output folder, or of its last step; None if there is none."""
    files = sorted(output.rglob("shards/*/progress.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        return None
    try:
        found: dict[str, Any] = read_json(files[-1])
        running = is_locked(output)
        found["seconds_left"] = _still_left(found)
        if not running:  # it may have been killed between a marker and the next write of this file
            done = len(list(files[-1].parent.glob("*.done.json")))
            found["shards_left"] += found["shards_done"] - done
            found["shards_done"] = done
        return Progress(running=running, **{k: v for k, v in found.items() if k != "updated_at"})
    except (OSError, NdecError, TypeError, KeyError):  # just finished, or edited by hand
        return None


def _still_left(found: dict[str, Any]) -> float | None:
    """The last estimate minus the time since then."""
    left = found["seconds_left"]
    return None if left is None else max(0.0, left - (time.time() - found["updated_at"]))
