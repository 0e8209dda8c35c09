"""Pairs of rows with exact scores, and the vectors that the rows belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ndec_builder.core.errors import NdecError

GATHER_ELEMENTS = 1 << 17  # float64 values gathered at a time for scoring: 1 MB, which fits into a cache


class Vectors(Protocol):
    """(n, d) float16, indexed by a slice or by row numbers: an array in memory, or parts on disk."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Pairs:
    """Pairs as rows of the query and reference matrices, with exact scores; all (n,)."""

    queries: np.ndarray  # int64
    references: np.ndarray  # int64
    scores: np.ndarray  # float32

    def take(self, positions: np.ndarray) -> Pairs:
        """The pairs at these positions: (k,) int64, or a mask (n,) bool."""
        return Pairs(self.queries[positions], self.references[positions], self.scores[positions])

    def __len__(self) -> int:
        return len(self.scores)


def no_pairs() -> Pairs:
    return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([part.queries for part in parts]),
        np.concatenate([part.references for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def score_pairs(queries: np.ndarray, references: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Score pairs (rows[i], columns[i]) of float16 matrices (n, d), (m, d); return (pairs,) float32.

    The score is the float64 dot, rounded to float32. For normalised float16 vectors that dot is free of rounding
    errors: every product is a multiple of 2**-48 and every partial sum stays below 32, which 53 bits hold. Hence equal
    bytes for any block size, thread count or order of addition.
    """
    scores = np.empty(len(rows), dtype=np.float32)
    step = max(1, GATHER_ELEMENTS // queries.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        left, right = queries[rows[part]].astype(np.float64), references[columns[part]].astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", left, right)
    return scores + np.float32(0)  # -0.0 becomes 0.0: equal scores have equal bytes


def check_vectors(queries: Vectors, references: Vectors, what: tuple[str, str] = ("query", "reference")) -> None:
    """Raise NdecError for no vectors, arrays that are not 2-d, unequal widths, NaN or infinity.

    Values are checked here for vectors in memory; vectors on disk are checked while they are read.
    """
    for name, vectors in zip(what, (queries, references), strict=True):
        if len(vectors.shape) != 2 or not len(vectors):
            raise NdecError(f"there are no {name} vectors to search (shape {vectors.shape}); ingest and embed some")
        if isinstance(vectors, np.ndarray) and (row := first_not_finite(vectors)) is not None:
            raise NdecError(f"row {row} of the {name} vectors holds NaN or infinity; embed that role again")
    if queries.shape[1] != references.shape[1]:
        raise NdecError(
            f"expected {references.shape[1]}-d vectors as in the {what[1]} embeddings, got {queries.shape[1]}-d in the "
            f"{what[0]} embeddings; embed both with the same --model"
        )


def first_not_finite(vectors: np.ndarray) -> int | None:
    """The first row of (n, d) that holds NaN or infinity, or None."""
    step = max(1, 4 * GATHER_ELEMENTS // max(1, vectors.shape[1]))  # a mask of all values would take half their memory
    for start in range(0, len(vectors), step):
        finite = np.isfinite(vectors[start : start + step]).all(axis=1)
        if not finite.all():
            return start + int(finite.argmin())
    return None


def largest_norm(vectors: np.ndarray) -> float:
    """An upper bound, tight up to rounding, on the largest L2 norm of the rows (n, d) of float16 or float32.

    Squares are summed in float32. The relative error of a sum without negative summands is at most d·2**-24 (Higham
    2002, eq. 3.5), plus 2**-126 for each square flushed to zero; the result allows for more than both.
    """
    dim = vectors.shape[1]
    step = max(1, GATHER_ELEMENTS // dim)
    parts = (vectors[start : start + step].astype(np.float32, copy=False) for start in range(0, len(vectors), step))
    largest = float(max(np.einsum("ij,ij->i", part, part).max() for part in parts))
    return float(np.sqrt(largest * (1 + dim * 2.0**-23) + dim * 2.0**-125)) * (1 + 2.0**-40)
