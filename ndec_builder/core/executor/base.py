"""Engines run one task on many shards. They know only shards, not what the task does.

`local`: this process, or worker processes that are replaced when they die. `ray`: tasks of a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.executor.plan import Done, Shard
from ndec_builder.core.executor.settings import ENGINES


@dataclass(frozen=True)
class Failed:
    """Why a shard has no result. `fatal`: someone has to act, so the run stops."""

    text: str
    fatal: NdecError | None = None
    innocent: bool = False  # its machine was lost; the shard is not to blame


Task = Callable[[Shard], Done | Failed]


def out_of_memory(what: str) -> str:
    """The text about a task that had too little memory, and what to do."""
    return (
        f"out of memory ({what or 'MemoryError'}). Run fewer tasks on a machine at a time: fewer workers, or more CPUs "
        "for each task (threads under [embed]); or use machines with more memory. A smaller batch_size under [embed] "
        "helps too"
    )


class Pool(Protocol):
    """Runs a task on shards, several at a time, in any order. `close` also stops shards that still run."""

    def free(self) -> bool:
        """Whether one more shard can be submitted."""

    def busy(self) -> bool:
        """Whether a result is outstanding."""

    def submit(self, shard: Shard) -> None: ...

    def next(self) -> tuple[Shard, Done | Failed]:
        """Wait for the result of any submitted shard."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Engine:
    """The engine and its resources. `threads`: cores that one task uses; 0: all of a machine."""

    name: str = "local"
    workers: int = 0  # at a time; 0: as many as the cores allow
    threads: int = 1
    gpus: float = 0.0  # of a Ray task
    address: str = ""  # of a running Ray cluster; empty: start one on this machine
    here: bool = False  # always in this process, for work that cannot be pickled

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            hint = nearest(self.name, ENGINES)
            raise UsageError(f"the engine {self.name!r} is unknown{hint}; it is one of {', '.join(ENGINES)}")
        if self.workers < 0 or self.gpus < 0:
            raise UsageError(f"workers and gpus cannot be negative; got {self.workers} and {self.gpus:g}")


_task_threads = 0


def task_threads() -> int:
    """Cores that the running task may use; 0: not limited. Only a cluster limits them."""
    return _task_threads


def limit_threads(threads: int) -> None:
    """Before a task: what `task_threads` tells it."""
    global _task_threads
    _task_threads = threads


def engine_of(config: Any, threads: int = 1) -> Engine:
    """The engine of a config with `engine` and `ray_address`, and perhaps `workers`."""
    return Engine(config.engine, getattr(config, "workers", 0), threads, address=config.ray_address)
