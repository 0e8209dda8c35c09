"""The shard runner: an immutable plan, one shard → its files, then a marker. Resumes by looking at the markers.

A stage hands over `work(shard) -> {file name: what}`; which process runs it, and how many there are, never changes a
result file. A shard whose marker carries another fingerprint is done again; one that fails three times is set aside.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.console import progress, say
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.storage import read_json, sha256_file, write_json

MAX_TRIES = 3


@dataclass(frozen=True)
class Shard:
    """A range of a stage's items: [start, stop)."""

    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"part-{self.index:05d}"


@dataclass(frozen=True)
class Outcome:
    """What one shard left behind: its files, relative to the stage directory, and what it counted."""

    files: tuple[str, ...]
    counts: dict[str, int]


Work = Callable[[Shard], Outcome]


def plan(items: int, shard_size: int) -> list[Shard]:
    """Cut `items` into shards of `shard_size`; the cut depends on nothing else."""
    if shard_size < 1:
        raise NdecError(f"shard_size is {shard_size}; it must be at least 1")
    return [
        Shard(index, start, min(start + shard_size, items)) for index, start in enumerate(range(0, items, shard_size))
    ]


def run_shards(
    directory: Path, shards: Sequence[Shard], work: Work, fingerprint: str, *, workers: int = 1, what: str = "shards"
) -> dict[str, int]:
    """Run every shard that has no valid marker; return the summed counts of all shards.

    `work` runs in this process for one worker, else in spawned ones, so it must be picklable. Raises GapsError naming
    the shards set aside after MAX_TRIES; all others are finished by then, and a rerun tries only those again.
    """
    directory.mkdir(parents=True, exist_ok=True)
    outcomes = {shard.index: done for shard in shards if (done := _finished(directory, shard, fingerprint))}
    left = [shard for shard in shards if shard.index not in outcomes]
    if outcomes and left:
        say(f"{what}: {len(outcomes)} of {len(shards)} shards are done already, {len(left)} left")
    failed: dict[int, str] = {}
    total, done_items = (
        sum(s.stop - s.start for s in shards),
        sum(s.stop - s.start for s in shards if s.index in outcomes),
    )
    with progress() as bar:
        task = bar.add_task(what, total=total, completed=done_items)
        for shard, result in _results(left, work, workers):
            if isinstance(result, Exception):
                failed[shard.index] = f"{type(result).__name__}: {result}"
                continue
            _mark(directory, shard, fingerprint, result)
            outcomes[shard.index] = result
            bar.advance(task, shard.stop - shard.start)
    if failed:
        first = min(failed)
        raise GapsError(
            f"{what}: {len(failed)} of {len(shards)} shards were set aside after {MAX_TRIES} tries; shard {first} "
            f"failed with {failed[first]}. The others are done and kept: mend the cause and run the same command again"
        )
    counts: dict[str, int] = {}
    for index in sorted(outcomes):
        for name, value in outcomes[index].counts.items():
            counts[name] = counts.get(name, 0) + value
    return counts


def _results(shards: list[Shard], work: Work, workers: int) -> Iterator[tuple[Shard, Outcome | Exception]]:
    """Yield each shard with its outcome, or with the last error after MAX_TRIES. NdecErrors are not tried again."""
    if workers <= 1 or len(shards) <= 1:
        for shard in shards:
            yield shard, _try(work, shard)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unusable state
    with concurrent.futures.ProcessPoolExecutor(min(workers, len(shards)), mp_context=context) as pool:
        futures = {pool.submit(_try, work, shard): shard for shard in shards}
        for future in concurrent.futures.as_completed(futures):
            try:
                yield futures[future], future.result()
            except concurrent.futures.process.BrokenProcessPool as error:
                raise NdecError(
                    "a worker process died (out of memory, or killed). Finished shards are kept: "
                    "run the same command again, with fewer --workers if memory was short"
                ) from error


def _try(work: Work, shard: Shard) -> Outcome | Exception:
    error: Exception = RuntimeError("never tried")
    for _ in range(MAX_TRIES):
        try:
            return work(shard)
        except NdecError:
            raise  # a person has to act: trying again cannot help
        except Exception as caught:
            error = caught
    return error


def _marker(directory: Path, shard: Shard) -> Path:
    return directory / f"{shard.name}.done.json"


def _mark(directory: Path, shard: Shard, fingerprint: str, outcome: Outcome) -> None:
    write_json(
        _marker(directory, shard),
        {
            "fingerprint": fingerprint,
            "start": shard.start,
            "stop": shard.stop,
            "files": {name: sha256_file(directory / name) for name in outcome.files},
            "counts": outcome.counts,
        },
    )


def _finished(directory: Path, shard: Shard, fingerprint: str) -> Outcome | None:
    """The outcome of an earlier run, when its marker fits and its files are all there."""
    path = _marker(directory, shard)
    if not path.is_file():
        return None
    marker: dict[str, Any] = read_json(path)
    fits = (marker.get("fingerprint"), marker.get("start"), marker.get("stop")) == (
        fingerprint,
        shard.start,
        shard.stop,
    )
    if not fits or not all((directory / name).is_file() for name in marker["files"]):
        return None
    return Outcome(tuple(marker["files"]), marker["counts"])
