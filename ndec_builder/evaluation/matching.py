"""Query × reference vectors → predictions: all pairs, or the exact best of them in the total order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ndec_builder.candidates.search import ExactSearch, Pairs, best_scores, check_vectors, score_pairs, top_pairs
from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.metrics import MAX_PREDICTIONS
from ndec_builder.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Normalisation:
    """Score normalisation: s(q, r) − factor × what q scores against a background that holds no match.

    vectors: (b, d) float16 of the background · kind: `mean` of a query's n best scores there, or `min`, the n-th alone.
    """

    vectors: np.ndarray
    factor: float
    n: int
    kind: str = "mean"

    def offsets(self, queries: np.ndarray) -> np.ndarray:
        """What is taken off each query's scores, (nq,) float64. Raises NdecError for fewer than n background images."""
        if len(self.vectors) < self.n:
            raise NdecError(
                f"score normalisation wants each query's {self.n} best background scores, but the background has "
                f"{len(self.vectors)} images; lower --norm-n or give a larger background"
            )
        best = best_scores(queries, self.vectors, self.n).astype(np.float64)
        return self.factor * (best.mean(axis=1) if self.kind == "mean" else best[:, -1])

    def __str__(self) -> str:
        what = f"mean of its {self.n} best" if self.kind == "mean" else f"{self.n}-th best"
        return f"cosine − {self.factor:g} × the query's {what} among {len(self.vectors):,} background images"


def match(
    query_ids: Sequence[str],
    queries: np.ndarray,
    reference_ids: Sequence[str],
    references: np.ndarray,
    *,
    k: int | None = None,
    normalisation: Normalisation | None = None,
    limit: int = MAX_PREDICTIONS,
) -> Predictions:
    """Search every query among all references; the scores and the order are those of `ndec mine`.

    queries (n, d), references (m, d): float16, L2-normed, rows in ascending id order. All pairs when there are at most
    `limit` of them, else the exact global top `limit`; with `k`, the k best references of each query, and of these the
    global top `limit`. A normalisation takes part in the choice of the top. Ties: score desc, query_id, reference_id.
    Raises NdecError for empty sides, unequal widths, NaN.
    """
    check_vectors(queries, references)
    offsets = np.zeros(len(queries))
    how = "raw cosine"
    if normalisation is not None:
        check_vectors(queries, normalisation.vectors, ("query", "background"))
        offsets, how = normalisation.offsets(queries), str(normalisation)
    sizes = f"{len(queries):,} queries × {len(references):,} references"
    if (k is None or k >= len(references)) and len(queries) * len(references) <= limit:
        rows, columns = np.divmod(np.arange(len(queries) * len(references), dtype=np.int64), len(references))
        scores = score_pairs(queries, references, rows, columns).astype(np.float64)
        return Predictions(rows, columns, scores - offsets[rows], f"all pairs of {sizes}, {how}")
    if k is None and offsets.any():
        found = _top_normalised(queries, references, offsets, limit)
    else:
        found = top_pairs(
            query_ids, queries, reference_ids, references, top=limit if k is None else len(queries) * k,
            max_per_query=k or 0, max_per_reference=0,
        )  # fmt: skip
    scores = found.scores.astype(np.float64) - offsets[found.queries]
    best = _first(scores, found, limit)
    what = f"global top {limit:,}" if k is None else f"top {k} per query (global top {limit:,} of these)"
    return Predictions(
        found.queries[best], found.references[best], scores[best], f"{what} of {sizes}, exact search, {how}"
    )


def _first(scores: np.ndarray, pairs: Pairs, limit: int) -> np.ndarray:
    """Places of the first `limit` pairs in the total order; rows are in ascending id order."""
    return np.lexsort((pairs.references, pairs.queries, -scores))[:limit]


def _top_normalised(queries: np.ndarray, references: np.ndarray, offsets: np.ndarray, limit: int) -> Pairs:
    """The exact global top `limit` after the offsets (nq,) are taken off: a search deepened until nothing is missed."""
    best = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

    def enough(pairs: Pairs, bounds: np.ndarray) -> np.ndarray:
        nonlocal best
        scores = pairs.scores.astype(np.float64) - offsets[pairs.queries]
        chosen = _first(scores, pairs, limit)
        best = pairs.take(chosen)
        cut = float(scores[chosen[-1]]) if len(chosen) == limit else -np.inf
        return bounds - offsets < cut  # a pair left out that ties with the cut could still come before it

    ExactSearch(queries, references).deepen(enough, min(max(8, 2 * limit // len(queries)), len(references)))
    return best
