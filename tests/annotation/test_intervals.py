"""Intervals against scipy's distributions, and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ndec_builder.annotation.decisions.binomial import clopper_pearson, clopper_pearson_upper, log_ways, wilson

CASES = [(0, 300), (1, 300), (3, 473), (0, 1), (5, 5), (17, 40), (0, 12000), (250, 12000)]


@pytest.mark.parametrize(("k", "n"), CASES)
def test_clopper_pearson_is_a_quantile_of_the_beta_distribution(k: int, n: int) -> None:
    expected = 1.0 if k == n else stats.beta.ppf(0.95, k + 1, n - k)
    assert clopper_pearson_upper(k, n) == pytest.approx(expected, abs=1e-9)
    low = 0.0 if k == 0 else stats.beta.ppf(0.025, k, n - k + 1)
    high = 1.0 if k == n else stats.beta.ppf(0.975, k + 1, n - k)
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), CASES)
def test_wilson_equals_scipy(k: int, n: int) -> None:
    theirs = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_three_hundred_clean_pairs_prove_one_per_cent() -> None:
    assert clopper_pearson_upper(0, 299) < 0.01 < clopper_pearson_upper(0, 297)
    assert clopper_pearson_upper(1, 300) > 0.01
    assert clopper_pearson_upper(0, 0) == 1.0 and wilson(0, 0) == (0.0, 1.0) and clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.005, 0.03, 0.3])
def test_the_bound_covers_as_often_as_it_says(share: float) -> None:
    drawn, counts = np.unique(np.random.default_rng(0).binomial(300, share, 4000), return_counts=True)
    covered = sum(c for k, c in zip(drawn, counts, strict=True) if clopper_pearson_upper(int(k), 300) >= share)
    assert covered / 4000 >= 0.945


@given(st.integers(0, 300), st.integers(0, 300))
def test_log_ways_are_logarithms_of_binomial_coefficients(count: int, some: int) -> None:
    some = min(some, count)
    assert float(log_ways(count, some)) == pytest.approx(math.log(math.comb(count, some)), abs=1e-9)
