"""The recall certificate, against simulations and sums that share no code with it."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom

from ndec_builder.annotation.decisions.binomial import rare_upper
from ndec_builder.annotation.decisions.recall_certificate import (
    GoldErrors,
    RecallGoal,
    certify_recall,
    expected_recall,
    false_positives,
    least_positives,
    required_order,
)

GOAL = RecallGoal(0.8, 0.95)


def holds(rng: np.random.Generator, positives: int, pairs: int, sample: int, goal: RecallGoal) -> bool | None:
    """Whether a certificate from one random sample is true; None when there is none. Ranks: positives come early."""
    score = rng.normal(size=pairs)
    is_positive = np.zeros(pairs, bool)
    is_positive[:positives] = True
    score[:positives] += 1.5
    order = np.argsort(-score)
    drawn = rng.choice(pairs, sample, replace=False)
    rank = np.empty(pairs, np.int64)
    rank[order] = np.arange(1, pairs + 1)
    found = certify_recall(rank[drawn[is_positive[drawn]]], pairs, sample, goal)
    if found.stop is None:
        return None
    labelled = set(order[: found.stop].tolist()) | set(drawn.tolist())
    return sum(pair in labelled for pair in range(positives)) >= goal.recall * positives


@pytest.mark.parametrize(("positives", "sample"), [(300, 200), (300, 400), (60, 400), (900, 200)])
def test_the_statement_is_true_as_often_as_it_says(positives: int, sample: int) -> None:
    rng = np.random.default_rng(positives + sample)
    results = [holds(rng, positives, 1500, sample, GOAL) for _ in range(400)]
    made = [result for result in results if result is not None]
    assert len(made) > 150
    assert np.mean(made) > 0.95 - 3 * math.sqrt(0.95 * 0.05 / len(made))


def test_the_order_is_exact_for_a_small_number_of_positives() -> None:
    """All samples of 8 among each possible number of positives are listed."""
    goal, drawn, sample, pairs = RecallGoal(0.75, 0.9), 8, 20, 30

    def failures(order: int, positives: int) -> float:
        samples = list(combinations(range(1, positives + 1), drawn))
        return sum(places[order - 1] + drawn - order < goal.recall * positives for places in samples) / len(samples)

    most = rare_upper(drawn, sample, pairs, confidence=1 - 0.1 * 0.1)
    allowed = 0.1 * 0.7  # what is left for the stop itself
    worst = {order: max(failures(order, total) for total in range(drawn, most + 1)) for order in range(1, drawn + 1)}
    order = required_order(drawn, sample, pairs, goal)
    assert order is not None
    assert worst[order] <= allowed < worst[order - 1]


def test_a_large_pool_gives_the_binomial_order_of_the_paper() -> None:
    def binomial_order(positives: int, recall: float, alpha: float) -> int:
        below = 0.0
        for j in range(positives + 1):
            if 1 - below <= alpha:
                return j
            below += math.comb(positives, j) * recall**j * (1 - recall) ** (positives - j)
        raise AssertionError

    found = required_order(100, 500, 10_000_000, GOAL)
    assert found == binomial_order(100, 0.8, 0.05 * 0.7)


def test_too_few_sampled_hard_negatives_certify_nothing() -> None:
    least = least_positives(GOAL)
    assert 0.8**least <= 0.05 * 0.7 < 0.8 ** (least - 1)
    assert certify_recall(np.arange(1, least), 10_000_000, 500, GOAL).stop is None
    assert certify_recall(np.arange(1, least + 1), 10_000_000, 500, GOAL).stop == least
    assert certify_recall(np.zeros(0, np.int64), 1000, 100, GOAL).order is None


def worst_failure(order: int, positives: int, most: int, recall: float) -> float:
    """The largest probability of a wrong statement over every possible number of hard negatives, by scipy."""
    totals = np.arange(positives, most + 1)
    places = np.clip(np.ceil(recall * totals - 1e-9) - 1 - positives + order, 0, totals)
    return float(hypergeom.sf(order - 1, totals, places, positives).max())


@settings(max_examples=25, deadline=None)
@given(st.integers(16, 90), st.integers(0, 200), st.integers(0, 800), st.sampled_from([0.5, 0.7, 0.8, 0.9]))
def test_the_grid_of_totals_misses_no_worse_one(positives: int, others: int, rest: int, recall: float) -> None:
    sample = positives + others
    pairs, goal = sample + rest, RecallGoal(recall, 0.95)
    order = required_order(positives, sample, pairs, goal, 0.1)
    most = rare_upper(positives, sample, pairs, 0.1, confidence=1 - 0.05 * 0.1)
    if order is not None:
        assert worst_failure(order, positives, most, recall) <= 0.05 * 0.7 + 1e-9
        assert order == 1 or worst_failure(order - 1, positives, most, recall) > 0.05 * 0.7


def test_false_positives_move_the_stop_back_by_at_least_as_many_places() -> None:
    ranks = np.arange(10, 1010, 10)
    plain, widened = certify_recall(ranks, 5000, 500, GOAL), certify_recall(ranks, 5000, 500, GOAL, error=0.01)
    false = false_positives(500, 100, 0.01, 1 - 0.05 * 0.2)
    assert (plain.false, widened.false) == (0, false)
    assert 5 < false < 20
    orders = [(required_order(100 - wrong, 500, 5000, GOAL, 0.1) or 0) + wrong for wrong in range(false + 1)]
    assert widened.order == max(orders) >= plain.order + 1  # type: ignore[operator]
    assert plain.stop is not None and widened.stop is not None
    assert widened.stop > plain.stop


@pytest.mark.parametrize(
    ("sample", "positives", "error"), [(600, 180, 0.03), (200, 60, 0.05), (50, 5, 0.2), (90, 90, 0.1)]
)
def test_the_bound_of_false_positives_is_the_largest_that_agrees_with_itself(
    sample: int, positives: int, error: float
) -> None:
    """f false ones leave at most sample − positives + f pairs that are no hard negatives: a binomial quantile."""
    possible = [f for f in range(positives + 1) if f <= binom.ppf(0.99, sample - positives + f, error)]
    assert false_positives(sample, positives, error, 0.99) == max(possible)


@pytest.mark.slow
@pytest.mark.parametrize("error", [0.02, 0.1])
def test_gold_pairs_bound_the_false_positives_as_often_as_they_say(error: float) -> None:
    rng, held = np.random.default_rng(5), []
    for _ in range(100):
        wrong, false = rng.binomial(80, error), rng.binomial(300, error)
        bound = false_positives(400, 100 + false, GoldErrors(int(wrong), 80), 0.9)
        held.append(false <= bound)
    assert np.mean(held) >= 0.9 - 3 * math.sqrt(0.09 / 100)


def test_gold_pairs_without_an_error_still_allow_some() -> None:
    """P(no gold pair is wrong | f of 150 + f others are) is 1 of C(150 + f + 50, f) / C(150 + f, f)."""

    def chance(false: int) -> float:
        return math.comb(150 + false, false) / math.comb(200 + false, false)

    expected = max(f for f in range(51) if chance(f) > 0.01)
    assert false_positives(200, 50, GoldErrors(0, 50), 0.99) == expected > 5


def test_a_second_annotator_leaves_fewer_false_positives() -> None:
    once, twice = (false_positives(600, 150, 0.03, 0.99, confirmed) for confirmed in (False, True))
    assert twice == false_positives(600, 150, 0.03 * 0.2, 0.99) < once / 2
    ranks = np.arange(10, 1510, 10)
    plain = certify_recall(ranks, 5000, 600, GOAL, 0.03)
    assert (certify_recall(ranks, 5000, 600, GOAL, 0.03, confirmed=True).stop or 0) < (plain.stop or 0)


def test_missed_hard_negatives_make_the_pool_larger_not_smaller() -> None:
    orders = [required_order(100, 500, 800, GOAL, missed) for missed in (0.0, 0.1, 0.3)]
    assert orders == sorted(orders) and orders[0] < orders[-1]  # type: ignore[type-var, operator]


@pytest.mark.parametrize("error", [-0.1, 1.0, GoldErrors(3, 2)])
def test_an_impossible_error_is_refused(error: float | GoldErrors) -> None:
    with pytest.raises(ValueError, match=r"must be at least 0 and below 1|cannot be wrong"):
        false_positives(100, 10, error, 0.99)


def test_the_expected_recall_is_where_reviews_stop_on_average() -> None:
    rng = np.random.default_rng(3)
    pairs, positives, sample = 2000, 600, 300
    reached = []
    for _ in range(300):
        places = np.sort(rng.choice(positives, rng.hypergeometric(positives, pairs - positives, sample), replace=False))
        order = required_order(len(places), sample, pairs, GOAL, 0.1)
        reached.append((places[(order or 1) - 1] + 1) / positives)
    expected = expected_recall(sample, 0.3, pairs, GOAL)
    assert expected == pytest.approx(float(np.mean(reached)), abs=0.01)


@pytest.mark.parametrize("bad", [{"recall": 1.0}, {"recall": 0.0}, {"confidence": 1.5}])
def test_a_goal_is_a_share(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be above 0 and below 1"):
        RecallGoal(**bad)
