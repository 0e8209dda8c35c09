"""Intervals for shares: Wilson's score interval, Clopper–Pearson, and the exact bound for a finite population.

This uses scipy.special, loaded at the first use: scipy.stats has the same distributions but takes most of a second.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import scipy


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share, two-sided; (0, 1) without trials.

    >>> low, high = wilson(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / trials / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def clopper_pearson_upper(successes: float, trials: float, confidence: float = 0.95) -> float:
    """One-sided upper bound: the share p at which P(X ≤ successes) = 1 − confidence; 1 without trials."""
    return (
        1.0 if successes >= trials else float(scipy.special.betaincinv(successes + 1, trials - successes, confidence))
    )


def clopper_pearson(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact interval; (0, 1) without trials."""
    one_sided = (1 + confidence) / 2
    low = 1 - clopper_pearson_upper(trials - successes, trials, one_sided)
    return low, clopper_pearson_upper(successes, trials, one_sided)


def rare_upper(found: int, drawn: int, count: int, missed: float = 0.0, confidence: float = 0.95) -> int:
    """One-sided upper bound of how many of `count` items are of a kind, when `found` of `drawn` random ones are.

    Each drawn item of the kind is overlooked with probability `missed`, independently. The bound is the largest K with
    P(X ≤ found) > 1 − confidence, where X is the number found. It is exact for a finite `count`; it is `count` if
    nothing was drawn.
    """
    low, high = found, count  # P(X ≤ found) falls as K grows
    if not drawn or found_at_most(found, drawn, count, count, missed) > 1 - confidence:
        return count
    while high - low > 1:
        middle = (low + high) // 2
        likely = found_at_most(found, drawn, middle, count, missed) > 1 - confidence
        low, high = (middle, high) if likely else (low, middle)
    return low


def found_at_most(found: int, drawn: int, kind: int, count: int, missed: float) -> float:
    """P(X ≤ found): of `kind` items, a hypergeometric number is drawn, each overlooked with probability `missed`."""
    hits = np.arange(max(0, drawn + kind - count), min(drawn, kind) + 1)
    logs = log_ways(kind, hits) + log_ways(count - kind, drawn - hits) - log_ways(count, drawn)
    return float((scipy.special.bdtr(np.minimum(found, hits), hits, 1 - missed) * np.exp(logs)).sum())


def log_ways(count: np.ndarray | int, some: np.ndarray | int) -> np.ndarray:
    """log C(count, some), element by element, float64; any number where `some` is above `count`."""
    total, chosen = np.asarray(count), np.asarray(some)
    left = np.maximum(total - chosen, 0)
    gammaln = scipy.special.gammaln
    return np.asarray(gammaln(total + 1.0) - gammaln(chosen + 1.0) - gammaln(left + 1.0))
