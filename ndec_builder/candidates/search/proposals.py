"""The interface of a first pass: it proposes pairs to score, with a proven bound on the pairs it leaves out.

A first pass computes approximate scores of a block of queries with all references. The request names floors for
references and queries, and a depth: how many pairs per query to propose. A first pass may leave out a pair only if its
exact score is below one of its floors, or at most the bound of its query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

PRUNE_AT = 4  # times the depth: pairs held per query before each query is cut to its depth


@dataclass(frozen=True)
class Proposals:
    """Pairs (rows[i], columns[i]) of a block. Pairs left out of row r score at most bounds[r] (−inf: none)."""

    rows: np.ndarray  # (pairs,) int64, rows of the block
    columns: np.ndarray  # (pairs,) int64, rows of the references
    bounds: np.ndarray  # (block,) float32, in exact scores


@dataclass(frozen=True)
class SearchRequest:
    """Asks for pairs whose exact score reaches the floors of the reference, (m,), and of the query, (b,); float32.

    −inf: no floor. `depth`: pairs per query to propose; more may be left out.
    """

    references: np.ndarray
    queries: np.ndarray
    depth: int


class FirstPass(Protocol):
    """bf16 matrix products, or FAISS on CPU or GPU."""

    def search(self, block: np.ndarray, wanted: SearchRequest) -> Proposals:
        """Search block (b, d) float16 among all references."""
        ...


class Collector:
    """Collects proposed pairs of one block, tile by tile, in bounded memory."""

    def __init__(self, rows: int, depth: int) -> None:
        self.depth = depth
        self.cut = np.full(rows, -np.inf, dtype=np.float32)  # pairs left out of a row have an approximate score ≤ this
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.held = 0
        self.limit = PRUNE_AT * rows * depth

    def add(self, rows: np.ndarray, columns: np.ndarray, rough: np.ndarray) -> None:
        self.parts.append((rows, columns, rough))
        self.held += len(rows)
        if self.held > self.limit:
            self.prune()

    def leave_out(self, rows: np.ndarray, rough: np.ndarray) -> None:
        """Record that pairs of these rows with approximate scores up to `rough` were left out."""
        np.maximum.at(self.cut, rows, rough)

    def prune(self) -> None:
        """Cut every row to its `depth` best approximate scores above its cut."""
        rows, columns, rough = self.pairs()
        order = np.lexsort((-rough, rows))
        rows, columns, rough = rows[order], columns[order], rough[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # position in the list of its row
        over = np.flatnonzero(place == self.depth)
        self.leave_out(rows[over], rough[over])
        keep = place < self.depth
        self.parts, self.held = [(rows[keep], columns[keep], rough[keep])], int(keep.sum())
        self.limit = max(self.limit, 2 * self.held)

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All pairs held (rows, columns, approximate scores) that exceed the cut of their row."""
        none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        rows, columns, rough = (np.concatenate(part) for part in zip(none, *self.parts, strict=True))
        keep = rough > self.cut[rows]
        return rows[keep], columns[keep], rough[keep]


def bounds_of(cut: np.ndarray, margin: float | np.ndarray) -> np.ndarray:
    """Bounds in exact scores for pairs left out with approximate scores ≤ cut (b,) and errors ≤ `margin`.

    One float32 step up, because exact scores are rounded to float32. −inf stays: nothing was left out.
    """
    above = np.nextafter((cut.astype(np.float64) + margin).astype(np.float32), np.float32(np.inf))
    return np.where(np.isneginf(cut), cut, above)


def lowest_proposal(floors: np.ndarray, margin: float) -> np.ndarray:
    """The lowest approximate score (float32) of a pair whose exact score reaches its floor; two steps down."""
    low = (floors.astype(np.float64) - margin).astype(np.float32)
    return np.nextafter(np.nextafter(low, np.float32(-np.inf)), np.float32(-np.inf))
