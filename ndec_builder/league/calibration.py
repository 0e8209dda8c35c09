"""From scores to probabilities: fitted on the tuning half, and how well they hold on the other half."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ndec_builder.evaluation.metrics.calibration import BestPairs, calibration, probable


def isotonic(scores: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The non-decreasing map from score to probability with the least squared error: (scores, probabilities) ascending.

    Equal scores are one point, weighted by their number.
    """
    from scipy.optimize import isotonic_regression

    points, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=correct.astype(np.float64)) / count
    return points, np.clip(isotonic_regression(share, weights=count).x, 0, 1)


def reliability(
    tuning: BestPairs, evaluation: BestPairs, groups: int, is_probability: bool, replicates: int, seed: int
) -> dict[str, Any] | None:
    """Reliability on the evaluation half. None if a half has no pair.

    groups: of queries in the evaluation half. Keys: ece, ece_interval, bins: of the isotonic fit of the tuning half
    · queries: with a pair in the evaluation half · ece_raw: of the scores themselves where they are probabilities
    (a score below 0 is none: its pair was not re-scored).
    """
    if not len(tuning) or not len(evaluation):
        return None
    points, probability = isotonic(tuning.score, tuning.correct)
    said = np.interp(evaluation.score, points, probability)
    found = calibration(replace(evaluation, score=said), groups, replicates, seed)
    ece = found["ece"]
    result = {
        "ece": ece["value"],
        "ece_interval": [ece["low"], ece["high"]],
        "bins": found["bins"],
        "queries": found["queries"],
    }
    if is_probability and len(raw := probable(evaluation)[0]):
        result["ece_raw"] = calibration(raw, groups, replicates, seed)["ece"]["value"]
    return result
