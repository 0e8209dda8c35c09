"""The learnt pair model: what it learns from labels with errors, and which labels must not reach it."""

from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.annotation.decisions.pair_model import Answers, cross_fit
from ndec_builder.candidates.logistic import equal_width_calibration_error
from ndec_builder.candidates.prelabel import auc

pytestmark = pytest.mark.slow


def made(pairs: int, errors: tuple[float, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, Answers]:
    """truth (n,), features (n, 4) that tell it in part, folds (n,), one label of one of the people for each pair."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, pairs, p=[0.3, 0.4, 0.3])
    features = rng.normal(size=(pairs, 4))
    features[:, 0] += 2.5 * (truth == 0)
    features[:, 1] += 2.5 * (truth == 1)
    who = rng.integers(0, len(errors), pairs)
    wrong = rng.random(pairs) < np.array(errors)[who]
    labels = np.where(wrong, (truth + rng.integers(1, 4, pairs)) % 4, truth)
    return truth, features, rng.integers(0, 5, pairs), Answers(np.arange(pairs), [f"p{w}" for w in who], labels)


def test_it_learns_the_truth_from_labels_with_errors() -> None:
    truth, features, folds, answers = made(2000, (0.03, 0.2))
    found = cross_fit(features, folds, answers)
    np.testing.assert_allclose(found.sum(1), 1)
    best = truth == np.array([0, 1, 2])[found.argmax(1)]
    assert auc(found[:, 0], truth == 0) > 0.95  # 0.96 is what the features allow
    assert (
        equal_width_calibration_error(found[:, 0], truth == 0) < 0.04
    )  # against the truth, not against the noisy labels
    assert best.mean() > 0.85


def test_no_label_of_a_fold_enters_its_probabilities() -> None:
    _, features, folds, answers = made(400, (0.05,))
    before = cross_fit(features, folds, answers)
    own = folds[answers.pairs] == 2
    turned = Answers(answers.pairs, answers.annotators, np.where(own, (answers.labels + 1) % 3, answers.labels))
    after = cross_fit(features, folds, turned)
    np.testing.assert_array_equal(after[folds == 2], before[folds == 2])
    assert np.abs(after[folds != 2] - before[folds != 2]).max() > 0.01


def test_the_order_of_the_labels_does_not_matter() -> None:
    _, features, folds, answers = made(300, (0.05, 0.1))
    order = np.random.default_rng(1).permutation(len(answers.pairs))
    shuffled = Answers(answers.pairs[order], [answers.annotators[j] for j in order], answers.labels[order])
    np.testing.assert_allclose(cross_fit(features, folds, shuffled), cross_fit(features, folds, answers))


def test_pairs_without_labels_get_probabilities_too() -> None:
    truth, features, folds, answers = made(900, (0.05,))
    some = answers.only(np.arange(900) < 400)
    found = cross_fit(features, folds, some)
    assert auc(found[400:, 0], truth[400:] == 0) > 0.9
