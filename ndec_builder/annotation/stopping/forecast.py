"""What ways of labelling would cost and keep: a forecast SIMULATED from the labels given so far.

The class of an unlabelled pair is drawn from its relearnt probabilities, that of a labelled pair is its label. Each way
is then carried out on the drawn classes, and labels are counted. People are not simulated one by one: second labels and
the audit cost what they are expected to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ndec_builder.annotation.decisions.audit import pairs_needed
from ndec_builder.annotation.decisions.dawid_skene import CLASSES
from ndec_builder.annotation.label_tables import ClassProbabilities, Pair

COPY, HARD = 0, 1  # indices into CLASSES
LATER = 1.2  # second and later labels of a pair in doubt
STEPS = 24  # lengths of the queue that are tried, in addition to the certified ones


@dataclass(frozen=True, eq=False)
class QueuePool:
    """The pairs in the order `likeliest`: query numbers (n,), probabilities (n, 3), and class, −1 without a label."""

    queries: np.ndarray
    probabilities: np.ndarray
    labelled: np.ndarray

    @classmethod
    def of(
        cls, ranking: Sequence[Pair], relearnt: Mapping[str, ClassProbabilities], labels: Mapping[str, str]
    ) -> QueuePool:
        names = {query: number for number, query in enumerate(dict.fromkeys(query for _, query, _ in ranking))}
        known = [CLASSES.index(labels[pair]) if labels.get(pair) in CLASSES else -1 for pair, _, _ in ranking]
        return cls(
            np.array([names[query] for _, query, _ in ranking], np.int64),
            np.array([relearnt.get(pair, (1 / 3,) * 3) for pair, _, _ in ranking]),
            np.array(known, np.int64),
        )

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """A class (n,) for each pair."""
        below = np.cumsum(self.probabilities, axis=1)
        drawn = (rng.random(len(self.queries))[:, None] > below / below[:, -1:]).sum(axis=1)
        return np.where(self.labelled >= 0, self.labelled, drawn)


@dataclass(frozen=True)
class Forecast:
    """Means over the draws, and the 10 % and 90 % quantiles of the hard negatives kept."""

    way: str
    queue: int  # pairs of the order `likeliest` that are labelled; all of them for `everything twice`
    labels: float  # still to give
    kept: float
    low: float
    high: float
    recall: float | None = None  # certified


@dataclass(frozen=True, eq=False)
class SecondLabels:
    """Second and later labels to expect. rates (3,): per pair labelled for the first time, by its class in CLASSES ·
    pending: of the pairs that are labelled already."""

    rates: np.ndarray
    pending: float

    @classmethod
    def of(cls, labels: Mapping[str, str], doubtful_at_first: set[str], doubtful: set[str]) -> SecondLabels:
        """labels: first labels of the pilot · doubtful_at_first: the pairs in doubt if only these are known · doubtful:
        those in doubt with all labels. A fifth of the pairs in doubt get a third label."""
        known = [name for name in labels.values() if name in CLASSES]
        open_ = [name for pair, name in labels.items() if pair in doubtful_at_first]
        rates = [LATER * open_.count(name) / max(known.count(name), 1) for name in CLASSES]
        return cls(np.array(rates), LATER * len(doubtful))


def audit_pairs(kept: int) -> int:
    """Pairs of a clean audit until its bound is at most 1 %; watching takes up to 5 % more than a fixed sample."""
    fixed = pairs_needed(0, kept) if kept else 0
    return kept if fixed is None else min(kept, math.ceil(1.05 * fixed))


def forecast_ways(
    pool: QueuePool, certified: Mapping[float, int], second: SecondLabels, test: bool, draws: int, seed: int
) -> list[Forecast]:
    """`everything twice`, the certified stops (recall → length of the queue), and other lengths of the queue.

    `test`: a query with an edited copy or an undecided pair is dropped, so
    the open pairs of queries with a hard negative are labelled as well; else every hard negative is kept.
    """
    rng, count = np.random.default_rng(seed), len(pool.queries)
    lengths = {int(length): None for length in np.unique(np.linspace(0, count, STEPS + 1).astype(int))[1:]}
    stops: dict[int, float | None] = lengths | {length: recall for recall, length in certified.items()}
    truths = [pool.draw(rng) for _ in range(draws)]
    ways = [_everything_twice(pool, truths, second, test)]
    for length, recall in sorted(stops.items()):
        results = [_label_first(pool, truth, length, test) for truth in truths]
        kept = np.array([clean for _, clean in results])
        given = [new.sum() + second.rates[truth[new]].sum() for truth, (new, _) in zip(truths, results, strict=True)]
        labels = float(np.mean(given) + second.pending + audit_pairs(round(kept.mean())))
        name = "likeliest first" if recall is None else f"certified stop at {recall:.0%}"
        low, high = np.quantile(kept, [0.1, 0.9])
        ways.append(Forecast(name, length, labels, float(kept.mean()), float(low), float(high), recall))
    return ways


def _everything_twice(pool: QueuePool, truths: list[np.ndarray], second: SecondLabels, test: bool) -> Forecast:
    count = len(pool.queries)
    kept = np.array([_label_first(pool, truth, count, test)[1] for truth in truths])
    low, high = np.quantile(kept, [0.1, 0.9])
    third = np.mean([second.rates[truth].sum() for truth in truths]) / 2
    labels = 2 * count + third - int((pool.labelled >= 0).sum())
    return Forecast("everything twice, no audit", count, float(labels), float(kept.mean()), float(low), float(high))


def _label_first(pool: QueuePool, truth: np.ndarray, length: int, test: bool) -> tuple[np.ndarray, int]:
    """((n,) bool of the pairs that get a label, hard negatives kept) if the first `length` pairs are labelled, and
    queries finished."""
    seen = (pool.labelled >= 0) | (np.arange(len(truth)) < length)
    if test:
        number = int(pool.queries.max(initial=-1)) + 1
        hard = np.bincount(pool.queries[seen & (truth == HARD)], minlength=number) > 0
        copied = np.bincount(pool.queries[seen & (truth == COPY)], minlength=number) > 0
        seen = seen | (hard & ~copied)[pool.queries]
        dropped = np.bincount(pool.queries[~seen | (truth == COPY)], minlength=number) > 0
        kept = (truth == HARD) & ~dropped[pool.queries]
    else:
        kept = seen & (truth == HARD)
    return seen & (pool.labelled < 0), int(kept.sum())


def best(ways: Sequence[Forecast], budget: int, goal: int) -> Forecast | None:
    """The way with the most hard negatives for the budget, or with the fewest labels for the goal; None if none is."""
    if budget:
        possible = [way for way in ways if way.labels <= budget]
        return max(possible, key=lambda way: (way.kept, -way.labels), default=None)
    possible = [way for way in ways if way.low >= goal]
    return min(possible, key=lambda way: (way.labels, -way.kept), default=None)
