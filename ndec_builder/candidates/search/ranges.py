"""The exact search of `exact.top_pairs` in ranges of queries, on any engine: same pairs, same bytes.

A range task searches its queries among all references, and writes the pairs it found and a bound per query. Why the
greedy answer over these pairs is the answer over all pairs:

* Each query is in one range, so only the caps of references and `top` connect the ranges.
* The greedy walk is a stable matching (`selection`): more pairs never lower the worst pair of a reference at its cap,
  nor the last of the top N. So the floors of any subset of pairs, of one range or of all ranges merged so far, are
  floors of the final answer. A task drops pairs below its own floors and those merged when it started. Pairs equal to
  a floor stay. The moment at which a task reads the floors changes its file, but not the answer.
* A reference filled by other ranges can free the quota of a query, which then takes a pair further down its list. The
  list of a query holds every pair above its bound that reaches the floors. So the walk over the merged lists is the
  walk over all pairs if no query below its quota has a bound at or above the final cut. Those that do are searched
  again, four times as deep, in ranges of the next round, until none is left or their lists hold all references.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndec_builder.candidates.search.exact import search_into
from ndec_builder.candidates.search.pairs import Pairs, join_pairs
from ndec_builder.candidates.search.rounds import Rounds
from ndec_builder.candidates.search.score_normalization import Normalization
from ndec_builder.candidates.search.selection import Caps, PairSelection
from ndec_builder.candidates.search.shared_vectors import SharedSearch, VectorFiles, load_once, save_array
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.memory import return_freed_memory
from ndec_builder.core.executor.plan import Done, Plan, Shard, check_files, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import step
from ndec_builder.core.storage import atomic_path, fingerprint

RANGE_WORK = 1e13  # multiplications of a range at most: 10 to 30 s on a few cores
LEAST_RANGE_WORK = 5e11  # at least: 5 s on one core, of which a range costs 0.1 s of its own
FEWEST_RANGES = 16  # of a search that is large enough: with fewer, machines would wait for the last range
MERGE_AT = 4096  # pairs merged, at least, between two rises of the floors
_VERSION = 1  # of the files of a range


@dataclass(frozen=True)
class Shift:
    """Lowers the scores of each query by its background score."""

    normalization: Normalization
    background: VectorFiles

    def offsets(self, vectors: np.ndarray, search: str) -> np.ndarray:
        """(b,) float64 for queries (b, d)."""
        return self.normalization.offsets(vectors, load_once(self.background), search)


class RangedSearch:
    """One search in ranges of `range_size` queries (0: by the work).

    Finished ranges stay under `scratch` until the caller removes them: a killed run continues. `mark`: fingerprint of
    the vectors and of everything else that changes the answer.
    """

    def __init__(
        self,
        shared: SharedSearch,
        caps: Caps,
        engine: Engine,
        scratch: Path,
        mark: str,
        shift: Shift | None = None,
        range_size: int = 0,
    ) -> None:
        self.shared, self.caps, self.shift = shared, caps, shift
        self.engine, self.scratch, self.mark = engine, scratch, mark
        references = shared.references
        self.range_size = range_size or range_size_for(shared.queries.size, references.size, references.dim)
        self.rounds = Rounds(np.arange(shared.queries.size), np.arange(references.size), caps)
        self.ranges: list[int] = []  # of each round, the sample first
        self._merged = 0  # pairs since the floors were last raised

    def run(self) -> Pairs:
        """`exact.top_pairs` with ids in the order of their rows. Raises GapsError when a range keeps failing."""
        rounds = self.rounds
        if len(ahead := rounds.sampled_rows()):
            folder, plan, task = self._plan(ahead, np.float32(-np.inf), is_sample=True)
            results = run_shards(folder, plan, task, self.engine, what="searching a sample", unit="images")
            found = [_read(folder, shard, done) for shard, done in zip(plan.shards, results, strict=True)]
            rounds.add_sample(ahead, join_pairs([pairs for pairs, _ in found]), np.concatenate([b for _, b in found]))
            rounds.selection.settle()
        while len(rounds.rows):
            folder, plan, task = self._plan(rounds.rows, rounds.guess())
            merge = functools.partial(self._merge, folder)
            run_shards(folder, plan, task, self.engine, what="searching", unit="images", on_done=merge)
            rounds.close()
        return rounds.selection.best

    def _plan(self, rows: np.ndarray, guess: np.float32, *, is_sample: bool = False) -> tuple[Path, Plan, RangeTask]:
        """The ranges of one round over `rows` (k,) int64."""
        digest = hashlib.sha256(rows.tobytes()).hexdigest()
        plan = Plan(len(rows), self.range_size, fingerprint([_VERSION, self.mark, self.rounds.depth, digest]))
        folder = open_plan(self.scratch / f"round-{len(self.ranges):02d}", plan).absolute()
        save_array(folder / "rows.npy", rows)
        save_array(folder / "floors.npy", self.rounds.selection.floors)
        self.ranges.append(len(plan.shards))
        task = RangeTask(self.shared, self.caps, folder, self.rounds.depth, float(guess), self.shift, is_sample)
        return folder, plan, task

    def _merge(self, folder: Path, shard: Shard, done: Done) -> None:
        """Add the result of a range; after enough new pairs, raise the floors of the ranges that start later."""
        selection = self.rounds.selection
        pairs, bounds = _read(folder, shard, done)
        selection.add(pairs)
        self.rounds.bounds[self.rounds.rows[shard.start : shard.stop]] = bounds
        self._merged += len(pairs)
        if self._merged >= max(MERGE_AT, self.caps.top):
            selection.settle()
            save_array(folder / "floors.npy", selection.floors)
            self._merged = 0


@dataclass(frozen=True)
class RangeTask:
    """Searches one range of the rows in `folder`; picklable."""

    shared: SharedSearch
    caps: Caps
    folder: Path
    depth: int
    guess: float
    shift: Shift | None
    is_sample: bool

    def __call__(self, shard: Shard) -> Outcome:
        queries, references, first_pass = self.shared.open()
        rows = np.array(np.load(self.folder / "rows.npy", mmap_mode="r")[shard.start : shard.stop])
        selection = PairSelection(np.arange(len(rows)), np.arange(len(references)), self.caps)
        selection.floors = np.load(self.folder / "floors.npy")
        bounds = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), self.shared.block):
            some = np.arange(start, min(start + self.shared.block, len(rows)))
            vectors = queries[rows[some]]
            offsets = np.zeros(len(some)) if self.shift is None else self.shift.offsets(vectors, self.shared.search)
            bounds[some] = search_into(
                selection, some, vectors, references, first_pass, offsets, np.float32(self.guess), self.depth
            )
            step(len(some))
            return_freed_memory()
        if not self.is_sample:  # the sample estimates how many pairs reach a score
            selection.settle()
        pairs = selection.pairs()
        path = self.folder / f"{shard.name}.npz"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            arrays = {"queries": rows[pairs.queries], "references": pairs.references, "scores": pairs.scores}
            np.savez(file, bounds=bounds, **arrays)
        return Outcome((path.name,), {"pairs": len(pairs), "queries": len(rows)})


def _read(folder: Path, shard: Shard, done: Done) -> tuple[Pairs, np.ndarray]:
    """The pairs of a range, as rows of all queries, and the bounds of its queries."""
    check_files(folder, shard, done)
    with np.load(folder / f"{shard.name}.npz", allow_pickle=False) as found:
        return Pairs(found["queries"], found["references"], found["scores"]), found["bounds"]


def range_size_for(queries: int, references: int, dim: int) -> int:
    """Queries per range, a multiple of 1,024: RANGE_WORK multiplications, less where there would be few ranges."""
    work = min(RANGE_WORK, max(queries * references * dim / FEWEST_RANGES, LEAST_RANGE_WORK))
    return 1024 * max(1, round(work / (1024 * references * dim)))
