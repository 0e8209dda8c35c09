"""Intervals over training seeds: against the literal resampling of seeds and groups, and paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.evaluation.metrics.bootstrap import replicate_weights
from ndec_builder.evaluation.metrics.over_seeds import interval, over_seeds, paired_difference

GROUPS = 30


class Run:
    """A run whose `all/uap` is the weighted mean of a value per group, plus the run's own shift."""

    def __init__(self, values: np.ndarray, undefined: bool = False) -> None:
        self.values, self.undefined = values, undefined

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        mean = (weights * self.values[:, None]).sum(axis=0) / weights.sum(axis=0)
        return {"all/uap": mean, "all/kept": np.full_like(mean, np.nan) if self.undefined else mean}


def runs(seed: int, seeds: int = 5, shift: float = 0.3, level: float = 0.0) -> list[Run]:
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).normal(size=GROUPS)
    return [Run(level + base + shift * rng.normal()) for _ in range(seeds)]


def test_equals_the_literal_resampling_of_seeds_and_groups() -> None:
    some = runs(0)
    values = over_seeds(some, GROUPS, 200, seed=7)["all/uap"]
    assert values[0] == pytest.approx(np.mean([run.values.mean() for run in some]))
    generator = np.random.default_rng([7, 1])
    weights = np.concatenate(list(replicate_weights(GROUPS, 200, 7)), axis=1)
    for replicate in range(200):
        drawn = generator.integers(0, 5, 4)
        rows = np.repeat(np.arange(GROUPS), weights[:, replicate])
        expected = np.mean([some[seed].values[rows].mean() for seed in drawn])
        assert values[1 + replicate] == pytest.approx(expected)


def test_the_spread_between_seeds_is_that_of_their_mean() -> None:
    shifts = [0.0, 0.1, 0.4, 0.9, 0.2]
    values = over_seeds([Run(np.full(GROUPS, shift)) for shift in shifts], GROUPS, 4000, 0)["all/uap"]
    assert values[1:].std() == pytest.approx(np.std(shifts, ddof=1) / np.sqrt(5), rel=0.04)


def test_more_spread_between_seeds_widens_the_interval() -> None:
    narrow, wide = (interval(over_seeds(runs(1, shift=s), GROUPS, 400, 0), "all/uap") for s in (0.0, 2.0))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)  # type: ignore[operator]


def test_runs_that_all_find_everything_have_the_exact_interval() -> None:
    values = over_seeds([Run(np.ones(GROUPS))] * 3, GROUPS, 100, 0)
    found = interval(values, "all/uap", {"all/uap": np.ones(GROUPS)})
    assert (found.value, found.high) == (1.0, 1.0) and found.low == pytest.approx(0.025 ** (1 / GROUPS))


def test_differences_are_paired() -> None:
    one, other = over_seeds(runs(0), GROUPS, 400, 0), over_seeds(runs(0, level=0.05), GROUPS, 400, 0)
    gain = paired_difference(other, one, "all/uap")
    assert gain.value == pytest.approx(0.05)
    assert gain.low == pytest.approx(0.05) and gain.high == pytest.approx(0.05)  # groups and seeds fall out
    assert paired_difference(one, other, "all/none").value is None and interval(one, "all/none").low is None


def test_a_run_without_the_number_is_left_out_of_the_mean() -> None:
    some = [*runs(0, seeds=2), Run(np.zeros(GROUPS), undefined=True)]
    values = over_seeds(some, GROUPS, 300, 0)
    assert values["all/kept"][0] == pytest.approx(np.mean([run.values.mean() for run in some[:2]]))
    assert np.isnan(values["all/kept"]).sum() > 0  # replicates that drew the undefined run alone
