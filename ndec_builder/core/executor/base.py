"""Engines run one task on many shards. They see shards only; what a task does, and on which data, is not theirs.

`local`: this process, or worker processes that are replaced when they die. `ray`: tasks of a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.executor.plan import Done, Shard

ENGINES = ("local", "ray")


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
