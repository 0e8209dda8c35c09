"""Every metric against a plain second implementation, on thousands of random lists full of ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.metrics.ranked import (
    MAX_PREDICTIONS,
    average_precision,
    curve,
    micro_average_precision,
    pair_numbers,
    precision_at_n,
    rank,
    recall_at_precision,
)

Row = tuple[float, bool, str, str]


def plainly_ranked(rows: list[Row]) -> list[Row]:
    """Score descending, negatives first among equal scores, then ids."""
    return sorted(rows, key=lambda row: (-row[0], row[1], row[2], row[3]))


def plain_average_precision(rows: list[Row], positives: int) -> float:
    """Σ (r_k − r_{k−1})·p_k, walked row by row."""
    found, total, last_recall = 0, 0.0, 0.0
    for place, row in enumerate(plainly_ranked(rows), start=1):
        found += row[1]
        recall = found / positives
        total += (recall - last_recall) * (found / place)
        last_recall = recall
    return total


def plain_recall_at_precision(rows: list[Row], positives: int, least: float) -> float | None:
    """Over all score thresholds: the recall of everything at or above it."""
    best = None
    for threshold in {row[0] for row in rows}:
        taken = [row for row in rows if row[0] >= threshold]
        found = sum(row[1] for row in taken)
        if found and found / len(taken) >= least:
            best = max(best or 0.0, found / positives)
    return best


def random_rows(rng: np.random.Generator) -> tuple[list[Row], int]:
    pairs = [(f"q{q}", f"r{r}") for q in range(int(rng.integers(1, 7))) for r in range(int(rng.integers(1, 7)))]
    rng.shuffle(pairs)
    pairs = [(str(q), str(r)) for q, r in pairs[: int(rng.integers(1, len(pairs) + 1))]]
    levels = int(rng.integers(1, 6))  # few levels: many ties
    share = rng.random()
    rows = [(float(rng.integers(0, levels)) / 7, bool(rng.random() < share), q, r) for q, r in pairs]
    return rows, max(1, sum(row[1] for row in rows) + int(rng.integers(0, 3)))


def columns(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, match = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    return scores, match, pair_numbers([row[2] for row in rows], [row[3] for row in rows])


@pytest.mark.slow
def test_all_metrics_equal_a_plain_implementation_on_random_lists_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        rows, positives = random_rows(rng)
        scores, match, pairs = columns(rows)
        ranked = rank(scores, match, positives, pairs)
        assert [rows[i] for i in ranked.rows] == plainly_ranked(rows)
        expected = plain_average_precision(rows, positives)
        assert average_precision(ranked) == pytest.approx(expected, abs=1e-12)
        assert micro_average_precision(scores, match, positives) == average_precision(ranked)  # ids do not matter
        for least in (0.5, 0.9, 1.0):
            wanted = plain_recall_at_precision(rows, positives, least)
            assert recall_at_precision(ranked, least) == (None if wanted is None else pytest.approx(wanted))
        n = int(rng.integers(1, len(rows) + 3))
        cut, top = precision_at_n(ranked, n), plainly_ranked(rows)[:n]
        assert (cut.tp, cut.fp) == (sum(row[1] for row in top), sum(not row[1] for row in top))
        assert cut.precision == pytest.approx(sum(row[1] for row in top) / len(top))
        assert cut.recall_at_n == pytest.approx(cut.tp / positives)


@pytest.mark.slow
def test_equals_scikit_learn_where_there_are_no_ties_and_everything_is_found() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        match = rng.random(60) < 0.3
        match[0] = True
        scores = rng.permutation(60).astype(float)
        assert micro_average_precision(scores, match, int(match.sum())) == pytest.approx(
            average_precision_score(match, scores)
        )


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_order_of_the_rows_does_not_matter(rows: list[tuple[int, bool]], unfound: int) -> None:
    scores, match = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    positives = int(match.sum()) + unfound
    if positives == 0:
        return
    pairs = np.arange(len(rows))
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    a, b = rank(scores, match, positives, pairs), rank(scores[order], match[order], positives, pairs[order])
    assert pairs[a.rows].tolist() == pairs[order][b.rows].tolist()
    assert average_precision(a) == average_precision(b)


def test_hand_computed() -> None:
    # hit at 1, miss, hit at 3; 4 ground-truth pairs, one tie where the negative goes first
    scores, match = np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False])
    ranked = rank(scores, match, 4)
    assert ranked.is_match.tolist() == [True, False, True, False]
    assert average_precision(ranked) == pytest.approx((1 / 1 + 2 / 3) / 4)
    assert recall_at_precision(ranked, 0.9) == 0.25
    assert precision_at_n(ranked, 2).precision == 0.5
    recalls, precisions = curve(ranked)
    assert recalls.tolist() == [0.25, 0.5] and precisions.tolist() == [1.0, 2 / 3]


def test_nothing_found_and_empty_list() -> None:
    empty = rank(np.array([]), np.array([], bool), 3)
    assert average_precision(empty) == 0.0
    assert recall_at_precision(empty) is None
    assert precision_at_n(empty) == precision_at_n(empty, 3)
    assert precision_at_n(empty).precision is None
    assert recall_at_precision(rank(np.array([1.0, 1.0]), np.array([False, True]), 1)) is None


def test_pair_numbers_follow_the_ids() -> None:
    numbers = pair_numbers(["b", "a", "a", "b"], ["x", "y", "x", "x"])
    assert numbers[0] == numbers[3]
    assert numbers[2] < numbers[1] < numbers[0]


@pytest.mark.parametrize(
    ("scores", "match", "positives", "pairs", "words"),
    [
        ([0.1, float("nan")], [True, False], 1, None, "row 1 .* NaN"),
        ([0.1, 0.2], [True, False], 0, None, "no positive pair"),
        ([0.1, 0.2], [True, True], 1, None, "2 predictions are marked as matches"),
        (
            [0.1, 0.2, 0.3],
            [True, False, False],
            1,
            [4, 5, 4],
            r"row 0 \(from 0\) and row 2 \(from 0\) predict the same",
        ),
        ([0.1], [True, False], 1, None, "vectors of the same length"),
        ([0.1], [True], 1, [1, 2], "vectors of the same length"),
        (np.zeros(MAX_PREDICTIONS + 1), np.zeros(MAX_PREDICTIONS + 1, bool), 1, None, "500,001 predictions"),
    ],
)
def test_bad_input(scores, match, positives, pairs, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NdecError, match=words):
        rank(np.asarray(scores), np.asarray(match), positives, None if pairs is None else np.asarray(pairs))


def test_bad_rows_are_named_as_asked() -> None:
    names = ["(q1, r1)", "(q1, r2)", "(q2, r1)", "(q2, r2)", "(q3, r1)"]
    scores, match = np.full(5, np.nan), np.array([True, False, False, False, False])
    with pytest.raises(NdecError, match=r"score of \(q1, r1\), \(q1, r2\), \(q2, r1\) and 2 more is NaN"):
        rank(scores, match, 1, np.arange(5), names.__getitem__)
    with pytest.raises(NdecError, match=r"\(q1, r2\) and \(q2, r2\) predict the same"):
        rank(np.ones(5), match, 1, np.array([1, 7, 3, 7, 5]), names.__getitem__)


def test_cut_at_zero_is_refused() -> None:
    with pytest.raises(NdecError, match="N = 0"):
        precision_at_n(rank(np.array([1.0]), np.array([True]), 1), 0)
