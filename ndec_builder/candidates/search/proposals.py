"""What a rough first pass hands over: a superset of the pairs worth scoring, and a proven bound on what it left out.

A first pass computes approximate scores of a block of queries with all references. It is told which pairs are wanted
(floors for references and for queries) and a depth (how many pairs of a query are worth having). It may leave a pair
out only if its exact score is below one of its floors, or at most the query's bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

PRUNE_AT = 4  # times the depth: pairs held per query before each is cut back to its depth


@dataclass(frozen=True)
class Rough:
    """Pairs (rows[i], columns[i]) of a block; what is left out of row r scores at most bounds[r] (−inf: nothing is)."""

    rows: np.ndarray  # (pairs,) int64, rows of the block
    columns: np.ndarray  # (pairs,) int64, rows of the references
    bounds: np.ndarray  # (block,) float32, in exact scores


@dataclass(frozen=True)
class Wanted:
    """Wanted are pairs whose exact score reaches the floor of the reference, (m,), and of the query, (b,); float32.

    depth: so many pairs of each query are worth having; more may be left out. −inf: no floor.
    """

    references: np.ndarray
    queries: np.ndarray
    depth: int


class FirstPass(Protocol):
    """bf16 matrix products, FAISS on CPU or GPU, or an approximate index."""

    def search(self, block: np.ndarray, wanted: Wanted) -> Rough:
        """Search block (b, d) float16 among all references."""
        ...


class Collector:
    """Gathers rough pairs of one block, reference tile by reference tile, in bounded memory."""

    def __init__(self, rows: int, depth: int) -> None:
        self.depth = depth
        self.cut = np.full(rows, -np.inf, dtype=np.float32)  # left-out pairs of a row have a rough score ≤ this
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.held = 0
        self.limit = PRUNE_AT * rows * depth

    def add(self, rows: np.ndarray, columns: np.ndarray, rough: np.ndarray) -> None:
        self.parts.append((rows, columns, rough))
        self.held += len(rows)
        if self.held > self.limit:
            self.prune()

    def leave_out(self, rows: np.ndarray, rough: np.ndarray) -> None:
        """Say that pairs of these rows with rough scores up to `rough` were left out."""
        np.maximum.at(self.cut, rows, rough)

    def prune(self) -> None:
        """Cut every row back to its `depth` best rough scores above its cut."""
        rows, columns, rough = self.pairs()
        order = np.lexsort((-rough, rows))
        rows, columns, rough = rows[order], columns[order], rough[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # in the list of its row
        over = np.flatnonzero(place == self.depth)
        self.leave_out(rows[over], rough[over])
        keep = place < self.depth
        self.parts, self.held = [(rows[keep], columns[keep], rough[keep])], int(keep.sum())
        self.limit = max(self.limit, 2 * self.held)

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All pairs held (rows, columns, rough scores), without those that their row's cut covers."""
        none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        rows, columns, rough = (np.concatenate(part) for part in zip(none, *self.parts, strict=True))
        keep = rough > self.cut[rows]
        return rows[keep], columns[keep], rough[keep]


def bounds_of(cut: np.ndarray, margin: float | np.ndarray) -> np.ndarray:
    """Bounds in exact scores, for left-out rough scores ≤ cut (b,) that are off by at most `margin`.

    One float32 step up, since exact scores are rounded to float32 too. −inf stays: nothing was left out.
    """
    above = np.nextafter((cut.astype(np.float64) + margin).astype(np.float32), np.float32(np.inf))
    return np.where(np.isneginf(cut), cut, above)


def lowest_rough(floors: np.ndarray, margin: float) -> np.ndarray:
    """The float32 that a rough score reaches at least when the exact score reaches its floor; two steps down."""
    low = (floors.astype(np.float64) - margin).astype(np.float32)
    return np.nextafter(np.nextafter(low, np.float32(-np.inf)), np.float32(-np.inf))
