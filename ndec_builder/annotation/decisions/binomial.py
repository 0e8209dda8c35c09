"""Intervals for shares: Wilson (two-sided) and Clopper–Pearson (one- and two-sided), from the binomial sum itself."""

from __future__ import annotations

import math
from statistics import NormalDist


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


def clopper_pearson_upper(successes: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided upper bound: the share p at which P(X ≤ successes) = 1 − confidence; 1 without trials."""
    if successes >= trials:
        return 1.0
    low, high = successes / trials, 1.0
    for _ in range(60):  # bisection: the sum falls as p grows
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(successes, trials, middle) > 1 - confidence else (low, middle)
    return high


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact interval; (0, 1) without trials."""
    one_sided = (1 + confidence) / 2
    upper = clopper_pearson_upper(successes, trials, one_sided) if trials else 1.0
    return (1 - clopper_pearson_upper(trials - successes, trials, one_sided) if trials else 0.0), upper


def _at_most(successes: int, trials: int, share: float) -> float:
    """P(X ≤ successes) for X binomial."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in range(successes + 1)
    ]  # fmt: skip
    return math.fsum(math.exp(value) for value in logs)


def rare_upper(found: int, drawn: int, count: int, missed: float = 0.0, confidence: float = 0.95) -> int:
    """One-sided upper bound of how many of `count` things are of a kind, when `found` of `drawn` at random are.

    Each drawn one of the kind is overlooked with probability `missed`, by itself. The largest K at which P(X ≤ found) >
    1 − confidence, X the number found: hypergeometric, thinned. Exact for a finite `count`: what was looked at is
    known. `count` when nothing was drawn.
    """
    low, high = found, count  # X falls in probability as K grows
    if not drawn or found_at_most(found, drawn, count, count, missed) > 1 - confidence:
        return count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if found_at_most(found, drawn, middle, count, missed) > 1 - confidence else (low, middle)
        )
    return low


def found_at_most(found: int, drawn: int, kind: int, count: int, missed: float) -> float:
    """P(X ≤ found): of `kind` among `count`, hypergeometrically many are drawn, and each of these is overlooked."""
    total = 0.0
    for there in range(max(0, drawn + kind - count), min(drawn, kind) + 1):
        few = 1.0 if there <= found else _at_most(found, there, 1 - missed)
        if few < 1e-15:
            break  # it only falls from here
        total += few * math.exp(_ways(kind, there) + _ways(count - kind, drawn - there) - _ways(count, drawn))
    return total


def _ways(count: int, some: int) -> float:
    """log C(count, some)."""
    return math.lgamma(count + 1) - math.lgamma(some + 1) - math.lgamma(count - some + 1)
