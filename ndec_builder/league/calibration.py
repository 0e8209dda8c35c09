"""From scores to probabilities: fitted on the tuning half, and how well they hold on the other half.

The unit is each query's best pair: "the tool names this reference; how likely is it right?"
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ndec_builder.annotation.decisions.binomial import wilson
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.bootstrap import GroupedList
from ndec_builder.evaluation.predictions import Predictions

BINS = 10  # of equal width, as in Guo et al. 2017, "On calibration of modern neural networks"


def best_of_queries(dataset: Dataset, found: Predictions, rows: GroupedList) -> tuple[np.ndarray, np.ndarray]:
    """Score and correctness of the best pair of each query with at least one pair: two (q,) arrays."""
    _, first = np.unique(found.query[rows.ranked.rows], return_index=True)
    return rows.ranked.scores[first], rows.ranked.is_match[first]


def isotonic(scores: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The non-decreasing map from score to probability with the least squared error: (scores, probabilities) ascending.

    Equal scores are one point, weighted by their number.
    """
    from scipy.optimize import isotonic_regression

    points, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=correct.astype(np.float64)) / count
    return points, np.clip(isotonic_regression(share, weights=count).x, 0, 1)


def expected_error(probability: np.ndarray, correct: np.ndarray) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error and its bins: mean probability, share correct with Wilson's interval, count.

    >>> expected_error(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, True, False, True]))[0]
    0.25
    """
    number = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    bins, error = [], 0.0
    for index in np.unique(number):
        inside = number == index
        said, true, count = float(probability[inside].mean()), int(correct[inside].sum()), int(inside.sum())
        error += count / len(number) * abs(said - true / count)
        low, high = wilson(true, count)
        bins.append({"said": said, "true": true / count, "low": low, "high": high, "count": count})
    return round(error, 12), bins


def reliability(
    tuning: tuple[np.ndarray, np.ndarray], evaluation: tuple[np.ndarray, np.ndarray], is_probability: bool
) -> dict[str, Any] | None:
    """Reliability on the evaluation half. None if a half has no pair.

    Keys: ece, bins: of the isotonic fit of the tuning half · queries: with a pair in the evaluation half · ece_raw: of
    the scores themselves where they are probabilities.
    """
    if not len(tuning[0]) or not len(evaluation[0]):
        return None
    points, probability = isotonic(*tuning)
    ece, bins = expected_error(np.interp(evaluation[0], points, probability), evaluation[1])
    result = {"ece": ece, "bins": bins, "queries": len(evaluation[0])}
    if is_probability:
        result["ece_raw"] = expected_error(np.clip(evaluation[0], 0, 1), evaluation[1])[0]
    return result
