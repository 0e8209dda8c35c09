"""The bound that may be watched, against brute force: it holds at all times at once, and it is not too loose."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from ndec_builder.annotation.decisions.anytime_bound import watched_upper, weighted_upper
from ndec_builder.annotation.decisions.audit import pairs_needed, pairs_to_watch


def broken(rng: np.random.Generator, copies: int, count: int, missed: float, weights: np.ndarray | None = None) -> bool:
    """Whether one audit, watched after every draw, is ever below the truth.

    What an earlier draw ruled out stays ruled out: one look before the last copy is found, or at the end if one was
    overlooked, tells.
    """
    if weights is None:
        order = rng.permutation(count)
        stored = None
    else:  # weighted draws without replacement: the order of exponential clocks
        order = np.argsort(rng.exponential(size=count) / weights)
        left = np.cumsum(weights[order][::-1])[::-1]
        smallest = np.minimum.accumulate(weights[order][::-1])[::-1]
        stored = np.column_stack([weights[order] / left, smallest / left])
    found = (order < copies) & (rng.random(count) >= missed)
    look = int(np.flatnonzero(found)[-1]) if found.sum() == copies else count
    if stored is None:
        return watched_upper(found[:look], count, missed) < copies
    return weighted_upper(found[:look], count, stored[:look], missed) < copies


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 6, 20])
@pytest.mark.parametrize("missed", [0.0, 0.1])
def test_continuous_watching_breaks_the_bound_in_at_most_five_percent(copies: int, missed: float) -> None:
    rng = np.random.default_rng(copies)
    share = np.mean([broken(rng, copies, 100, missed) for _ in range(100)])
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)


@pytest.mark.slow
@pytest.mark.parametrize("missed", [0.0, 0.1])
def test_it_holds_for_weighted_draws(missed: float) -> None:
    rng = np.random.default_rng(7)
    weights = np.where(np.arange(200) < 40, 4.0, 1.0)  # the copies are among the pairs drawn more often
    share = np.mean([broken(rng, 10, 200, missed, weights) for _ in range(100)])
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)


def chance_of(found: int, draws: int, copies: int, count: int, missed: float) -> Fraction:
    """P(`found` of `draws` are found | `copies`), in exact fractions."""
    rate, total = Fraction(missed).limit_denominator(100), Fraction(0)
    for hit in range(found, min(draws, copies) + 1):
        ways = math.comb(copies, hit) * math.comb(count - copies, draws - hit) * math.comb(hit, found)
        total += ways * (1 - rate) ** found * rate ** (hit - found)
    return total / math.comb(count, draws)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("found_at", "missed"),
    [
        ([], 0.0),
        ([], 0.1),
        ([20], 0.1),
        ([5, 30], 0.1),
        ([*range(0, 40, 2)], 0.0),
        ([*range(36)], 0.0),
        ([*range(30)], 0.1),
    ],
)
def test_the_bound_is_the_largest_number_of_copies_not_ruled_out(found_at: list[int], missed: float) -> None:
    """The posterior-to-prior ratio in exact fractions, at every draw."""
    count, draws = 60, 40
    found = np.isin(np.arange(draws), found_at)
    weights = [Fraction(1, (1 + k) ** 2) for k in range(count + 1)]
    ruled_out = set()
    for draw in range(1, draws + 1):
        seen = int(found[:draw].sum())
        chances = [chance_of(seen, draw, copies, count, missed) for copies in range(count + 1)]
        mixed = sum(w * c for w, c in zip(weights, chances, strict=True)) / sum(weights)
        ruled_out |= {copies for copies, one in enumerate(chances) if one * 20 <= mixed}
    assert watched_upper(found, count, missed) == max(set(range(count + 1)) - ruled_out)


def test_overlooked_copies_widen_both_bounds() -> None:
    clean = np.zeros(300, bool)
    assert watched_upper(clean, 5000, missed=0.1) > watched_upper(clean, 5000)
    weights = np.column_stack([1 / (5000 - np.arange(300.0))] * 2)
    assert weighted_upper(clean, 5000, weights, 0.1) > weighted_upper(clean, 5000, weights)


@pytest.mark.parametrize(
    ("found", "draws", "count"), [(127, 380, 956), (57, 276, 1298), (60, 62, 244), (60, 200, 1000)]
)
def test_many_copies_in_the_sample_are_many_among_all(found: int, draws: int, count: int) -> None:
    """They refute small numbers of copies too, and the bound is the largest number that is not refuted."""
    expected = found * count / draws
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(draws) < found
        assert 0.95 * expected < watched_upper(order, count) < 2 * expected


def test_watching_never_needs_fewer_pairs_than_a_sample_of_fixed_size() -> None:
    needs = [(pairs_needed(copies, 5000), pairs_to_watch(copies, 5000)) for copies in (0, 2, 20, 40, 80)]
    assert needs == [(316, 325), (644, 1034), (2150, 2884), (2978, 3667), (3813, 4367)]


def test_nothing_drawn_bounds_nothing_and_everything_drawn_leaves_what_was_found() -> None:
    assert watched_upper(np.zeros(0, bool), 50) == 50
    assert watched_upper(np.arange(50) < 3, 50) == 3
    assert watched_upper(np.zeros(50, bool), 50) == 0


def test_watching_a_clean_audit_costs_up_to_five_percent_more_pairs_than_a_fixed_sample() -> None:
    need = pairs_needed(0, 5000) or 0
    clean = np.zeros(round(1.05 * need), bool)
    assert watched_upper(clean, 5000, 0.1) / 5000 <= 0.01 < watched_upper(clean[:need], 5000, 0.1) / 5000


def test_one_copy_takes_760_of_5000_pairs_to_prove_one_percent() -> None:
    """The number in the docs."""
    one = np.arange(800) == 100
    assert (watched_upper(one[:760], 5000, 0.1) - 1) / 4999 <= 0.01 < (watched_upper(one[:720], 5000, 0.1) - 1) / 4999


@pytest.mark.slow
def test_one_percent_of_5000_is_proven_by_450_draws_more_often_than_not() -> None:
    """The goal of the audit: a true rate of .1 %, an annotator misses at most a tenth of the copies."""
    rng = np.random.default_rng(0)
    proven = []
    for _ in range(60):
        found = rng.permutation(5000)[:450] < 5
        left = watched_upper(found, 5000, 0.1) - found.sum()
        proven.append(left / (5000 - found.sum()) <= 0.01)
    assert np.mean(proven) >= 0.5
