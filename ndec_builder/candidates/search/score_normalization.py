"""Score normalisation: a query that is close to everything is close to its reference for no good reason.

s'(q, r) = s(q, r) − factor · b(q), where b(q) is the mean of q's n best scores against a background set of images that
hold no copy of q, or the n-th best alone (mode `min`). Published settings: D²LV factor 2, n 10, mean; SSCD factor 1,
n 3, mean (neighbours 0–2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ndec_builder.candidates.search.exact import best_scores, shift
from ndec_builder.candidates.search.pairs import Vectors
from ndec_builder.core.errors import UsageError

MODES = ("mean", "min")


@dataclass(frozen=True)
class Normalization:
    """factor of the background score that is taken off, neighbours that make it, and how they are summed up."""

    factor: float = 1.0
    neighbours: int = 3
    mode: str = "mean"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"normalization mode {self.mode!r} is unknown; it is one of {', '.join(MODES)}")
        if self.neighbours < 1:
            raise UsageError(f"normalization neighbours is {self.neighbours}; it must be at least 1")
        if not np.isfinite(self.factor):
            raise UsageError(f"normalization factor is {self.factor}; it must be a number")

    def offsets(self, queries: Vectors, background: np.ndarray, search: str = "auto") -> np.ndarray:
        """What is taken off the scores of each query: (n,) float64 for queries (n, d), background (m, d) float16.

        A background of fewer than n images counts whole. The sums are of exact scores in fixed order: same bytes for
        any search. Raises NdecError for bad vectors.
        """
        best = best_scores(queries, background, self.neighbours, search=search).astype(np.float64)
        if self.mode == "min":
            return self.factor * best[:, -1]
        return self.factor * (best.sum(axis=1) / best.shape[1])


def normalized(scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """scores (pairs,) float32 less the offsets (pairs,) float64 of their queries, as float32."""
    return shift(scores, offsets)
