"""Whether higher scores of a given list mean more alike."""

from __future__ import annotations

import numpy as np

from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.bootstrap import weighted_auc
from ndec_builder.evaluation.predictions import Predictions

_FEW = 10  # with fewer listed copies or other pairs the direction of the scores is not checked


def direction_problem(dataset: Dataset, found: Predictions) -> str | None:
    """Why the scores cannot be right: copies, above all those that keep all of the original, rank below other pairs."""
    match = dataset.is_match(found)
    obvious = match & _obvious(dataset)[found.query]
    if obvious.sum() < _FEW:
        obvious = match
    if obvious.sum() < _FEW or (~match).sum() < _FEW:
        return None
    compared = obvious | ~match
    ones = np.ones((int(compared.sum()), 1), dtype=np.int32)
    auc = float(weighted_auc(obvious[compared], found.scores[compared], ones)[0])
    if auc >= 0.4:
        return None
    return (
        f"its scores look inverted: an obvious copy scores higher than another pair in {auc:.0%} of the cases. Higher "
        "must mean more alike; negate distances"
    )


def _obvious(dataset: Dataset) -> np.ndarray:
    if "edit" not in dataset.queries.column_names:
        return np.ones(len(dataset.queries), dtype=bool)
    return np.array(
        ['"content_share": 1.0' in (edit or "") for edit in dataset.queries["edit"].to_pylist()], dtype=bool
    )
