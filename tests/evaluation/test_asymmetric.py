"""The norm-ratio filter: strictness, scopes and actions, and the arithmetic of the paper's Tables 1–2."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.evaluation.metrics.estimates import gap_figures
from ndec_builder.evaluation.metrics.norm_ratio_filter import (
    apply_filter,
    cut_then_filter,
    query_over_reference,
    reject,
)
from ndec_builder.evaluation.metrics.ranked import rank

N = 5009
PAPER = [  # method, true positives, false positives, precision in per cent (Tables 1 and 2 of arXiv 2205.12358)
    ("EsViTp", 2346, 2663, 46.84), ("EsViTp+ASL", 1265, 501, 71.63),
    ("CNNCL", 2620, 2389, 52.31), ("CNNCL+ASL", 2110, 545, 79.47),
    ("EfNet", 2579, 2430, 51.49), ("EfNet+ASL", 1997, 562, 78.04),
    ("BoT", 2075, 2934, 41.43), ("BoT+ASL", 1620, 838, 65.91),
    ("D2LV", 2836, 2173, 56.62), ("D2LV+ASL", 2227, 583, 79.25),
    ("Simple", 2269, 2740, 45.30), ("Simple+ASL", 1829, 648, 73.84),
    ("Strong", 2968, 2041, 59.25), ("Strong+ASL", 2331, 567, 80.43),
    ("ASL-Crop", 2098, 1233, 62.98), ("ASL-Negative", 1877, 845, 68.96),
    ("ASL-Positive", 1932, 794, 70.87), ("Triplet", 1774, 1200, 59.65),
]  # fmt: skip


@pytest.mark.parametrize(("method", "tp", "fp", "precision"), PAPER)
def test_rows_of_the_paper_reproduce_their_own_precision(method: str, tp: int, fp: int, precision: float) -> None:
    """Cut at N, then filter, no refill: survivors among the first 5,009 are the denominator."""
    rejected_in_top = N - tp - fp
    assert (rejected_in_top == 0) == (method in {"EsViTp", "CNNCL", "EfNet", "BoT", "D2LV", "Simple", "Strong"})
    match = np.concatenate([np.ones(tp, bool), np.zeros(N - tp, bool), np.ones(300, bool)])
    rejected = np.zeros(len(match), bool)
    rejected[tp + fp : N] = True
    scores = np.arange(len(match), 0, -1.0)
    cut = cut_then_filter(rank(scores, match, max(N, int(match.sum()))), rejected, N)
    assert (cut.tp_kept, cut.fp_kept) == (tp, fp)
    assert cut.tp + cut.fp == N
    assert round(100 * (cut.precision_after_filter or 0), 2) == precision


@pytest.mark.parametrize(
    ("without", "with_hard", "scorer", "recovered"),
    [
        (72.42, 47.00, 49.30, 9.0), (90.13, 61.03, 64.09, 10.5),  # simple, strong
        (45.55 + 39.09, 45.55, 48.31, 7.1), (54.30 + 23.13, 54.30, 56.95, 11.5),  # EsViTp, CNNCL: drops from the text
    ],
)  # fmt: skip
def test_recovered_of_the_paper(without: float, with_hard: float, scorer: float, recovered: float) -> None:
    values = [np.array([x / 100]) for x in (without, with_hard, without, scorer)]
    assert round(100 * float(gap_figures(*values)[0][0]), 1) == recovered


def test_gap_figures_by_hand_and_undefined_below_two_points() -> None:
    recovered, gap_closed, held = (float(x[0]) for x in gap_figures(*(np.array([x]) for x in (0.7, 0.5, 0.8, 0.75))))
    assert recovered == pytest.approx(1.25) and gap_closed == pytest.approx(0.75) and held == pytest.approx(0.9375)
    assert all(np.isnan(x[0]) for x in gap_figures(*(np.array([x]) for x in (0.5, 0.49, 0.8, 0.75))))


def test_strictly_greater_keeps_identical_pairs() -> None:
    ratios = query_over_reference(np.array([2.0, 3.7, 3.0, 1.0]), np.array([2.0, 3.7, 2.0, 2.0]))
    assert ratios.tolist() == [1.0, 1.0, 1.5, 0.5]
    assert reject(ratios).tolist() == [False, False, True, False]
    assert reject(ratios, 1.5).tolist() == [False] * 4
    # the same picture in two files differs in the last bits of float32 only
    one, other = np.array([np.float32(3.7)]), np.array([np.float32(3.7) - np.float32(2.4e-7)])
    assert one[0] > other[0] and not reject(query_over_reference(one, other)).any()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_norms_must_be_finite_and_positive(bad: float) -> None:
    with pytest.raises(NdecError, match="reference norm"):
        query_over_reference(np.array([1.0]), np.array([bad]))


def test_scopes_and_actions() -> None:
    ranked = rank(np.array([5.0, 4, 3, 3, 1]), np.array([True, False, False, False, True]), 3, np.arange(5))
    rejected = np.array([True, False, True, True, True])
    cases = {
        ("all", "drop"): ([1], [4.0]),
        ("topN", "drop"): ([1, 2, 3, 4], [4.0, 3, 3, 1]),
        ("all", "demote"): ([1, 0, 2, 3, 4], [4.0, 0, -1, -1, -2]),
        ("topN", "demote"): ([1, 2, 3, 4, 0], [4.0, 3, 3, 1, 0]),
    }
    for (scope, action), (rows, scores) in cases.items():
        left, values = apply_filter(ranked, rejected, 2, scope, action)
        order = np.lexsort((left, -values))
        assert (left[order].tolist(), values[order].tolist()) == (rows, scores), (scope, action)


def test_filter_then_cut_refills_and_cut_then_filter_does_not() -> None:
    ranked = rank(np.array([5.0, 4, 3, 2]), np.array([False, True, True, False]), 2)
    cut = cut_then_filter(ranked, np.array([True, False, False, False]), 2)
    assert (cut.tp, cut.fp, cut.tp_kept, cut.fp_kept) == (1, 1, 1, 0)
    assert (cut.precision_after_filter, cut.recall_after_filter, cut.filter_then_cut) == (1.0, 0.5, 1.0)
    nothing = cut_then_filter(ranked, np.ones(4, bool), 2)
    assert nothing.precision_after_filter is None and nothing.filter_then_cut is None


def test_random_filters_against_plain_counting() -> None:
    rng = np.random.default_rng(3)
    for _ in range(500):
        m = int(rng.integers(1, 25))
        match = rng.random(m) < 0.4
        ranked = rank(rng.integers(0, 4, m).astype(float), match, max(1, int(match.sum())), np.arange(m))
        rejected, n = rng.random(m) < 0.5, int(rng.integers(1, m + 3))
        cut = cut_then_filter(ranked, rejected, n)
        top = [(bool(a), bool(b)) for a, b in zip(ranked.is_match[:n], rejected[:n], strict=True)]
        assert cut.tp_kept == top.count((True, False)) and cut.fp_kept == top.count((False, False))
        survivors = [bool(a) for a, b in zip(ranked.is_match, rejected, strict=True) if not b][:n]
        assert cut.filter_then_cut == (sum(survivors) / len(survivors) if survivors else None)
        rows, scores = apply_filter(ranked, rejected, n, "all", "demote")
        again = rank(scores, ranked.is_match, ranked.positives, ranked.rows)
        # demoted rows come last, in their own order, and nothing else moves
        expected = ranked.rows[~rejected].tolist() + ranked.rows[rejected].tolist()
        assert rows[again.rows].tolist() == expected
