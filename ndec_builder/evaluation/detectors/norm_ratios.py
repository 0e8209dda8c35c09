"""The norm ratio of every prediction, and the threshold that the filter compares it with."""

from __future__ import annotations

import numpy as np

from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.evaluation.detectors.scoring import Scored
from ndec_builder.evaluation.metrics.norm_ratio_filter import query_over_reference
from ndec_builder.evaluation.settings import AUTO, BenchmarkConfig


def pair_ratios(scored: Scored) -> np.ndarray:
    """query_over_reference of every prediction, (m,) float64 in the order of the predictions.

    Raises NdecError if an image of a pair has no norm because its file could not be used.
    """
    assert scored.norms is not None
    query, reference = scored.norms[0][scored.predictions.query], scored.norms[1][scored.predictions.reference]
    if (missing := np.isnan(query) | np.isnan(reference)).any():
        reasons = [f"{image}: {reason}" for side in scored.rejects.values() for image, reason in side.items()]
        raise NdecError(
            f"{int(missing.sum())} predictions name an image that cannot be read, so they have no norm ratio "
            f"({number_of(len(reasons), 'image')}, first {reasons[0]}); fix the images, or remove their predictions"
        )
    return query_over_reference(query, reference)


def filter_threshold(config: BenchmarkConfig, scored: Scored) -> float:
    """The threshold from the settings; `auto` takes that of the detectors. Raises UsageError if they have none."""
    if config.threshold != AUTO:
        return float(config.threshold)
    if scored.threshold is None:
        raise UsageError(
            f"--threshold auto takes the one that `ndec train-asl` chose on training data, but {scored.about} has "
            "none (trained with keep_copies = 0, as a whole network, by an older ndec or on too few images; or used at "
            "another --test-size than it was chosen at); train again, or give a number"
        )
    return scored.threshold
