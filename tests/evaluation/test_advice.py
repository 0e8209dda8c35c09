"""Threshold advice: the cut by brute force, honest nulls, and a precision that holds on new data."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.evaluation.metrics.bootstrap import GroupedList
from ndec_builder.evaluation.metrics.ranked import rank
from ndec_builder.evaluation.metrics.threshold_advice import advise


def grouped(scores: np.ndarray, match: np.ndarray, groups: np.ndarray) -> tuple[GroupedList, np.ndarray]:
    ranked = rank(scores, match, int(match.sum()), np.arange(len(scores)))
    rows = GroupedList(ranked, groups[ranked.rows], np.zeros(len(scores), int))
    return rows, groups[match]


def drawn(rng: np.random.Generator, count: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    match = rng.random(count) < 0.4
    return np.round(rng.normal(size=count) + gap * match, 2), match


@pytest.mark.slow
def test_the_threshold_is_the_lowest_with_the_precision() -> None:
    for seed in range(300):
        rng = np.random.default_rng(seed)
        scores, match = drawn(rng, int(rng.integers(2, 30)), 1.0)
        if not match.any():
            continue
        advice = advise(*grouped(scores, match, np.arange(len(scores))), 0.75, len(scores), 0)
        good = [cut for cut in scores if match[scores >= cut].any() and match[scores >= cut].mean() >= 0.75]
        assert advice["threshold"] == (min(good) if good else None)
        if good:
            assert advice["recall"] == match[scores >= min(good)].sum() / match.sum()
        else:
            assert "none is advised" in advice["advice"]


def test_the_promise_holds_on_data_that_were_not_used() -> None:
    gaps = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores, match = drawn(rng, 400, 3.0)
        advice = advise(*grouped(scores, match, np.arange(400)), 0.9, 400, seed)
        fresh, labels = drawn(rng, 20_000, 3.0)
        truth = labels[fresh >= advice["threshold"]].mean()
        gaps.append(advice["precision_elsewhere"]["value"] - truth)
        assert advice["advice"].startswith("for precision ≥ 0.9 on similar data use score ≥ ")
        assert advice["threshold_low"] <= advice["threshold"] <= advice["threshold_high"]
    assert abs(np.mean(gaps)) < 0.01  # what it says of new groups is unbiased


def test_a_cut_that_hangs_on_one_pair_is_not_advised() -> None:
    rng = np.random.default_rng(0)
    match = np.zeros(200, bool)
    match[:30] = True
    scores = rng.normal(size=200)
    scores[0] = 9.0  # the only pair above all negatives
    advice = advise(*grouped(scores, match, np.arange(200)), 0.9, 200, 0)
    assert advice["threshold"] == 9.0 and advice["without"] > 0.1
    assert advice["advice"].startswith("no threshold is advised for precision 0.9: ")
