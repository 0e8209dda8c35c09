"""How much an approximate search misses: the same queries searched exactly, for a sample of the pool."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ndec_builder.candidates.search.exact import search_block, shift
from ndec_builder.candidates.search.pairs import Pairs, Vectors
from ndec_builder.candidates.search.proposals import FirstPass, Wanted

SAMPLE = 1000
DEPTH = 32  # pairs compared per query


@dataclass(frozen=True)
class Recall:
    """What the approximate search found of what the exact one finds."""

    queries: int  # searched both ways
    nearest: float  # share of them whose nearest reference was found
    pairs: int  # exact pairs of them at or above the cut, the best 32 of each
    pairs_found: float | None  # share of these that was found; None without any

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)

    def __str__(self) -> str:
        above = "no pair of them reaches the cut"
        if self.pairs_found is not None:
            above = f"{self.pairs_found:.2%} of their {self.pairs} pairs at or above the cut"
        return f"recall on {self.queries} sampled queries: {self.nearest:.2%} of the nearest references, {above}"


def measure_recall(
    queries: Vectors,
    references: np.ndarray,
    approximate: FirstPass,
    exact: FirstPass,
    cut: float,
    offsets: np.ndarray | None = None,
) -> Recall:
    """Search evenly spread queries both ways. A nearest reference counts as found when one of equal score was."""
    rows = np.linspace(0, len(queries) - 1, min(SAMPLE, len(queries))).astype(np.int64)
    vectors = queries[rows]
    taken = np.zeros(len(rows)) if offsets is None else offsets[rows]
    truth, found = (_lists(vectors, references, engine, taken) for engine in (exact, approximate))
    nearest, best = (_best(pairs, len(rows)) for pairs in (found, truth))
    have = set(zip(found.queries.tolist(), found.references.tolist(), strict=True))
    above = truth.take(np.flatnonzero(truth.scores >= np.float32(cut)))
    hits = [pair in have for pair in zip(above.queries.tolist(), above.references.tolist(), strict=True)]
    return Recall(len(rows), float(np.mean(nearest == best)), len(above), float(np.mean(hits)) if hits else None)


def _lists(vectors: np.ndarray, references: np.ndarray, engine: FirstPass, offsets: np.ndarray) -> Pairs:
    none = np.full(len(references), -np.inf, dtype=np.float32), np.full(len(vectors), -np.inf, dtype=np.float32)
    pairs, _ = search_block(vectors, references, engine, Wanted(*none, min(DEPTH, len(references))))
    return Pairs(pairs.queries, pairs.references, shift(pairs.scores, offsets[pairs.queries]))


def _best(pairs: Pairs, rows: int) -> np.ndarray:
    best = np.full(rows, -np.inf, dtype=np.float32)
    np.maximum.at(best, pairs.queries, pairs.scores)
    return best
