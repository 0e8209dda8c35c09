"""The progress of a run, in a file that other processes can read, such as `ndec status`."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.plan import Shard, plans_folder
from ndec_builder.core.locks import is_locked
from ndec_builder.core.storage import read_json, write_json

_WINDOW = 64  # number of recent shards that the rate is measured over
_PAUSE = 0.5  # seconds between two writes


@dataclass(frozen=True)
class Progress:
    """Counts of shards and items; rate in items per second, seconds_left; both null until a shard is done."""

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
            f"{self.shards_done} shards done, {self.shards_failed} failed, {self.shards_left} left",
        ]
        if self.running and self.rate is not None:
            parts.append(f"{self.rate:.1f} {self.unit}/s")
            parts.append(f"{_duration(self.seconds_left or 0)} left")
        return "; ".join(parts)


class ProgressFile:
    """Written by the one process that runs the shards; atomically, and at most every _PAUSE seconds."""

    def __init__(
        self, folder: Path, shards: list[Shard], finished: Collection[int], *, what: str, unit: str, engine: str
    ) -> None:
        self.what, self.items_done = what, sum(shard.items for shard in shards if shard.index in finished)
        self._path = folder / "progress.json"
        self._items = sum(shard.items for shard in shards)
        self._fixed = {"what": what, "unit": unit, "engine": engine, "items": self._items}
        self._shards, self._done, self._failed = len(shards), len(finished), 0
        self._past = deque([(time.monotonic(), self.items_done)], maxlen=_WINDOW)
        self._written = 0.0
        self._write()

    def done(self, shard: Shard) -> None:
        self._done += 1
        self.items_done += shard.items
        self._past.append((time.monotonic(), self.items_done))
        if time.monotonic() - self._written > _PAUSE or self._done + self._failed == self._shards:
            self._write()

    def failed(self, shard: Shard) -> None:
        self._failed += 1
        self._write()

    def close(self) -> None:
        with contextlib.suppress(NdecError):  # a full disk stops the run with its own message
            self._write()

    def _write(self) -> None:
        (first, before), (last, after) = self._past[0], self._past[-1]
        rate = (after - before) / (last - first) if after > before else None
        left = self._shards - self._done - self._failed
        write_json(
            self._path,
            self._fixed
            | {
                "shards_done": self._done,
                "shards_failed": self._failed,
                "shards_left": left,
                "items_done": self.items_done,
                "rate": rate,
                "seconds_left": (self._items - self.items_done) / rate if rate else None,
                "updated_at": time.time(),
            },
        )
        self._written = time.monotonic()


def read_progress(output: Path) -> Progress | None:
    """The progress of the unfinished run for an output folder; None if there is none."""
    files = sorted(plans_folder(output).glob("*/progress.json"), key=lambda path: path.stat().st_mtime)
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


def _duration(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {int(seconds % 60):02d} s" if minutes else f"{int(seconds)} s"
