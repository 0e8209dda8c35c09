"""From query and reference vectors to predictions: all pairs, or the exact best ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ndec_builder.candidates.search.exact import check_vectors, score_pairs, top_pairs
from ndec_builder.candidates.search.score_normalization import Normalization, normalized
from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.metrics.ranked import MAX_PREDICTIONS
from ndec_builder.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Background:
    """Score normalisation and its background: vectors (b, d) float16 of images without a match."""

    vectors: np.ndarray
    how: Normalization

    def offsets(self, queries: np.ndarray) -> np.ndarray:
        """Offset to subtract from each query's scores, (nq,) float64. Raises NdecError for too few images."""
        check_vectors(queries, self.vectors, ("query", "background"))
        if len(self.vectors) < self.how.neighbours:
            raise NdecError(
                f"score normalisation needs each query's {self.how.neighbours} best background scores, but the "
                f"background has {len(self.vectors)} images; lower --norm-n or give a larger background"
            )
        return self.how.offsets(queries, self.vectors)

    def __str__(self) -> str:
        n = self.how.neighbours
        what = f"mean of its {n} best" if self.how.mode == "mean" else f"{n}-th best"
        return f"cosine − {self.how.factor:g} × the query's {what} among {len(self.vectors):,} background images"


def search_pairs(
    query_ids: Sequence[str],
    queries: np.ndarray,
    reference_ids: Sequence[str],
    references: np.ndarray,
    *,
    k: int | None = None,
    background: Background | None = None,
    limit: int = MAX_PREDICTIONS,
) -> Predictions:
    """Search every query in all references, with the scores and the order of `ndec mine`.

    queries (n, d), references (m, d): float16, L2-normalized, rows in ascending id order. Returns all pairs if there
    are at most `limit`, otherwise the exact global top `limit`; with `k`, the k best references of each query and of
    these the global top `limit`. Scores are normalized by the background first. Order: score desc, query_id,
    reference_id. Raises NdecError for empty sides, different numbers of dimensions, or NaN.
    """
    check_vectors(queries, references)
    offsets = np.zeros(len(queries)) if background is None else background.offsets(queries)
    how = "raw cosine" if background is None else str(background)
    sizes = f"{len(queries):,} queries × {len(references):,} references"
    if (k is None or k >= len(references)) and len(queries) * len(references) <= limit:
        rows, columns = np.divmod(np.arange(len(queries) * len(references), dtype=np.int64), len(references))
        scores = normalized(score_pairs(queries, references, rows, columns), offsets[rows])
        return Predictions(rows, columns, scores.astype(np.float64), f"all pairs of {sizes}, {how}")
    found = top_pairs(
        query_ids, queries, reference_ids, references, top=limit, max_per_query=k or 0, max_per_reference=0,
        offsets=offsets,
    )  # fmt: skip
    what = f"global top {limit:,}" if k is None else f"top {k} per query (global top {limit:,} of these)"
    return Predictions(
        found.queries, found.references, found.scores.astype(np.float64), f"{what} of {sizes}, exact search, {how}"
    )
