"""Shards in this process or in worker processes. A worker that dies loses only its own shard and is replaced."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.asking import Answerer, Question, answering, ask_over, nobody, reply_over
from ndec_builder.core.executor.base import Failed, Task
from ndec_builder.core.executor.memory import return_freed_memory
from ndec_builder.core.executor.plan import Done, Shard


class InProcess:
    """One shard after the other in this process: fast to start, and a debugger works."""

    def __init__(self, task: Task, answer: Answerer = nobody) -> None:
        self._task, self._answer = task, answer
        self._next: Shard | None = None

    def free(self) -> bool:
        return self._next is None

    def busy(self) -> bool:
        return self._next is not None

    def submit(self, shard: Shard) -> None:
        self._next = shard

    def next(self) -> tuple[Shard, Done | Failed]:
        assert self._next is not None, "nothing was submitted"
        shard, self._next = self._next, None
        with answering(self._answer):
            return shard, self._task(shard)

    def close(self) -> None:
        self._next = None


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    shard: Shard | None = None
    ready: bool = False  # it has started and loaded the task


class Processes:
    """`count` spawned processes (fork would copy torch's threads in an unusable state), each with its own pipe."""

    def __init__(self, task: Task, count: int, answer: Answerer = nobody) -> None:
        self._task, self._answer = task, answer
        self._count = count
        self._workers: list[_Worker] = []
        self._answering = ThreadPoolExecutor(count)  # starts threads when questions come
        gc.collect()  # models are in cycles: 50 MiB for each that an earlier step used
        return_freed_memory()  # the workers need it, and this process mostly waits for them

    def free(self) -> bool:
        return sum(worker.shard is not None for worker in self._workers) < self._count

    def busy(self) -> bool:
        return any(worker.shard is not None for worker in self._workers)

    def submit(self, shard: Shard) -> None:
        worker = next((worker for worker in self._workers if worker.shard is None), None) or self._start()
        worker.shard = shard
        with contextlib.suppress(OSError):  # it died while idle; `next` notices the closed pipe
            worker.connection.send(shard)

    def next(self) -> tuple[Shard, Done | Failed]:
        while True:
            ready = wait([worker.connection for worker in self._workers if worker.shard is not None])
            worker = next(worker for worker in self._workers if worker.connection in ready)
            shard = worker.shard
            assert shard is not None
            try:
                result: Done | Failed | Question | None = worker.connection.recv()
            except (EOFError, OSError):
                return shard, self._reap(worker)
            if isinstance(result, Question):
                self._answering.submit(reply_over, worker.connection, self._answer, result)
                continue
            if result is not None:
                worker.shard = None
                return shard, result
            worker.ready = True

    def close(self) -> None:
        self._answering.shutdown(cancel_futures=True)  # before its connections are closed
        for worker in self._workers:
            worker.connection.close()  # an idle worker then exits
            if worker.shard is not None:
                worker.process.kill()  # results are atomic: only this shard is lost
        for worker in self._workers:
            worker.process.join(5)
            worker.process.kill()  # in case an idle one has not exited
            worker.process.join()
        self._workers.clear()

    def _reap(self, worker: _Worker) -> Failed:
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)
        death = _cause_of_death(worker.process.exitcode)
        if worker.ready or (worker.process.exitcode or 0) < 0:  # killed while it started: not the fault of the program
            return Failed(f"its worker process {death}")
        text = (
            f"the worker processes cannot start: one {death} before it had a shard, with the message above. A Python "
            'script that calls ndec needs the line `if __name__ == "__main__":`'
        )
        return Failed(text, fatal=NdecError(text))

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(_NoCollections(), theirs, self._task), daemon=True)
        process.start()
        theirs.close()  # otherwise this end would stay open when the worker dies
        worker = _Worker(process, mine)
        self._workers.append(worker)
        return worker


class _NoCollections:
    """Ends Python's garbage collections when it is unpickled: before the task, whose modules are loaded then."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return gc.disable, ()


def _serve(_: None, connection: Connection, task: Callable[[Shard], Done | Failed]) -> None:
    """The main function of a worker process."""
    gc.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles Ctrl-C and stops its workers
    threading.Thread(target=_die_with_the_command, daemon=True).start()
    connection.send(None)  # ready
    with answering(ask_over(connection)):
        while True:
            try:
                shard = connection.recv()
            except EOFError:
                return
            connection.send(task(shard))
            return_freed_memory()


def _die_with_the_command() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # the command was killed; a new run will redo this shard


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"ended with exit code {exitcode}"
    name = signal.Signals(-exitcode).name if -exitcode in set(signal.Signals) else f"signal {-exitcode}"
    return f"died of {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
