"""The shard runner: an immutable plan, one shard → its files, then a marker. Finished markers are skipped on resume.

A stage provides `work(shard) -> Outcome`; the number and kind of processes and machines never change a result file. A
shard that fails is retried after the others, up to MAX_TRIES tries; then it is set aside. The same applies to a shard
that kills its worker process. A lost machine does not count as a try.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ndec_builder.core.access.remote import RemoteReadError
from ndec_builder.core.console import Bars, progress, say
from ndec_builder.core.errors import GapsError, LowMemoryError, NdecError
from ndec_builder.core.executor import plan as plans
from ndec_builder.core.executor.asking import Answerer, nobody
from ndec_builder.core.executor.base import Engine, Failed, Pool, Task, engine_of, out_of_memory
from ndec_builder.core.executor.plan import Done, Plan, Shard
from ndec_builder.core.executor.progress import ProgressFile
from ndec_builder.core.executor.shard_items import PAUSE, counting, items_inside
from ndec_builder.core.storage import sha256_file

_Result = TypeVar("_Result")
# how torch (CPU, GPU), C++ libraries and OpenCV say it without a MemoryError
_NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "Insufficient memory")
MAX_TRIES = 3
SMALL_RUN = 4  # shards; starting a process for so few costs more than it saves
MAX_LOSSES = 20  # lost machines per shard; more cannot be chance


@dataclass(frozen=True)
class Outcome:
    """The files of one shard, relative to the plan's folder, and its counts."""

    files: tuple[str, ...]
    counts: dict[str, int]


Work = Callable[[Shard], Outcome]


def run_shards(
    folder: Path,
    plan: Plan,
    work: Work,
    engine: Engine | None = None,
    *,
    what: str = "shards",
    unit: str = "items",
    effort: Callable[[float], float] = float,
    on_done: Callable[[Shard, Done], None] | None = None,
    answer: Answerer = nobody,
) -> list[Done]:
    """Run every shard that has no valid marker in `folder` (`plans.open_plan`); return the results of all, in order.

    `work` must be picklable. `effort`: the work in the first n items, for the forecast (`Pace`). `on_done` is called in
    this process for each finished shard, in any order, and first for those of an earlier run. `answer` is called in
    this process, in threads, for what the work asks (`asking.ask`); not with Ray. Raises GapsError naming the shards
    set aside; all others are finished by then, and a rerun retries only those. An NdecError of the work stops the run
    at once.
    """
    engine = engine or Engine()
    shards = plan.shards
    plans.clear_failures(folder)
    results = {shard.index: done for shard in shards if (done := plans.finished(folder, plan, shard))}
    left = [shard for shard in shards if shard.index not in results]
    if results and left:
        say(f"{what}: {len(results)} of {len(shards)} shards are already done, {len(left)} left")
        if changed := plans.changed_packages(folder):
            say(f"{what}: these shards were begun with {changed}; delete {folder} to redo them with the packages here")
    for shard in shards:
        if on_done is not None and shard.index in results:
            on_done(shard, results[shard.index])
    failed: dict[int, str] = {}
    if left:
        isolate = bool(plans.suspects(folder) & {shard.name for shard in left})
        task = functools.partial(perform, work, folder)
        pool = open_pool(engine, task, len(left), isolate=isolate, answer=answer)
        status = ProgressFile(folder, shards, results, what=what, unit=unit, engine=engine.name, effort=effort)
        try:
            _run(pool, left, folder, plan, status, results, failed, on_done)
        finally:
            status.close()
            pool.close()
    if failed:
        raise GapsError(_gaps(what, folder, shards, failed))
    return [results[shard.index] for shard in shards]


@contextlib.contextmanager
def engine_session(engine: Engine) -> Iterator[None]:
    """While it is open, all shards of a command share one connection to the cluster; nothing for the local engine."""
    if engine.name != "ray":
        yield
        return
    from ndec_builder.core.executor.ray import ray_session

    with ray_session():
        yield


def on_engine(run: Callable[[Any], _Result]) -> Callable[[Any], _Result]:
    """Decorate the `run(config)` of a stage: its shards share one `engine_session` of the engine in the config."""

    @functools.wraps(run)
    def in_session(config: Any) -> _Result:
        with engine_session(engine_of(config)):
            return run(config)

    return in_session


def open_pool(engine: Engine, task: Task, shards: int, *, isolate: bool = False, answer: Answerer = nobody) -> Pool:
    """Start the pool for a task. `isolate`: never in this process, because a shard may kill it."""
    if engine.name == "ray":
        from ndec_builder.core.executor.ray import RayPool

        return RayPool(task, engine)
    from ndec_builder.core.executor.local import InProcess, Processes

    workers = min(engine.workers or _fitting(engine, shards), max(shards, 1))
    if engine.here:
        return InProcess(task, answer)
    if workers == 1 and shards <= SMALL_RUN and not isolate:
        return InProcess(task, answer)
    return Processes(task, workers, answer)


def _fitting(engine: Engine, shards: int) -> int:
    """Workers for the cores of this machine, each with several shards, because starting one takes seconds."""
    return max(1, min((os.cpu_count() or 1) // max(1, engine.threads), -(-shards // SMALL_RUN)))


def _run(
    pool: Pool,
    left: list[Shard],
    folder: Path,
    plan: Plan,
    status: ProgressFile,
    results: dict[int, Done],
    failed: dict[int, str],
    on_done: Callable[[Shard, Done], None] | None,
) -> None:
    waiting, tries, losses = deque(left), Counter[int](), Counter[int]()
    running: set[Shard] = set()
    with progress() as bar, _following(bar, folder, plan, status, running):
        while waiting or pool.busy():
            while waiting and pool.free():
                running.add(waiting[0])
                pool.submit(waiting.popleft())
            shard, result = pool.next()
            running.discard(shard)
            if isinstance(result, Done):
                plans.mark(folder, plan, shard, result)
                results[shard.index] = result
                status.done(shard)
                if on_done is not None:
                    on_done(shard, result)
                continue
            if result.fatal is not None:
                raise result.fatal
            counter, limit = (losses, MAX_LOSSES) if result.innocent else (tries, MAX_TRIES)
            counter[shard.index] += 1
            if counter[shard.index] < limit:
                waiting.append(shard)
            else:
                failed[shard.index] = result.text
                plans.set_aside(folder, shard, result.text, counter[shard.index])
                status.failed(shard)


@contextlib.contextmanager
def _following(bar: Bars, folder: Path, plan: Plan, status: ProgressFile, running: set[Shard]) -> Iterator[None]:
    """A bar that moves with every item, also inside shards: a thread reads how far the running ones are."""
    task = bar.add_task(status.what, total=plan.items, completed=status.items_done, effort=status.effort)
    finished = threading.Event()

    def follow() -> None:
        while not finished.wait(PAUSE):
            bar.update(task, completed=status.inside(sum(items_inside(folder, shard) for shard in running.copy())))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        bar.update(task, completed=status.items_done)


def perform(work: Work, folder: Path, shard: Shard) -> Done | Failed:
    """Process one shard; every error is returned as a value that any process can unpickle."""
    started = folder / f"{shard.name}.started"
    try:
        with contextlib.suppress(OSError):  # the work itself reports a full disk better
            started.touch()
        with counting(folder, shard):
            outcome = work(shard)
        done = Done({name: sha256_file(folder / name) for name in outcome.files}, outcome.counts)
    except RemoteReadError as error:  # the network may be back at the next try
        return Failed(str(error))
    except LowMemoryError as error:
        return Failed(out_of_memory(str(error)))
    except NdecError as error:
        return Failed(str(error), fatal=error)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        is_memory = isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)
        return Failed(out_of_memory(text) if is_memory else text)
    finally:
        with contextlib.suppress(OSError):
            started.unlink()
    return done


def _gaps(what: str, folder: Path, shards: list[Shard], failed: dict[int, str]) -> str:
    first = shards[min(failed)]
    names = ", ".join(str(index) for index in sorted(failed)[:10]) + (" …" if len(failed) > 10 else "")
    return (
        f"{what}: {len(failed)} of {len(shards)} shards were set aside after {MAX_TRIES} tries: {names}. Shard "
        f"{first.index} (rows {first.start} to {first.stop - 1}) failed with: {failed[first.index]}. The others are "
        f"done and kept in {folder}: fix the cause and run the same command again"
    )
