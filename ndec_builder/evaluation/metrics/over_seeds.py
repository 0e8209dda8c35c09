"""Numbers over several training seeds: seeds and groups are resampled jointly, differences are paired.

All runs are evaluated on the same queries. A replicate therefore draws the groups once for all runs, and n − 1 of the n
seeds with replacement: their mean then has the variance s²/n of the mean of n seeds (drawing n of a few seeds gives
(n − 1)/n of it; Rao and Wu, 1988). Its value is the mean over the drawn seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ndec_builder.evaluation.metrics.bootstrap import Interval, divide, exact_ends, interval_of, replicate_weights
from ndec_builder.evaluation.metrics.estimates import Evaluation

Replicates = Mapping[str, np.ndarray]  # key → (1 + replicates,) float64: the value on the data first; NaN = undefined


def over_seeds(runs: Sequence[Evaluation], groups: int, replicates: int, seed: int) -> Replicates:
    """Values of every key that all runs have, on the data and on each replicate.

    Calls with the same groups, number of runs, replicates and seed see the same draws, as `paired_difference` needs.
    """
    ones = np.ones((groups, 1), dtype=np.int32)
    parts = [_mean([run(ones) for run in runs], np.ones((len(runs), 1)))]
    generator, size = np.random.default_rng([seed, 1]), max(1, len(runs) - 1)
    for weights in replicate_weights(groups, replicates, seed):
        count = weights.shape[1]
        drawn = [np.bincount(generator.integers(0, len(runs), size), minlength=len(runs)) for _ in range(count)]
        parts.append(_mean([run(weights) for run in runs], np.stack(drawn, axis=1)))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def interval(values: Replicates, key: str, sizes: Mapping[str, np.ndarray] | None = None) -> Interval:
    """The 95 % interval of one key; undefined if the key is missing. sizes: of `Evaluation.sizes`, for `exact_ends`."""
    if key not in values:
        return Interval(None, None, None)
    found = interval_of(float(values[key][0]), values[key][1:])
    return exact_ends(found, sizes[key]) if sizes and key in sizes else found


def paired_difference(one: Replicates, other: Replicates, key: str, other_key: str | None = None) -> Interval:
    """The paired interval of `one[key] − other[other_key or key]`."""
    if key not in one or (other_key or key) not in other:
        return Interval(None, None, None)
    values = one[key] - other[other_key or key]
    return interval_of(float(values[0]), values[1:])


def _mean(values: Sequence[Mapping[str, np.ndarray]], drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Mean over runs of (b,) values, each run weighted by `drawn` ((runs, b)); undefined runs are left out."""
    means = {}
    for key in set.intersection(*(set(value) for value in values)):
        table = np.stack([value[key] for value in values])
        weight = np.where(np.isnan(table), 0, drawn)
        total = (np.nan_to_num(table) * weight).sum(axis=0)
        count = weight.sum(axis=0)
        means[key] = divide(total, count)
    return means
