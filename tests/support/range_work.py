"""Shards that take time, and one that takes its process down once: for runs that lose workers and nodes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.candidates.search.ranges import RangeTask
from ndec_builder.core.executor.base import Failed
from ndec_builder.core.executor.plan import Done, Shard
from ndec_builder.core.executor.runner import Outcome, Work, perform


@dataclass(frozen=True)
class SlowRange(RangeTask):
    def __call__(self, shard: Shard) -> Outcome:
        time.sleep(0.1)
        return super().__call__(shard)


@dataclass(frozen=True)
class DeadlyRange(SlowRange):
    """The first try of range 3 is killed."""

    def __call__(self, shard: Shard) -> Outcome:
        killed = self.folder.parents[2] / "killed"  # next to the rounds of the search
        if shard.index == 3 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(shard)


def slow_perform(work: Work, folder: Path, shard: Shard) -> Done | Failed:
    """`runner.perform` after a moment, for shards of any verb."""
    time.sleep(0.15)
    return perform(work, folder, shard)
