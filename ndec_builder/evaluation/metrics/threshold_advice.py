"""Threshold advice: the score from which a pair can be called a copy, on similar data.

A threshold looks better than it is if it is evaluated on the list that chose it. Each bootstrap replicate therefore
chooses a threshold on the groups it drew and evaluates it on the others. No threshold is advised if many replicates
find none or if the precision on the other groups is too low.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ndec_builder.evaluation.metrics.bootstrap import GroupedList, replicate_weights

_MOST_WITHOUT = 0.1  # largest share of replicates without a threshold
_SLACK = 0.05  # largest allowed shortfall of the precision on the groups that were not drawn
_REPLICATES = 200


def advise(rows: GroupedList, truth_group: np.ndarray, target: float, groups: int, seed: int) -> dict[str, Any]:
    """The lowest score at which precision on `rows` is at least `target`, and what to expect on new groups.

    Keys: target_precision · threshold, recall: on all data, None if no score reaches the target · threshold_low, _high:
    95 % of the replicates · precision_elsewhere, recall_elsewhere: {value, low, high} on the groups not drawn by a
    replicate (value: their mean; low, high: the middle 95 % of them, which is a spread, not an interval of the mean)
    · without: share of replicates that found no threshold · advice: the sentence.
    """
    cuts, precision, recall, without = [], [], [], 0
    for weights in replicate_weights(groups, _REPLICATES, seed):
        for drawn in weights.T:
            cut = _threshold(rows, drawn, target)
            if cut is None:
                without += 1
                continue
            cuts.append(cut)
            left = (drawn == 0).astype(np.int32)
            found, taken = _counts(rows, left, cut)
            precision.append(found / taken if taken else np.nan)
            positives = int(left[truth_group].sum())
            recall.append(found / positives if positives else np.nan)
    ones = np.ones(groups, dtype=np.int32)
    threshold = _threshold(rows, ones, target)
    found = 0 if threshold is None else _counts(rows, ones, threshold)[0]
    result: dict[str, Any] = {
        "target_precision": target,
        "threshold": threshold,
        "threshold_low": _quantile(cuts, 0.025),
        "threshold_high": _quantile(cuts, 0.975),
        "recall": None if threshold is None else found / len(truth_group),
        "precision_elsewhere": _spread(precision),
        "recall_elsewhere": _spread(recall),
        "without": without / _REPLICATES,
    }
    return {**result, "advice": _sentence(result)}


def _threshold(rows: GroupedList, weights: np.ndarray, target: float) -> float | None:
    """The lowest score at which the precision, with all equal scores included, is at least `target`."""
    drawn = weights[rows.group].astype(np.int64)
    found = np.cumsum(np.where(rows.ranked.is_match, drawn, 0))
    taken = np.cumsum(drawn)
    scores = rows.ranked.scores
    last = np.append(scores[1:] != scores[:-1], True) if len(scores) else np.zeros(0, dtype=bool)
    good = np.flatnonzero(last & (found > 0) & (found >= target * taken))
    return float(scores[good[-1]]) if len(good) else None


def _counts(rows: GroupedList, weights: np.ndarray, threshold: float) -> tuple[int, int]:
    above = int(np.searchsorted(-rows.ranked.scores, -threshold, side="right"))
    drawn = weights[rows.group[:above]]
    return int(drawn[rows.ranked.is_match[:above]].sum()), int(drawn.sum())


def _sentence(result: dict[str, Any]) -> str:
    target, cut, judged = result["target_precision"], result["threshold"], result["precision_elsewhere"]
    if cut is None:
        return f"no threshold reaches precision {target:g} on this data, so none is advised"
    if result["without"] > _MOST_WITHOUT:
        return (
            f"no threshold is advised for precision {target:g}: {result['without']:.0%} of the resampled sets have no "
            "such threshold, so the one found here depends on a few pairs"
        )
    if judged["value"] is None or judged["value"] < target - _SLACK:
        seen = "not defined" if judged["value"] is None else f"{judged['value']:.2f} on average"
        return (
            f"no threshold is advised for precision {target:g}: on groups not used to choose it the precision is {seen}"
        )
    return (
        f"for precision ≥ {target:g} on similar data use score ≥ {cut:.4f} (95 %: {result['threshold_low']:.4f} … "
        f"{result['threshold_high']:.4f}); on groups not used to choose it, precision {judged['value']:.2f} on average "
        f"({judged['low']:.2f} … {judged['high']:.2f} in 95 % of the resampled sets) at recall "
        f"{result['recall_elsewhere']['value']:.2f}"
    )


def _spread(values: list[float]) -> dict[str, float | None]:
    defined = [value for value in values if not np.isnan(value)]
    mean = float(np.mean(defined)) if defined else None
    return {"value": mean, "low": _quantile(defined, 0.025), "high": _quantile(defined, 0.975)}


def _quantile(values: list[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None
