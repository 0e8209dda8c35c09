"""The bound that may be watched, against brute force: it holds at all times at once, and it is not too loose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ndec_builder.annotation.decisions.anytime_bound import anytime_upper


def broken(rng: np.random.Generator, copies: int, count: int, weights: np.ndarray | None = None) -> bool:
    """Whether one audit, watched after every draw, is ever below the truth.

    The bound of some draws is the lowest of all moments up to them, and it cannot be wrong once all copies are found:
    one look before the last copy is found tells.
    """
    if weights is None:
        order = rng.permutation(count)
        stored = None
    else:  # weighted draws without replacement: the order of exponential clocks
        order = np.argsort(rng.exponential(size=count) / weights)
        left = np.cumsum(weights[order][::-1])[::-1]
        smallest = np.minimum.accumulate(weights[order][::-1])[::-1]
        stored = np.column_stack([weights[order] / left, smallest / left])
    found = order < copies
    look = int(np.flatnonzero(found)[-1])
    return anytime_upper(found[:look], count, weights=None if stored is None else stored[:look]) < copies


@pytest.mark.parametrize("copies", [1, 6, 30])
def test_continuous_watching_breaks_the_bound_in_at_most_five_percent(copies: int) -> None:
    rng = np.random.default_rng(copies)
    share = np.mean([broken(rng, copies, 200) for _ in range(120)])
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 120)


def test_it_holds_for_weighted_draws() -> None:
    rng = np.random.default_rng(7)
    weights = np.where(np.arange(200) < 40, 4.0, 1.0)  # the copies are among the pairs drawn more often
    share = np.mean([broken(rng, 10, 200, weights) for _ in range(120)])
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 120)


def test_clean_draws_give_the_number_at_which_the_wealth_reaches_twenty() -> None:
    count, draws = 1000, 300
    clean = np.zeros(draws, bool)
    assert anytime_upper(clean, count) == pytest.approx(
        max(k for k in range(count // 2) if _wealth(k, draws, count) < 20), abs=1
    )


def _wealth(copies: int, draws: int, count: int) -> float:
    """The average wealth of the three bets against `copies` when nothing is found in uniform draws: a plain product."""
    total = 0.0
    for bet in (0.8, 0.9, 0.95):
        wealth = 1.0
        for draw in range(draws):
            wealth *= 1 + bet * copies / (count - draw - copies)
        total += wealth / 3
    return total


def test_overlooked_copies_widen_it() -> None:
    clean = np.zeros(300, bool)
    assert anytime_upper(clean, 5000, missed=0.1) == pytest.approx(anytime_upper(clean, 5000) / 0.9)


def test_nothing_drawn_bounds_nothing_and_everything_drawn_leaves_what_was_found() -> None:
    assert anytime_upper(np.zeros(0, bool), 50) == 50
    found = np.arange(50) < 3
    assert 3 <= anytime_upper(found, 50) <= 50
    assert anytime_upper(np.zeros(50, bool), 50) < 3


def test_one_percent_of_5000_is_proven_by_450_draws_more_often_than_not() -> None:
    """The goal of the audit: a true rate of .1 %, a look misses at most a tenth of the copies."""
    rng = np.random.default_rng(0)
    proven = []
    for _ in range(40):
        found = rng.permutation(5000)[:450] < 5
        left = anytime_upper(found, 5000, 0.1) - found.sum()
        proven.append(left / (5000 - found.sum()) <= 0.01)
    assert np.mean(proven) >= 0.5
