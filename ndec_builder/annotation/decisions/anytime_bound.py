"""A bound on the edited copies left among kept pairs that holds at every moment of the audit.

The bound of a fixed sample (`binomial.rare_upper`) holds for a size fixed in advance. This one is a confidence
sequence: people may watch it and stop as soon as it is low enough. It is a betting martingale for sampling without
replacement (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2024, section
5), one-sided, with weighted draws as in Shekhar, Xu, Lipton, Liang and Ramdas, "Risk-limiting financial audits via
weighted sampling without replacement" (2023).
"""

from __future__ import annotations

import numpy as np

BETS = (0.8, 0.9, 0.95)  # shares of the largest bet that cannot ruin; the wealth is their average


def anytime_upper(
    found: np.ndarray, count: int, missed: float = 0.0, confidence: float = 0.95, weights: np.ndarray | None = None
) -> float:
    """Upper bound of the number of copies among `count` pairs after the draws so far, valid at all times at once.

    `found` (t,) bool, in the order of the draws without replacement: the pair was found to be a copy. `missed`: a copy
    is overlooked with at most this probability, independently; the bound is divided by 1 − missed. `weights` (t, 2)
    float64: of each draw the probability with which it was taken among the pairs left, and the smallest probability of
    any pair left; None for uniform draws. Returns a float between the number found and `count`.
    """
    values = np.asarray(found, dtype=np.float64)
    low, high = float(values.sum()), float(count)
    if not len(values) or not _rejected(high, values, count, confidence, weights):
        return high
    for _ in range(60):  # bisection: a larger number of copies is rejected earlier
        middle = (low + high) / 2
        low, high = (low, middle) if _rejected(middle, values, count, confidence, weights) else (middle, high)
    return min(float(count), float(np.floor(high + 1e-6)) / (1 - missed))


def _rejected(copies: float, values: np.ndarray, count: int, confidence: float, weights: np.ndarray | None) -> bool:
    """Whether the draws refute at some time that there are at least `copies`.

    Before a draw with `seen` copies found, `copies` − seen are left at least. value / probability is an unbiased
    estimate of their number, at most 1 / (smallest probability).
    """
    draws = np.arange(len(values))
    chance, smallest = (1 / (count - draws), 1 / (count - draws)) if weights is None else weights.T
    left = copies - (np.cumsum(values) - values)
    if (left <= 0).any():
        return False  # so many were found already
    estimates = values / chance
    room = np.maximum(1 / smallest - left, 1e-12)
    logs = [np.cumsum(np.log(np.maximum(1 + bet * (left - estimates) / room, 1e-300))) for bet in BETS]
    wealth = np.logaddexp.reduce(np.stack(logs), axis=0) - np.log(len(BETS))
    return bool(wealth.max() >= np.log(1 / (1 - confidence)))
