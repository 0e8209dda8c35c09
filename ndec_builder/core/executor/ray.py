"""Shards as Ray Core tasks. Every node needs ndec, and the workspace under the same path: a shared file system.

Ray itself tries nothing again (`max_retries=0`): the runner counts tries, and tells a shard that kills its worker from
a node that is lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndec_builder.core.config import pixel_limit, set_pixel_limit
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import Engine, Failed, Task, limit_threads, out_of_memory
from ndec_builder.core.executor.machines import Machine, this_machine
from ndec_builder.core.executor.plan import Done, Shard

_RECOUNT_SECONDS = 15.0  # seconds between two counts of the nodes


_sessions: list[bool] = []  # one entry for each open session
_ours = False  # this module connected to the cluster, not the program that uses ndec


@contextlib.contextmanager
def ray_session() -> Iterator[None]:
    """While it is open, all pools share one connection: a cluster started here stays, and so do its processes."""
    _sessions.append(True)
    try:
        yield
    finally:
        _sessions.pop()
        _disconnect()


class RayPool:
    """Queues enough tasks that no node waits. Outside of a session, a cluster started here stops with the pool."""

    def __init__(self, task: Task, engine: Engine) -> None:
        self._engine, self._ray = engine, _import()
        self._running: dict[Any, Shard] = {}
        self._processors: set[str] = set()  # those that were reported
        if not self._ray.is_initialized():
            _connect(self._ray, engine.address)
        try:
            if not engine.threads:  # a task that has a machine to itself
                self._engine = replace(engine, threads=int(min(node.get("CPU", 1) for node in self._nodes()) or 1))
            slots = self._slots()
            if not slots:
                raise NdecError(
                    f"no node of the Ray cluster has {self._engine.threads} CPUs and {engine.gpus:g} GPUs for a task; "
                    "lower threads or task_gpus, or start a larger node"
                )
        except BaseException:
            self.close()
            raise
        nodes = number_of(len(self._nodes()), "node")
        say(f"Ray: {number_of(slots, 'task')} at a time on {nodes}")
        self._limit = engine.workers or 2 * slots  # one running and one queued per slot
        self._looked = time.monotonic()
        # Ray would end a process after each task with a GPU (max_calls=1), which would load its model again and again
        options = {"num_cpus": self._engine.threads, "num_gpus": engine.gpus, "max_retries": 0, "max_calls": 0}
        self._remote = self._ray.remote(scheduling_strategy="SPREAD", **options)(_run_there)
        self._task = self._ray.put(task)

    def free(self) -> bool:
        return len(self._running) < self._limit

    def busy(self) -> bool:
        return bool(self._running)

    def submit(self, shard: Shard) -> None:
        here = str(Path.cwd()), self._engine.threads, pixel_limit()
        self._running[self._remote.remote(self._task, shard, *here)] = shard

    def next(self) -> tuple[Shard, Done | Failed]:
        while True:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_RECOUNT_SECONDS)
            self._follow_the_cluster()
            if ready:
                break
        shard = self._running.pop(ready[0])
        errors = self._ray.exceptions
        losses = (errors.NodeDiedError, errors.LocalRayletDiedError, errors.ObjectLostError, errors.RaySystemError)
        try:
            result, where = self._ray.get(ready[0])
        except losses as lost:
            return shard, Failed(f"its node was lost ({_first_line(lost)})", innocent=True)
        except errors.OutOfMemoryError as error:  # killed by Ray before the system would
            return shard, Failed(f"its Ray worker was killed: {out_of_memory(_first_line(error))}")
        except errors.RayError as error:  # WorkerCrashedError
            return shard, Failed(f"its Ray worker died ({type(error).__name__}: {_first_line(error)})")
        return shard, self._refusal(where) or _with_node(result, where)

    def _refusal(self, where: Machine) -> Failed | None:
        """Why the result of a machine is not accepted: its packages differ. A different processor is said once."""
        here = this_machine()
        if differences := here.differences(where):
            text = f"the node {where.host} has other packages than this machine: {differences}; install the same ones"
            return Failed(text, fatal=NdecError(text))
        if where.processor != here.processor and where.processor not in self._processors:
            self._processors.add(where.processor)
            say(
                f"the node {where.host} has another type of processor ({where.processor}) than this machine "
                f"({here.processor}): scores of a search are the same, vectors and geometry may differ in their last "
                "digits"
            )
        return None

    def close(self) -> None:
        for reference in self._running:
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=True)
        _disconnect()

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _slots(self) -> int:
        """Number of tasks that fit on the live nodes."""
        fits = [[node.get("CPU", 0) // self._engine.threads] for node in self._nodes()]
        if self._engine.gpus:
            for fit, node in zip(fits, self._nodes(), strict=False):
                fit.append(node.get("GPU", 0) // self._engine.gpus)
        return sum(int(min(fit)) for fit in fits)

    def _follow_the_cluster(self) -> None:
        """Adapt to nodes that were added or lost."""
        if time.monotonic() - self._looked < _RECOUNT_SECONDS:
            return
        self._looked = time.monotonic()
        slots = self._slots()
        if not slots:
            say("Ray: no node is left with room for a task; waiting for one")
        self._limit = self._engine.workers or max(2 * slots, 1)


def _with_node(result: Done | Failed, where: Machine) -> Done | Failed:
    """A failure on another machine names that machine: its disk may be full, or mounted without write access."""
    if isinstance(result, Done) or where.host == this_machine().host:
        return result
    text = f"on the node {where.host}: {result.text}"
    return replace(result, text=text, fatal=None if result.fatal is None else type(result.fatal)(text))


def _run_there(task: Task, shard: Shard, folder: str, threads: int, pixels: int) -> tuple[Done | Failed, Machine]:
    limit_threads(threads)
    set_pixel_limit(pixels)
    with contextlib.suppress(OSError):  # relative paths are those of the command
        os.chdir(folder)
    return task(shard), this_machine()


def _import() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's announced default; silences its warning
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise NdecError(f"--engine ray needs Ray ({error}); run `pip install 'ndec-builder[cluster]'`") from None
    return ray


def _connect(ray: Any, address: str) -> None:
    """Join the cluster at `address` (or $RAY_ADDRESS); without an address start a cluster on this machine."""
    global _ours
    address = address or os.environ.get("RAY_ADDRESS", "")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.suppress(AttributeError):  # its messages about lost nodes would go to stdout
        ray._private.worker._worker_logs_enabled = False
    try:
        if address:
            _check_reachable(address)
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", include_dashboard=False, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise NdecError(
            f"no Ray cluster answers at {address or 'this machine'} ({_first_line(error)}); see `ray status`, or leave "
            "out --ray-address to start one here"
        ) from None
    _ours = True


def _disconnect() -> None:
    """Leave the cluster after the last session, and stop it if it was started here."""
    global _ours
    if _ours and not _sessions:
        _import().shutdown()
        _ours = False


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at an address, for which Ray itself would wait minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
