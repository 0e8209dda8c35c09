"""When a ranked review may stop: the recall of hard negatives, certified from a random sample.

The method is the quantile binomial confidence bound (QBCB) of Lewis, Yang and Frieder, "Certifying One-Phase
Technology-Assisted Reviews" (2021, arXiv 2108.12746), with three changes: it is exact for a finite number of pairs, it
counts sampled pairs as found, and it allows for wrong labels in the sample.

**Derivation.** Of N pairs, M are hard negatives (unknown). A random sample of n pairs without replacement holds m of
them, and given m these are a uniform subset of the M. Label the ranking down to the j-th of the m. If that one is the
P-th of all M in the ranking, then P + m − j hard negatives are labelled: P in the ranking so far, and m − j of the
sample behind it. The statement fails if P + m − j < recall · M, that is if at least j of the m are among the first
p = ⌈recall · M⌉ − 1 − m + j of the M: a hypergeometric tail. M is at most an exact upper bound from n and m.

**Wrong labels.** The labels show m' = t + f hard negatives: t right ones and f false ones.

* A false one may have any rank. If f ≤ F, label down to the (j(m' − f) + f)-th labelled one, for the worst f ≤ F: even
  if all f false ones come first, j(m' − f) right ones are reached.
* A hard negative labelled otherwise is missed. If misses do not depend on the rank, the t right ones are still a
  uniform subset of the M, and the same derivation holds. Misses make M larger than it looks: `missed` allows for them.
* F: each of the v sampled pairs that are no hard negatives is false with the same probability e, independently. If e is
  known, f exceeds the binomial quantile q(v) with at most the allowed probability. v = n − t − misses is not known, but
  v ≤ n − m' + f, so F is the largest f with f ≤ q(n − m' + f). If e is measured on g gold pairs, of which k were
  labelled wrong, f is bounded without an estimate of e: given k + f wrong ones among g + v, k is hypergeometric.
* Confirmed labels: if a second annotator labels all m' again and only the pairs that both call hard negatives count, a
  false one needs two slips. The second repeats the first one's slip with a probability of at most max(e, REPEATED), so
  e becomes e · max(e, REPEATED). A hard negative now has two chances to be missed.

1 − confidence is split: FALSE_SHARE for F, COUNT_SHARE for M, and the rest for the stop. So the statement holds with
the confidence given, all three together.

**Assumptions.** The sample was drawn at random and its labels do not follow a hint or a ranking. A pair's place in the
ranking does not depend on whether the pair was sampled (`relearn` scores each pair without the labels of its group),
and the ranking stays the same from the certificate to the stop. Misses do not depend on the rank. Errors on pairs that
are no hard negatives are independent between pairs, and as frequent as on the gold pairs (edited copies; a larger error
on unrelated pairs is not measured).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy

from ndec_builder.annotation.decisions.binomial import clopper_pearson_upper, log_ways, rare_upper
from ndec_builder.annotation.decisions.label_statistics import MISSED, look_confidence

# Shares of 1 − confidence: false positives in the sample, number of hard negatives, and the rest for the stop itself.
FALSE_SHARE, COUNT_SHARE = 0.2, 0.1
REPEATED = 0.2  # assumed: a second annotator repeats a wrong label hard_negative with at most this probability


@dataclass(frozen=True)
class RecallGoal:
    """The share of all hard negatives that has to be found, and the confidence of the statement."""

    recall: float = 0.8
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in ("recall", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and below 1")

    @property
    def stop_share(self) -> float:
        """The probability with which the stop itself may be too early."""
        return (1 - self.confidence) * (1 - FALSE_SHARE - COUNT_SHARE)


def goal_of_look(recall: float = 0.8, confidence: float = 0.95, replaced: int = 0) -> RecallGoal:
    """The goal of a certificate that replaces `replaced` others.

    People replace a certificate after they have seen it, so all of them together may be wrong with a probability of
    1 − confidence: the first one with three quarters of it, each later one with a quarter of the one before.
    """
    return RecallGoal(recall, look_confidence(confidence, replaced + 1))


class GoldErrors(NamedTuple):
    """Gold pairs that are no hard negatives: how many were labelled hard_negative, of how many labels."""

    wrong: int
    labels: int


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
    ranks: np.ndarray,
    pairs: int,
    sample: int,
    goal: RecallGoal | None = None,
    error: float | GoldErrors = 0.0,
    missed: float = MISSED,
    confirmed: bool = False,
) -> RecallCertificate:
    """Certify where a review in ranked order may stop.

    `ranks` (m,) int: the places, from 1, of the sampled pairs labelled hard_negative in the ranking of all `pairs`.
    `sample`: number of pairs drawn at random and labelled. `error`: the probability that a pair that is no hard
    negative is labelled as one, at most; or the gold pairs that measure it. `missed`: the largest probability that a
    hard negative is labelled otherwise. `confirmed`: two annotators called each of the `ranks` a hard negative, out of
    all that the first one did. The module's docstring has the derivation and the assumptions.
    """
    goal = goal or RecallGoal()
    positives = len(ranks)
    false = false_positives(sample, positives, error, 1 - (1 - goal.confidence) * FALSE_SHARE, confirmed)
    order = _order_with_false(positives, false, sample, pairs, goal, _missed(missed, confirmed))
    stop = None if order is None else int(np.sort(ranks)[order - 1])
    return RecallCertificate(pairs, sample, positives, false, order, stop, goal)


def _missed(missed: float, confirmed: bool) -> float:
    return 1 - (1 - missed) ** 2 if confirmed else missed


def _order_with_false(
    positives: int, false: int, sample: int, pairs: int, goal: RecallGoal, missed: float
) -> int | None:
    """How many of the `positives` have to be reached if any number up to `false` of them are wrong; None if none do."""
    worst = 0
    for wrong in range(false, -1, -1):
        order = required_order(positives - wrong, sample, pairs, goal, missed)
        if order is None:
            return None
        worst = max(worst, order + wrong)
    return worst


@lru_cache(maxsize=4096)
def required_order(positives: int, sample: int, pairs: int, goal: RecallGoal, missed: float = 0.0) -> int | None:
    """The smallest j such that reaching the j-th of the sampled `positives` proves the goal; None if no j does.

    The probability of a wrong statement rises with the number of hard negatives up to the rounding of recall × M, so it
    is taken at the largest numbers that the sample leaves possible, and at a coarse grid of smaller ones.
    """
    alpha = 1 - goal.confidence
    most = rare_upper(positives, sample, pairs, missed, confidence=1 - alpha * COUNT_SHARE)
    coarse = np.geomspace(max(positives, 1), most + 1, 50).astype(np.int64)
    totals = np.unique(np.clip(np.concatenate([coarse, np.arange(most - 49, most + 1)]), positives, most))
    needed = np.ceil(goal.recall * totals - 1e-9).astype(np.int64)

    def proves(order: int) -> bool:
        places = np.clip(needed - 1 - positives + order, 0, totals)
        return bool((_at_least(order, totals, places, positives) <= goal.stop_share).all())

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
    logs = log_ways(of_kind, found) + log_ways(total - of_kind, drawn - found) - log_ways(total, np.array(drawn))
    return np.exp(np.where(possible, logs, -np.inf)).sum(axis=1)


def false_positives(
    sample: int, positives: int, error: float | GoldErrors, confidence: float, confirmed: bool = False
) -> int:
    """Upper bound of the false ones among `positives`, as the module's docstring derives it."""
    if confirmed:  # the product of two rates: half of the risk is for measuring e
        if isinstance(error, GoldErrors):
            confidence = (1 + confidence) / 2
            error = clopper_pearson_upper(error.wrong, error.labels, confidence)
        error *= max(error, REPEATED)
    false = np.arange(1, positives + 1)
    others = sample - positives + false  # sampled pairs that are no hard negatives, at most
    if isinstance(error, GoldErrors):
        if not 0 <= error.wrong <= error.labels:
            raise ValueError(f"{error.wrong} of {error.labels} gold pairs cannot be wrong")
        chance = np.array([_gold_at_most(error, int(f), int(v)) for f, v in zip(false, others, strict=True)])
        possible = chance > 1 - confidence
    elif not 0 <= error < 1:
        raise ValueError(f"error is {error}; it must be at least 0 and below 1")
    else:
        possible = scipy.special.bdtr(false - 1, others, error) < confidence if error else np.zeros(positives, bool)
    return int(false[possible].max(initial=0))


def _gold_at_most(gold: GoldErrors, false: int, others: int) -> float:
    """P(at most gold.wrong of the wrong labels are gold) when `false` of the `others` are wrong as well."""
    wrong = np.arange(gold.wrong + 1)
    total, all_ = gold.wrong + false, gold.labels + others
    possible = (total - wrong <= others) & (wrong <= gold.labels)
    logs = log_ways(np.array(gold.labels), wrong) + log_ways(np.array(others), total - wrong)
    return float(np.exp(np.where(possible, logs - log_ways(np.array(all_), np.array(total)), -np.inf)).sum())


def least_positives(goal: RecallGoal) -> int:
    """Sampled hard negatives below which the goal cannot be certified, whatever the ranking (a large pool)."""
    return math.ceil(math.log(goal.stop_share) / math.log(goal.recall))


def expected_recall(
    sample: int, prevalence: float, pairs: int, goal: RecallGoal, error: float = 0.0, *, confirmed: bool = False
) -> float | None:
    """The recall at which a review is expected to stop with a sample of that size; None if it cannot be certified.

    `prevalence`: share of hard negatives among the pairs. The j-th of m sampled positives has the expected place
    j / (m + 1) among all of them, of which the bound on the false ones is a part.
    """
    positives = round(sample * prevalence)
    false = false_positives(sample, positives, error, 1 - (1 - goal.confidence) * FALSE_SHARE, confirmed)
    order = _order_with_false(positives, false, sample, pairs, goal, _missed(MISSED, confirmed))
    return None if order is None else order / (positives + 1)
