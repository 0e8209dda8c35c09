"""Bounds on the edited copies left among kept pairs that hold at every moment of the audit.

The bound of a fixed sample (`binomial.rare_upper`) holds for a size fixed in advance. These are confidence sequences:
people may watch them and stop as soon as they are low enough.

`watched_upper`, for uniform draws, is a prior-posterior-ratio martingale for sampling without replacement
(Waudby-Smith and Ramdas, "Confidence sequences for sampling without replacement", NeurIPS 2020). If there are K copies,
the probability of everything seen so far under a mixture over numbers of copies, divided by its probability under K, is
a nonnegative martingale that starts at 1. So it ever reaches 1 / (1 − confidence) with a probability of at most 1 −
confidence (Ville's inequality), and all K for which it did are ruled out. Finite numbers and overlooked copies are part
of both probabilities: nothing is approximated.

`weighted_upper`, for weighted draws, is a one-sided betting martingale (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS-B 2024, section 5) as in Shekhar, Xu, Lipton, Liang and Ramdas,
"Risk-limiting financial audits via weighted sampling without replacement" (2023).
"""

from __future__ import annotations

import numpy as np
import scipy

from ndec_builder.annotation.decisions.binomial import log_ways

BETS = (0.8, 0.9, 0.95)  # shares of the largest bet that cannot ruin; the wealth is their average
_MIXTURE = 300  # the mixture is over 0 … this many copies, with weights 1 / (1 + K)²: any choice is valid
_OVERLOOKED_SHARE = 0.2  # of 1 − confidence, for copies that the audit of weighted draws overlooks


def watched_upper(found: np.ndarray, count: int, missed: float = 0.0, confidence: float = 0.95) -> int:
    """Upper bound of the number of copies among `count` pairs after the uniform draws so far, valid at all times.

    `found` (t,) bool, in the order of the draws without replacement: the pair was found to be a copy. `missed`: a copy
    is overlooked with this probability, independently. Between two finds the evidence against many copies only grows,
    so it is taken before each find and at the end. Returns an int between the number found and `count`.
    """
    values = np.asarray(found, bool)
    moments = np.unique(np.concatenate([np.flatnonzero(values), [len(values)]]))
    seen = [(int(values[:moment].sum()), int(moment)) for moment in moments[::-1] if moment]
    mixture = np.arange(min(_MIXTURE, count) + 1)
    prior = -2 * np.log1p(mixture)
    prior -= np.logaddexp.reduce(prior)
    limit = np.log(1 / (1 - confidence))
    believed = [np.logaddexp.reduce(prior + _log_chance(*at, mixture, count, missed)) for at in seen]

    def rejected(copies: int) -> bool:
        """Whether there are fewer copies. Finds also refute numbers far below what they make most likely."""
        against = np.array([copies])
        return any(
            copies > at[0] / (at[1] * (1 - missed)) * (count + 1)
            and mixed - _log_chance(*at, against, count, missed)[0] >= limit
            for mixed, at in zip(believed, seen, strict=True)
        )

    low, high = int(values.sum()), count
    if not rejected(high):
        return high
    while high - low > 1:  # a larger number of copies is rejected earlier
        middle = (low + high) // 2
        low, high = (low, middle) if rejected(middle) else (middle, high)
    return low


def _log_chance(found: int, draws: int, copies: np.ndarray, count: int, missed: float) -> np.ndarray:
    """Log probability (k,) that `found` of `draws` are found, if there are `copies` (k,): a hypergeometric number of
    them is drawn, each overlooked with `missed`; −inf where it is impossible.
    """
    most = min(draws, int(copies.max())) if missed else found
    drawn = np.arange(found, most + 1)[None, :]
    some = copies[:, None]
    possible = (drawn <= some) & (draws - drawn <= count - some)
    logs = log_ways(some, drawn) + log_ways(count - some, draws - drawn) - log_ways(count, np.array(draws))
    logs = logs + log_ways(drawn, np.array(found)) + found * np.log1p(-missed)
    if missed:
        logs = logs + (drawn - found) * np.log(missed)
    if not logs.shape[1]:
        return np.full(len(copies), -np.inf)
    return np.asarray(np.logaddexp.reduce(np.where(possible, logs, -np.inf), axis=1))


def weighted_upper(
    found: np.ndarray, count: int, weights: np.ndarray, missed: float = 0.0, confidence: float = 0.95
) -> int:
    """As `watched_upper`, for weighted draws without replacement.

    `weights` (t, 2) float64: of each draw the probability with which it was taken among the pairs left, and the
    smallest probability of any pair left. `missed`: whether a copy is overlooked is drawn once for each copy; the
    number of copies that can be found is bounded by the martingale, and from it the number of all by a binomial tail.
    """
    values, risk = np.asarray(found, dtype=np.float64), 1 - confidence
    spent = risk * _OVERLOOKED_SHARE if missed else 0.0
    low, high = float(values.sum()), float(count)
    if not len(values) or not _rejected(high, values, count, 1 - risk + spent, weights):
        return count
    for _ in range(60):  # bisection: a larger number of copies is rejected earlier
        middle = (low + high) / 2
        low, high = (low, middle) if _rejected(middle, values, count, 1 - risk + spent, weights) else (middle, high)
    findable = int(np.floor(high + 1e-6))
    if not missed:
        return findable
    totals = np.arange(findable, count + 1)
    return int(totals[scipy.special.bdtr(findable, totals, 1 - missed) > spent].max(initial=findable))


def _rejected(copies: float, values: np.ndarray, count: int, confidence: float, weights: np.ndarray) -> bool:
    """Whether the draws refute at some time that there are at least `copies`.

    Before a draw with `seen` copies found, `copies` − seen are left at least. value / probability is an unbiased
    estimate of their number, at most 1 / (smallest probability).
    """
    chance, smallest = weights.T
    left = copies - (np.cumsum(values) - values)
    if (left <= 0).any():
        return False  # so many were found already
    estimates = values / chance
    room = np.maximum(1 / smallest - left, 1e-12)
    logs = [np.cumsum(np.log(np.maximum(1 + bet * (left - estimates) / room, 1e-300))) for bet in BETS]
    wealth = np.logaddexp.reduce(np.stack(logs), axis=0) - np.log(len(BETS))
    return bool(wealth.max() >= np.log(1 / (1 - confidence)))
