"""Micro average precision, precision at N, recall at a precision: the protocol of DISC21 and NDEC. numpy only.

All (query, reference) predictions form one ranked list. Average precision per query is a different metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ndec_builder.core.errors import NdecError

MAX_PREDICTIONS = 500_000  # limit of the official DISC21 evaluation; a longer list gives a higher number
_NAMED = 3  # number of bad rows named in a message


@dataclass(frozen=True)
class RankedList:
    """Predictions in rank order: score descending, negatives first among equal scores, then ids.

    rows: (m,) int64, index of each ranked row in the input arrays · scores: (m,) float64 ·
    is_match: (m,) bool · positives: number of all ground-truth pairs, found or not.
    """

    rows: np.ndarray
    scores: np.ndarray
    is_match: np.ndarray
    positives: int

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, mask: np.ndarray) -> RankedList:
        """The list without the rows where `mask` ((m,) bool, in rank order) is False; `positives` stays."""
        return RankedList(self.rows[mask], self.scores[mask], self.is_match[mask], self.positives)


@dataclass(frozen=True)
class Cut:
    """The first n rows of a list. precision is None if the list is empty; recall_at_n divides by all positives."""

    n: int
    tp: int
    fp: int
    precision: float | None
    recall_at_n: float


def pair_numbers(query_ids: Sequence[str], reference_ids: Sequence[str]) -> np.ndarray:
    """One number per (query, reference), ascending in (query_id, reference_id): (m,) int64."""
    _, query = np.unique(np.asarray(query_ids, dtype=np.str_), return_inverse=True)
    names, reference = np.unique(np.asarray(reference_ids, dtype=np.str_), return_inverse=True)
    return query.astype(np.int64) * max(1, len(names)) + reference


def rank(
    scores: np.ndarray,
    is_match: np.ndarray,
    positives: int,
    pairs: np.ndarray | None = None,
    name: Callable[[int], str] = "row {} (from 0)".format,
) -> RankedList:
    """Sort predictions into the one list that every metric reads.

    scores: (m,) float, higher is better · is_match: (m,) bool · positives: number of all ground-truth pairs ·
    pairs: (m,) int64 from `pair_numbers` (or any numbering in id order), for ties and the duplicate check
    · name: text for a row in error messages.
    Raises NdecError for NaN scores, duplicate pairs, more than 500,000 rows, or a ground truth without positives.
    """
    scores, is_match = np.asarray(scores, dtype=np.float64), np.asarray(is_match, dtype=bool)
    if scores.ndim != 1 or scores.shape != is_match.shape:
        raise NdecError(f"scores {scores.shape} and is_match {is_match.shape} must be vectors of the same length")
    if len(scores) > MAX_PREDICTIONS:
        raise NdecError(f"{len(scores):,} predictions; at most {MAX_PREDICTIONS:,} are allowed: keep the best ones")
    if (bad := np.isnan(scores)).any():
        named = ", ".join(name(row) for row in np.flatnonzero(bad)[:_NAMED].tolist())
        more = f" and {int(bad.sum()) - _NAMED} more" if bad.sum() > _NAMED else ""
        raise NdecError(f"the score of {named}{more} is NaN; it must be a number; higher means more likely a copy")
    if positives < 1:
        raise NdecError("the ground truth has no positive pair; micro average precision is not defined without one")
    if (found := int(is_match.sum())) > positives:
        raise NdecError(f"{found} predictions are marked as matches, but there are only {positives} ground-truth pairs")
    if pairs is None:
        order = np.lexsort((is_match, -scores))
    else:
        pairs = np.asarray(pairs)
        if pairs.shape != scores.shape:
            raise NdecError(f"pairs {pairs.shape} and scores {scores.shape} must be vectors of the same length")
        by_pair = np.sort(pairs)
        if (twice := by_pair[1:] == by_pair[:-1]).any():
            rows = np.flatnonzero(pairs == by_pair[1:][twice][0])[:2]
            raise NdecError(
                f"{name(int(rows[0]))} and {name(int(rows[1]))} predict the same (query, reference) pair; "
                "each pair may appear once: keep the better score"
            )
        order = np.lexsort((pairs, is_match, -scores))
    return RankedList(order, scores[order], is_match[order], positives)


def average_precision(ranked: RankedList) -> float:
    """AP = Σ (r_k − r_{k−1})·p_k over the list, without interpolation, r = found / all ground-truth pairs."""
    places = np.flatnonzero(ranked.is_match) + 1  # ranks from 1
    return float(np.sum(np.arange(1, len(places) + 1) / places) / ranked.positives)


def micro_average_precision(
    scores: np.ndarray, is_match: np.ndarray, positives: int, pairs: np.ndarray | None = None
) -> float:
    """μAP of DISC21 (arXiv 2106.09672): `average_precision` of the one list over all predictions. Arguments of `rank`.

    >>> micro_average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), positives=2)
    0.8333333333333333
    """
    return average_precision(rank(scores, is_match, positives, pairs))


def precision_at_n(ranked: RankedList, n: int | None = None) -> Cut:
    """Cut the list at N (default: the number of ground-truth pairs) and count, as in Tables 1–2 of the NDEC paper.

    If the list is shorter than N, all of it counts and its length is the denominator. Raises NdecError if n < 1.

    >>> precision_at_n(rank(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), positives=2))
    Cut(n=2, tp=1, fp=1, precision=0.5, recall_at_n=0.5)
    """
    n = ranked.positives if n is None else n
    if n < 1:
        raise NdecError(f"cannot cut a list at N = {n}; N must be at least 1")
    top = ranked.is_match[:n]
    tp = int(top.sum())
    return Cut(n, tp, len(top) - tp, tp / len(top) if len(top) else None, tp / ranked.positives)


def recall_at_precision(ranked: RankedList, precision: float = 0.9) -> float | None:
    """The largest recall at any point of the list with at least this precision; None if there is no such point.

    Negatives come first among equal scores, so the last row of equal scores is the best point: points are thresholds.

    >>> recall_at_precision(rank(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), positives=2))
    0.5
    """
    recalls, precisions = curve(ranked)
    reached = precisions >= precision
    return float(recalls[reached].max()) if reached.any() else None


def curve(ranked: RankedList) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each match of the list: two (found,) float64 arrays in rank order."""
    places = np.flatnonzero(ranked.is_match) + 1
    found = np.arange(1, len(places) + 1)
    return found / ranked.positives, found / places
