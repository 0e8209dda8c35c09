"""Dawid & Skene against simulated annotators whose confusion is known, and against a plain second implementation."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.annotation.decisions import dawid_skene as posterior
from ndec_builder.annotation.decisions.dawid_skene import dawid_skene


def simulate(errors: dict[str, float], pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """truth (pairs,), then one label of each person for each pair."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, pairs, p=[0.4, 0.4, 0.2])
    rows, who, given = [], [], []
    for name, error in errors.items():
        wrong = rng.random(pairs) < error
        rows += range(pairs)
        who += [name] * pairs
        given += np.where(wrong, (truth + rng.integers(1, 3, pairs)) % 3, truth).tolist()
    return truth, np.array(rows), who, np.array(given)


def test_each_annotators_accuracy_is_found_without_the_truth() -> None:
    errors = {"good": 0.03, "fair": 0.08, "poor": 0.25}
    truth, pairs, who, given = simulate(errors, 2000, 1)
    found = dawid_skene(pairs, who, given, np.full(2000, np.nan))
    for name, error in errors.items():
        assert found.accuracy(name) == pytest.approx(1 - error, abs=0.02)
    wrong = (found.probabilities.argmax(1) != truth).mean()
    assert wrong < 0.025  # better than the best of the three alone
    np.testing.assert_allclose(found.probabilities.sum(1), 1)


def test_one_step_is_bayes_rule_written_out() -> None:
    """Second computation, pair by pair, for the start that uses the smoothed annotator and uniform classes."""
    found = dawid_skene(
        np.array([0, 0, 1]), ["a", "b", "a"], np.array([0, 1, 3]), np.array([np.nan, 0.9, 0.2]), rounds=0
    )
    right, wrong = posterior.SKILL, (1 - posterior.SKILL) / 3
    first = np.array([right * wrong, wrong * right, wrong * wrong]) / 3
    second = np.array([0.9, 0.05, 0.05]) * wrong  # everybody is as likely to be unsure
    third = np.array([0.2, 0.4, 0.4])  # no label: the prior stays
    for row, expected in zip(found.probabilities, (first, second, third), strict=True):
        np.testing.assert_allclose(row, expected / expected.sum())


def test_a_prelabel_never_outweighs_two_annotators() -> None:
    found = dawid_skene(np.array([0, 0]), ["a", "b"], np.array([1, 1]), np.array([1.0]))
    assert found.probabilities[0].argmax() == 1


def test_no_labels_give_an_empty_posterior() -> None:
    found = dawid_skene(np.zeros(0, int), [], np.zeros(0, int), np.array([np.nan, 0.5]))
    np.testing.assert_allclose(found.probabilities[0], 1 / 3)


def test_a_prior_of_three_classes_is_bayes_rule_too() -> None:
    prior = np.array([[0.2, 0.7, 0.1], [np.nan, np.nan, np.nan]])
    found = dawid_skene(np.array([0, 1]), ["a", "a"], np.array([0, 2]), prior, rounds=0)
    right, wrong = posterior.SKILL, (1 - posterior.SKILL) / 3
    first, second = prior[0] * (right, wrong, wrong), np.array([wrong, wrong, right]) / 3
    for row, expected in zip(found.probabilities, (first, second), strict=True):
        np.testing.assert_allclose(row, expected / expected.sum())
