"""Ridge-penalised logistic regression by Newton's method, for dozens of features and thousands of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RIDGE = 1.0  # on standardised weights: a Gaussian prior of variance 1
_STEPS = 100


@dataclass(frozen=True, eq=False)
class Logistic:
    """P(y = 1 | x) = σ(intercept + weights · (x − mean) / scale)."""

    mean: np.ndarray  # (d,) float64
    scale: np.ndarray  # (d,)
    weights: np.ndarray  # (d,)
    intercept: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Log odds (n,) float64 of features (n, d)."""
        return self.intercept + ((features - self.mean) / self.scale) @ self.weights

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        return sigmoid(self.logits(features))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))


def fit_logistic(
    features: np.ndarray, positive: np.ndarray, ridge: float = RIDGE, weight: np.ndarray | None = None
) -> Logistic:
    """Maximise the ridge-penalised likelihood of `positive` (n,) given features (n, d); deterministic.

    `positive` is bool, or a probability for uncertain rows. `weight` (n,) is the weight of each row. The intercept is
    not penalised. Raises ValueError if only one class occurs.
    """
    y = positive.astype(np.float64)
    w = np.ones(len(y)) if weight is None else weight
    if y.min() == y.max():
        raise ValueError("both classes are needed to fit a logistic regression")
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = np.column_stack([np.ones(len(y)), (features - mean) / scale])
    penalty = np.diag([0.0] + [ridge] * features.shape[1])
    beta: np.ndarray = np.zeros(x.shape[1])
    loss = _loss(x, y, w, beta, penalty)
    for _ in range(_STEPS):
        p = sigmoid(x @ beta)
        gradient = x.T @ (w * (p - y)) + penalty @ beta
        step = np.linalg.solve(x.T @ (x * (w * p * (1 - p))[:, None]) + penalty + 1e-9 * np.eye(len(beta)), gradient)
        size = 1.0
        while (tried := _loss(x, y, w, beta - size * step, penalty)) > loss + 1e-12 and size > 1e-6:
            size /= 2
        beta = beta - size * step
        if loss - tried < 1e-10:
            break
        loss = tried
    return Logistic(mean, scale, beta[1:], float(beta[0]))


def _loss(x: np.ndarray, y: np.ndarray, w: np.ndarray, beta: np.ndarray, penalty: np.ndarray) -> float:
    z = x @ beta
    return float((w * (np.logaddexp(0, z) - y * z)).sum() + beta @ penalty @ beta / 2)


def equal_width_calibration_error(probabilities: np.ndarray, positive: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean |share of positives − mean probability| over bins of equal width, by size.

    Reports of `ndec benchmark` and `ndec league` use bins of equally many queries instead (`metrics/calibration.py`).
    """
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [
        abs(positive[place == b].mean() - probabilities[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(np.sum(gaps))


def shifted_prior(logits: np.ndarray, prior: float, rounds: int = 200) -> tuple[np.ndarray, float]:
    """Probabilities (n,) and the share of positives for unlabelled data whose share differs from `prior` of training.

    Saerens, Latinne & Decaestecker (2002): EM over the share alone.
    """
    share = prior
    probabilities = sigmoid(logits)
    for _ in range(rounds):
        moved = np.log(share / (1 - share)) - np.log(prior / (1 - prior))
        probabilities = sigmoid(logits + moved)
        new = float(np.clip(probabilities.mean(), 1e-3, 1 - 1e-3))
        if abs(new - share) < 1e-9:
            break
        share = new
    return probabilities, share
