"""Score normalisation: lowers the scores of queries that are close to everything.

s'(q, r) = s(q, r) − factor · b(q), where b(q) is the mean of q's n best scores against a background set without copies
of q, or the n-th best score alone (mode `min`). Published settings: D²LV factor 2, n 10, mean; SSCD factor 1,
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
    """The factor of the background score, the number of neighbours in it, and how their scores are combined."""

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
        """The offsets to subtract from the scores of each query: (n,) float64 for queries (n, d), background (m, d).

        A background of fewer than `neighbours` images is used completely. Exact scores are summed in fixed order: same
        bytes for any search. Raises NdecError for bad vectors.
        """
        best = best_scores(queries, background, self.neighbours, search=search).astype(np.float64)
        if self.mode == "min":
            return self.factor * best[:, -1]
        return self.factor * (best.sum(axis=1) / best.shape[1])


def normalized(scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """scores (pairs,) float32 minus the offsets (pairs,) float64 of their queries, as float32."""
    return shift(scores, offsets)
