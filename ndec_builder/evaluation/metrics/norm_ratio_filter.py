"""The asymmetric filter of ASL (paper, section 4.2): a query with more content than the reference is not a copy.

The ratio is always called `query_over_reference`; the paper writes it in three ways.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.metrics.ranked import RankedList, precision_at_n


@dataclass(frozen=True)
class FilteredCut:
    """Cut at N, then filter, without refill, as in Tables 1–2 (a baseline row there has tp + fp = N).

    tp, fp: before the filter · tp_kept, fp_kept: after it · precision_after_filter: over the remaining rows, None if
    there are none · recall_after_filter: tp_kept / all ground-truth pairs · filter_then_cut: precision of the first N
    of the filtered list, None if it is empty. Precision alone rewards deleting pairs, so report the counts too.
    """

    n: int
    tp: int
    fp: int
    tp_kept: int
    fp_kept: int
    precision_after_filter: float | None
    recall_after_filter: float
    filter_then_cut: float | None


def query_over_reference(query_norms: np.ndarray, reference_norms: np.ndarray) -> np.ndarray:
    """‖query‖ / ‖reference‖ per pair, float64, rounded to 6 decimals, the accuracy of float32 networks: the same image
    in two files must give exactly 1. Raises NdecError for a norm that is not finite and positive.

    >>> query_over_reference(np.array([3.0, 2.0]), np.array([2.0, 2.0])).tolist()
    [1.5, 1.0]
    """
    query, reference = np.asarray(query_norms, dtype=np.float64), np.asarray(reference_norms, dtype=np.float64)
    for what, norms in (("query", query), ("reference", reference)):
        if (bad := ~(np.isfinite(norms) & (norms > 0))).any():
            raise NdecError(f"a {what} norm is {norms[bad][0]}; norms must be finite and > 0")
    return np.round(query / reference, 6)


def reject(ratios: np.ndarray, threshold: float = 1.0) -> np.ndarray:
    """True where query_over_reference is strictly greater: a pair of identical images (ratio 1) is kept.

    >>> reject(np.array([1.5, 1.0])).tolist()
    [True, False]
    """
    return np.asarray(ratios) > threshold


def cut_then_filter(ranked: RankedList, rejected: np.ndarray, n: int | None = None) -> FilteredCut:
    """Count the first N rows before and after the filter. rejected: (m,) bool in rank order."""
    cut = precision_at_n(ranked, n)
    kept = ~np.asarray(rejected, dtype=bool)
    top = ranked.is_match[: cut.n][kept[: cut.n]]
    tp_kept = int(top.sum())
    refilled = precision_at_n(ranked.keep(kept), cut.n)
    return FilteredCut(
        cut.n, cut.tp, cut.fp, tp_kept, len(top) - tp_kept,
        tp_kept / len(top) if len(top) else None, tp_kept / ranked.positives, refilled.precision,
    )  # fmt: skip


def apply_filter(
    ranked: RankedList, rejected: np.ndarray, n: int, scope: str = "all", action: str = "drop"
) -> tuple[np.ndarray, np.ndarray]:
    """The list that μAP is computed on: (rows (m',) int64 into the ranked arrays, their scores (m',) float64).

    scope: `all` filters the complete list, `topN` only its first n rows. action: `drop` removes rejected rows, `demote`
    moves them below all others in their own order, with integer scores below the lowest one (equal ones stay equal).
    """
    acts = np.array(rejected, dtype=bool)
    if scope == "topN":
        acts[n:] = False
    if action == "drop" or not acts.any():
        return ranked.rows[~acts], ranked.scores[~acts]
    scores = ranked.scores.copy()
    _, place = np.unique(-scores[acts], return_inverse=True)
    scores[acts] = np.floor(scores.min()) - 1.0 - place
    return ranked.rows, scores
