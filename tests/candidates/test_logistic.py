"""The logistic regression against scikit-learn; calibration error and the shift of the prior against plain sums."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ndec_builder.candidates.logistic import equal_width_calibration_error, fit_logistic, shifted_prior, sigmoid
from ndec_builder.candidates.prelabel import auc


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 6)) * rng.uniform(0.1, 20, 6) + rng.normal(size=6)
    x[:, 5] = 3.0  # says nothing
    y = sigmoid(x[:, 0] / x[:, 0].std() * 2 - 1) > rng.random(400)
    ours = fit_logistic(x, y)
    scaled = (x - x.mean(0)) / np.where(x.std(0) > 1e-9, x.std(0), 1)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(scaled, y)
    np.testing.assert_allclose(ours.probabilities(x), theirs.predict_proba(scaled)[:, 1], atol=2e-5)


def test_separable_data_and_one_class() -> None:
    x = np.array([[-1.0], [-2], [1], [2]])
    assert fit_logistic(x, np.array([False, False, True, True])).probabilities(x)[3] > 0.7
    with pytest.raises(ValueError, match="both classes"):
        fit_logistic(x, np.ones(4, bool))


def test_calibration_error_is_zero_for_the_truth_and_not_for_boasting() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = rng.random(20_000) < p
    assert equal_width_calibration_error(p, y) < 0.015
    assert equal_width_calibration_error(np.where(p > 0.5, 0.99, 0.01), y) == pytest.approx(0.24, abs=0.01)


def test_the_share_of_copies_is_found_in_unlabelled_pairs() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(30_000) < 0.1
    logits = rng.normal(np.where(y, 1.5, -1.5), np.sqrt(3.0))  # log odds of a half-and-half mixture
    p, share = shifted_prior(logits, 0.5)
    assert share == pytest.approx(0.1, abs=0.01)
    assert equal_width_calibration_error(p, y) < 0.01 < equal_width_calibration_error(sigmoid(logits), y)


def test_auc_counts_ties_half() -> None:
    rng = np.random.default_rng(0)
    scores, y = rng.integers(0, 9, 300).astype(float), rng.random(300) < 0.4
    assert auc(scores, y) == pytest.approx(roc_auc_score(y, scores), abs=1e-12)


def test_weights_and_probabilities_are_repeated_rows() -> None:
    """A row of weight 2 is two rows; one that is positive with probability ¼ is a quarter of a positive one."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(60, 3))
    share = np.where(np.arange(60) % 3 == 0, 0.25, (features[:, 0] > 0).astype(float))
    weight = np.where(np.arange(60) % 2 == 0, 2.0, 1.0)
    whole = fit_logistic(features, share, weight=weight)
    parts = np.concatenate([features, features])
    positive = np.concatenate([np.ones(60, bool), np.zeros(60, bool)])
    split = fit_logistic(parts, positive, weight=np.concatenate([weight * share, weight * (1 - share)]))
    np.testing.assert_allclose(whole.probabilities(features), split.probabilities(features), atol=1e-6)
    doubled = np.repeat(np.arange(60), weight.astype(int))
    at_once = fit_logistic(features[doubled], share[doubled])
    # the means that features are centred by differ, and only the intercept, which is free, feels them
    np.testing.assert_allclose(at_once.probabilities(features), whole.probabilities(features), atol=5e-3)
