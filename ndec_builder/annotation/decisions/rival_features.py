"""Features that compare a pair with its rivals: the other pairs of its query and of its reference.

An image is an edited copy of one reference: if another pair of the query fits better, this one is hardly a copy. A
reference that is close to several pool images probably shows a common scene or motif; one with a single close image is
more likely to have been copied. No label enters these features.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import pyarrow as pa

RIVALS = (
    "query_pairs", "query_best", "query_lead", "query_score_lead",
    "reference_pairs", "reference_mean", "reference_score_lead", "reference_above",
)  # fmt: skip


def rival_features(table: pa.Table, first: np.ndarray) -> np.ndarray:
    """RIVALS (n, 8) float64 of a candidates table in its order; NaN if a pair has no rival.

    `first` (n,): P(edited copy) before any label, NaN if unknown; used as log odds. For the other pairs of the query:
    their number, their highest log odds, this pair's log odds minus that, this pair's score minus their highest. For
    the other pairs of the reference: their number, their mean log odds, this pair's score minus their mean score, the
    share that scores higher.
    """
    known = np.clip(np.where(np.isnan(first), 0.5, first), 0.002, 0.998)
    odds, scores = np.log(known / (1 - known)), np.array(table["score"].to_pylist(), np.float64)
    found = np.full((len(odds), len(RIVALS)), np.nan)
    for rows in _rows_of(table["query_id"].to_pylist()):
        found[rows, 0] = len(rows) - 1
        if len(rows) > 1:
            best = _best_other(odds[rows])
            found[rows, 1], found[rows, 2] = best, odds[rows] - best
            found[rows, 3] = scores[rows] - _best_other(scores[rows])
    for rows in _rows_of(table["reference_id"].to_pylist()):
        others = len(rows) - 1
        found[rows, 4] = others
        if others:
            found[rows, 5] = (odds[rows].sum() - odds[rows]) / others
            found[rows, 6] = scores[rows] - (scores[rows].sum() - scores[rows]) / others
            order = sorted(scores[rows].tolist())
            found[rows, 7] = [(len(order) - bisect_right(order, value)) / others for value in scores[rows].tolist()]
    return found


def _rows_of(names: Sequence[Hashable]) -> Iterator[np.ndarray]:
    """The rows of each name."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        rows[name].append(row)
    return (np.array(some) for some in rows.values())


def _best_other(values: np.ndarray) -> np.ndarray:
    """For each of two or more values, the highest of the others."""
    order = np.argsort(values, kind="stable")
    best = np.full(len(values), values[order[-1]])
    best[order[-1]] = values[order[-2]]
    return best
