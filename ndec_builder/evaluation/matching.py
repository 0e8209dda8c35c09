"""Query × reference vectors → predictions: all pairs, or the exact best of them in the total order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ndec_builder.candidates.search import check_vectors, score_pairs, top_pairs
from ndec_builder.evaluation.metrics import MAX_PREDICTIONS
from ndec_builder.evaluation.predictions import Predictions


def match(
    query_ids: Sequence[str],
    queries: np.ndarray,
    reference_ids: Sequence[str],
    references: np.ndarray,
    *,
    k: int | None = None,
    limit: int = MAX_PREDICTIONS,
) -> Predictions:
    """Search every query among all references; the scores and the order are those of `ndec mine`.

    queries (n, d), references (m, d): float16, L2-normed, rows in ascending id order. All pairs when there are at most
    `limit` of them, else the exact global top `limit`; with `k`, the k best references of each query, and of these the
    global top `limit`. Ties: score desc, query_id, reference_id. Raises NdecError for empty sides, unequal widths, NaN.
    """
    check_vectors(queries, references)
    sizes = f"{len(queries):,} queries × {len(references):,} references"
    if (k is None or k >= len(references)) and len(queries) * len(references) <= limit:
        rows, columns = np.divmod(np.arange(len(queries) * len(references), dtype=np.int64), len(references))
        scores = score_pairs(queries, references, rows, columns)
        return Predictions(rows, columns, scores.astype(np.float64), f"all pairs of {sizes}, raw cosine")
    found = top_pairs(
        query_ids, queries, reference_ids, references, top=limit, max_per_query=k or 0, max_per_reference=0
    )
    how = f"global top {limit:,}" if k is None else f"top {k} per query (global top {limit:,} of these)"
    return Predictions(
        found.queries, found.references, found.scores.astype(np.float64), f"{how} of {sizes}, exact search, raw cosine"
    )
