"""Engines run one task on many shards. They see shards only; what a task does, and on which data, is not theirs.

`local`: this process, or worker processes that are replaced when they die. `ray`: tasks of a Ray cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.executor.plan import Done, Shard

ENGINES = ("local", "ray")
SMALL_RUN = 4  # shards: no process is started for so few, it would cost more than it gives


@dataclass(frozen=True)
class Failed:
    """Why a shard has no result. `fatal`: a person has to act, the whole run stops."""

    text: str
    fatal: NdecError | None = None
    innocent: bool = False  # its machine was lost: this says nothing of the shard


Task = Callable[[Shard], Done | Failed]


class Pool(Protocol):
    """Runs a task on shards, some at a time, in any order. It is closed by `close`, which also ends what still runs."""

    def free(self) -> bool:
        """Whether one more shard would start, or be next in line."""

    def busy(self) -> bool:
        """Whether a result is still to come."""

    def submit(self, shard: Shard) -> None: ...

    def next(self) -> tuple[Shard, Done | Failed]:
        """Wait for any shard that is submitted."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Engine:
    """Which engine, with how much. `threads`: cores that one task keeps busy."""

    name: str = "local"
    workers: int = 0  # at a time; 0: as many as the cores allow
    threads: int = 1
    gpus: float = 0.0  # of a Ray task
    address: str = ""  # of a running Ray cluster; else one is started on this machine
    here: bool = False  # always in this process: for work that cannot be pickled

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            hint = nearest(self.name, ENGINES)
            raise UsageError(f"the engine {self.name!r} is unknown{hint}; it is one of {', '.join(ENGINES)}")
        if self.workers < 0 or self.gpus < 0:
            raise UsageError(f"workers and gpus cannot be negative; got {self.workers} and {self.gpus:g}")

    def open(self, task: Task, shards: int, *, isolate: bool = False) -> Pool:
        """Start what runs the task. `isolate`: never in this process, since a shard may take its process down."""
        if self.name == "ray":
            from ndec_builder.core.executor.ray import RayPool

            return RayPool(task, self)
        from ndec_builder.core.executor.local import InProcess, Processes

        workers = min(self.workers or self._fitting(shards), max(shards, 1))
        if self.here:
            return InProcess(task)
        if workers == 1 and shards <= SMALL_RUN and not isolate:
            return InProcess(task)
        return Processes(task, workers)

    def _fitting(self, shards: int) -> int:
        """Workers for the cores of this machine, each with some shards to do: starting one takes seconds."""
        return max(1, min((os.cpu_count() or 1) // self.threads, -(-shards // SMALL_RUN)))
