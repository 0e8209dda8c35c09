"""When a ranked review may stop: the recall of hard negatives, certified from a random sample.

The method is the quantile binomial confidence bound (QBCB) of Lewis, Yang and Frieder, "Certifying One-Phase
Technology-Assisted Reviews" (2021, arXiv 2108.12746), with three changes: it is exact for a finite number of pairs, it
counts sampled pairs as found, and it allows for wrong labels in the sample.

A certificate assumes that the sample was drawn at random, that a pair's place in the ranking does not depend on whether
the pair was sampled (`relearn` scores each pair without the labels of its group), and that the ranking stays the same
from the certificate to the stop.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr, gammaln

from ndec_builder.annotation.decisions.binomial import rare_upper

# Shares of 1 − confidence: false positives in the sample, number of hard negatives, and the rest for the stop itself.
FALSE_SHARE, COUNT_SHARE = 0.1, 0.1


@dataclass(frozen=True)
class RecallGoal:
    """The share of all hard negatives that has to be found, and the confidence of the statement."""

    recall: float = 0.8
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("recall", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and below 1")


@dataclass(frozen=True)
class RecallCertificate:
    """Where in the ranking the review may stop.

    `stop` is the number of pairs from the start of the ranking that have to be labelled, or None when the sample holds
    too few hard negatives to certify the goal.
    """

    pairs: int
    sample: int
    positives: int  # sampled pairs labelled hard_negative
    false: int  # upper bound of how many of those are no hard negatives
    order: int | None  # so many of the positives have to be reached
    stop: int | None
    goal: RecallGoal

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def certify_recall(
    ranks: np.ndarray, pairs: int, sample: int, goal: RecallGoal | None = None, error: float = 0.0
) -> RecallCertificate:
    """Certify where a review in ranked order may stop.

    `ranks` (m,) int: the places, from 1, of the sampled pairs labelled hard_negative in the ranking of all `pairs`.
    `sample`: number of pairs drawn at random and labelled. `error`: the probability, at most, that a sampled pair that
    is no hard negative is labelled as one. False positives may have any rank (the worst case is assumed); hard
    negatives that were labelled otherwise have to be missed independently of their rank.
    """
    goal = goal or RecallGoal()
    positives = len(ranks)
    false = false_positives(sample, positives, error, 1 - (1 - goal.confidence) * FALSE_SHARE)
    order = required_order(positives - false, sample, pairs, goal)
    if order is None:
        return RecallCertificate(pairs, sample, positives, false, None, None, goal)
    stop = int(np.sort(ranks)[order + false - 1])
    return RecallCertificate(pairs, sample, positives, false, order + false, stop, goal)


def required_order(positives: int, sample: int, pairs: int, goal: RecallGoal) -> int | None:
    """The smallest j such that reaching the j-th of the sampled `positives` proves the goal; None if no j does.

    With M hard negatives in all, the review has found P + positives − j of them when it reaches the j-th sampled one,
    P being its place among the M. P is at most p with probability P(X ≥ j), X hypergeometric (M, p, positives). That
    probability rises with M up to the rounding of recall × M, so it is taken at the largest numbers of hard negatives
    that the sample leaves possible, and at a coarse grid of smaller ones.
    """
    alpha = 1 - goal.confidence
    most = rare_upper(positives, sample, pairs, confidence=1 - alpha * COUNT_SHARE)
    allowed = alpha * (1 - FALSE_SHARE - COUNT_SHARE)
    coarse = np.geomspace(max(positives, 1), most + 1, 50).astype(np.int64)
    totals = np.unique(np.clip(np.concatenate([coarse, np.arange(most - 49, most + 1)]), positives, most))
    needed = np.ceil(goal.recall * totals - 1e-9).astype(np.int64)

    def proves(order: int) -> bool:
        places = np.clip(needed - 1 - positives + order, 0, totals)
        return bool((_at_least(order, totals, places, positives) <= allowed).all())

    if positives == 0 or not proves(positives):
        return None
    low, high = 0, positives  # proves(low) is false, proves(high) true; a larger order proves more
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(middle) else (middle, high)
    return high


def _at_least(some: int, totals: np.ndarray, kind: np.ndarray, drawn: int) -> np.ndarray:
    """P(X ≥ some) for X hypergeometric, for each of `totals`: `drawn` at random, `kind` of them of one kind."""
    found = np.arange(some, drawn + 1)
    total, of_kind = totals[:, None], kind[:, None]
    possible = (found <= of_kind) & (drawn - found <= total - of_kind)
    logs = _log_ways(of_kind, found) + _log_ways(total - of_kind, drawn - found) - _log_ways(total, np.array(drawn))
    return np.exp(np.where(possible, logs, -np.inf)).sum(axis=1)


def _log_ways(count: np.ndarray, some: np.ndarray) -> np.ndarray:
    """log C(count, some), element by element; any number where it is not defined."""
    left = np.maximum(count - some, 0)
    return gammaln(count + 1) - gammaln(some + 1) - gammaln(left + 1)


def false_positives(sample: int, positives: int, error: float, confidence: float) -> int:
    """Upper bound of the false ones among `positives`, when each other pair of the sample becomes one with `error`.

    At most all sampled pairs are no hard negatives, so the count is at most binomial (sample, error).
    """
    if not 0 <= error < 1:
        raise ValueError(f"error is {error}; it must be at least 0 and below 1")
    chances = bdtr(np.arange(positives + 1), sample, error) if error else np.ones(1)
    return min(int(np.searchsorted(chances, confidence)), positives)


def least_positives(goal: RecallGoal) -> int:
    """Sampled hard negatives below which the goal cannot be certified, whatever the ranking (a large pool)."""
    return math.ceil(math.log((1 - goal.confidence) * (1 - FALSE_SHARE - COUNT_SHARE)) / math.log(goal.recall))


def expected_recall(sample: int, prevalence: float, pairs: int, goal: RecallGoal, error: float = 0.0) -> float | None:
    """The recall at which a review is expected to stop with a sample of that size; None if it cannot be certified.

    `prevalence`: share of hard negatives among the pairs. The j-th of m sampled positives has the expected place
    j / (m + 1) among all of them.
    """
    positives = round(sample * prevalence)
    false = false_positives(sample, positives, error, 1 - (1 - goal.confidence) * FALSE_SHARE)
    order = required_order(positives - false, sample, pairs, goal)
    return None if order is None else (order + false) / (positives + 1)
