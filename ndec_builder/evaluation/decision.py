"""Which probability means "copy": thresholds for two precisions, from this data and from the fit of the scorer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ndec_builder.core.console import number_of
from ndec_builder.evaluation.metrics.bootstrap import GroupedList, divide, intervals
from ndec_builder.evaluation.metrics.threshold_advice import advise
from ndec_builder.evaluation.verdict import FEW_GROUPS, FEW_PAIRS

DECISION_PRECISIONS = (0.9, 0.99)


@dataclass(frozen=True)
class ShippedThresholds:
    """Thresholds in the card of a fit. values: precision as text → threshold, low, high; measured_on: which data.

    refused: why they do not apply to this list, or empty.
    """

    values: Mapping[str, Mapping[str, float]]
    measured_on: str
    refused: str = ""


def decisions(
    rows: GroupedList,
    truth_group: np.ndarray,
    groups: int,
    replicates: int,
    seed: int,
    shipped: ShippedThresholds | None,
) -> dict[str, Any]:
    """Keys: here, the advice for each of DECISION_PRECISIONS (`threshold_advice`); shipped, one row for each threshold
    of the fit; refused, why there are none.

    truth_group: (P,) group of the query of every ground-truth pair · groups: of queries.
    """
    here = [advise(rows, truth_group, target, groups, seed) for target in DECISION_PRECISIONS]
    refused = "the fit has no thresholds" if shipped is None else shipped.refused
    with_copies = len(np.unique(truth_group))
    if not refused and (len(truth_group) < FEW_PAIRS or with_copies < FEW_GROUPS):
        refused = (
            f"{number_of(len(truth_group), 'true pair')} in {number_of(with_copies, 'group')} of queries: too few to "
            f"check them ({FEW_PAIRS} and {FEW_GROUPS} are needed)"
        )
    if refused or shipped is None:
        return {"here": here, "shipped": [], "refused": refused}
    checked = [
        {"precision": float(text), "measured_on": shipped.measured_on, **value}
        | _check(rows, truth_group, groups, replicates, seed, value["threshold"], float(text))
        for text, value in shipped.values.items()
    ]
    return {"here": here, "shipped": checked, "refused": ""}


def _check(
    rows: GroupedList, truth_group: np.ndarray, groups: int, replicates: int, seed: int, threshold: float, target: float
) -> dict[str, Any]:
    """Precision and recall at a threshold that this data did not choose, and the sentence about them."""
    above = int(np.searchsorted(-rows.ranked.scores, -threshold, side="right"))
    group, correct = rows.group[:above], rows.ranked.is_match[:above]
    taken, found = np.bincount(group, minlength=groups), np.bincount(group[correct], minlength=groups)
    positives = np.bincount(truth_group, minlength=groups)

    def estimate(weights: np.ndarray) -> dict[str, np.ndarray]:
        chosen, right, wanted = (side @ weights.astype(np.float64) for side in (taken, found, positives))
        return {"precision_here": divide(right, chosen), "recall_here": divide(right, wanted)}

    sizes = {"precision_here": taken, "recall_here": positives}
    numbers = intervals(estimate, groups, replicates, seed, sizes)
    precision, recall = numbers["precision_here"], numbers["recall_here"]
    if precision.value is None:
        text = f"no pair has P ≥ {threshold:.4f}"
    else:
        text = f"P ≥ {threshold:.4f} has precision {precision.value:.2f}"
        text += "" if precision.low is None else f" ({precision.low:.2f} … {precision.high:.2f})"
        text += f" at recall {recall.value:.2f}"
        if precision.high is not None and precision.high < target:
            text += f": below {target:g}, so do not use it on this data"
    return {name: asdict(number) for name, number in numbers.items()} | {"text": text}
