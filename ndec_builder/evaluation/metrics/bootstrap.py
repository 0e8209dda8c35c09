"""95 % intervals by bootstrap over groups. A replicate is a set of weights on one sorted list, never a new list.

A query counts as often as its group was drawn, with all its rows and ground-truth pairs. Each function here returns
exactly what the plain metric returns on the resampled list. Weights are (…, b) int32 for b replicates at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ndec_builder.annotation.decisions.binomial import clopper_pearson
from ndec_builder.core.console import progress
from ndec_builder.evaluation.metrics.ranked import RankedList

MOST_REPLICATES_AT_ONCE = 125  # a row of weights is then a few cache lines
_ROWS_AT_ONCE = 8192  # rows of the list that are weighted together
_DENSE_CELLS = 4_000_000  # largest table strata × matches × groups that is built
Estimates = Mapping[str, np.ndarray]


def replicate_weights(
    groups: int, replicates: int, seed: int, most: int = MOST_REPLICATES_AT_ONCE
) -> Iterator[np.ndarray]:
    """Yield batches (groups, b) int32, b at most `most`: how often each group was drawn.

    The size of the batches does not change the numbers.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, replicates, most):
        count = min(most, replicates - start)
        draws = [np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(count)]
        yield np.ascontiguousarray(np.stack(draws, axis=1).astype(np.int32))


@dataclass(frozen=True)
class Interval:
    """value: on the original data · low, high: 2.5 % and 97.5 % quantile over the replicates, or the exact interval of
    a share that is 0 or 1 in all of them (`exact_ends`). None where undefined.
    """

    value: float | None
    low: float | None
    high: float | None


def intervals(
    estimate: Callable[[np.ndarray], Estimates],
    groups: int,
    replicates: int = 1000,
    seed: int = 0,
    sizes: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Interval]:
    """Run `estimate` ((groups, b) weights → named (b,) float64, NaN = undefined) on the data and on every replicate.

    Differences and ratios computed inside `estimate` are paired: both sides see the same draw. Undefined replicates are
    excluded from the quantiles; if they are more than 5 %, there is no interval. sizes: of shares, (groups,) how many
    pairs of each group they are a share of; these get `exact_ends`.

    >>> hits = np.array([[1.0], [1.0], [1.0], [0.0]])  # four groups of one query each
    >>> intervals(lambda w: {"share": (hits * w).sum(0) / w.sum(0)}, groups=4)["share"]
    Interval(value=0.75, low=0.25, high=1.0)
    """
    values = estimate(np.ones((groups, 1), dtype=np.int32))
    batches = []
    with progress() as bar:
        task = bar.add_task("bootstrap replicates", total=replicates)
        for weights in replicate_weights(groups, replicates, seed):
            batches.append(estimate(weights))
            bar.advance(task, weights.shape[1])
    found = {name: interval_of(value[0], np.concatenate([b[name] for b in batches])) for name, value in values.items()}
    return found | {name: exact_ends(found[name], size) for name, size in (sizes or {}).items()}


def exact_ends(share: Interval, size: np.ndarray) -> Interval:
    """The interval of a share that is 0 or 1 in every replicate, because no draw can differ: Clopper–Pearson.

    size: (groups,) how many pairs of each group it is a share of. Pairs of one group may all be alike, so they count as
    (Σ size)² / Σ size² independent ones (Kish): the number of groups if these are equally large. Others stay.
    """
    if share.value not in (0.0, 1.0) or not share.low == share.high == share.value:
        return share
    sizes = np.asarray(size, dtype=np.float64)
    effective = float(sizes.sum() ** 2 / (sizes**2).sum())
    return Interval(share.value, *clopper_pearson(share.value * effective, effective))


def interval_of(value: float, replicates: np.ndarray) -> Interval:
    """The value with the quantiles of its replicates (b,); no interval if more than 5 % are undefined (NaN)."""
    defined = replicates[~np.isnan(replicates)]
    if np.isnan(value) or len(defined) < 0.95 * len(replicates):
        return Interval(None if np.isnan(value) else float(value), None, None)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


@dataclass(frozen=True)
class GroupedList:
    """A ranked list with what the weighting needs, all in rank order.

    ranked: the list · group: (m,) group of the row's query · stratum: (m,) int, class of the row's query, so that
    subsets of the queries (only some kinds of hard negatives) share one pass over the rows.
    """

    ranked: RankedList
    group: np.ndarray
    stratum: np.ndarray

    def keep(self, mask: np.ndarray) -> GroupedList:
        return GroupedList(self.ranked.keep(mask), self.group[mask], self.stratum[mask])


def negatives_before(rows: GroupedList, weights: np.ndarray, strata: int) -> np.ndarray:
    """Weighted number of negatives of each stratum above each match: (strata, matches, b) int32."""
    is_match = rows.ranked.is_match
    segment = np.cumsum(is_match)  # of a negative: the number of matches above it
    matches = int(segment[-1]) if len(segment) else 0
    cells = strata * (matches + 1) * len(weights)
    if 0 < cells <= _DENSE_CELLS:  # small enough to count every cell: then one product, exact in float64
        places = (rows.stratum * (matches + 1) + segment) * len(weights) + rows.group
        table = np.bincount(places[~is_match], minlength=cells).reshape(-1, len(weights))
        inside = (table.astype(np.float64) @ weights.astype(np.float64)).reshape(strata, matches + 1, -1)
        return np.cumsum(inside[:, :-1], axis=1).astype(np.int32)
    counts = np.zeros((strata, matches + 1, weights.shape[1]), dtype=np.int32)
    for stratum in range(strata):
        chosen = np.flatnonzero(~is_match & (rows.stratum == stratum))
        for start in range(0, len(chosen), _ROWS_AT_ONCE):
            part = chosen[start : start + _ROWS_AT_ONCE]
            ends = segment[part]
            first = np.flatnonzero(np.diff(ends, prepend=-1))
            counts[stratum, ends[first]] += np.add.reduceat(weights[rows.group[part]], first, axis=0)
    return np.cumsum(counts[:, :-1], axis=1, dtype=np.int32)


def weighted_average_precision(weights: np.ndarray, negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """μAP per replicate, (b,) float64; NaN where a replicate drew no ground-truth pair.

    weights: (matches, b) of the found matches in rank order · negatives: (matches, b) above each · positives: (b,) all
    ground-truth pairs. A match drawn w times counts as w rows, each with its own precision.
    """
    total = np.zeros(weights.shape, dtype=np.float64)
    above = np.cumsum(weights, axis=0) - weights
    for copy in range(1, int(weights.max(initial=0)) + 1):
        found = above + copy
        total += np.where(weights >= copy, found / (found + negatives), 0.0)
    return divide(total.sum(axis=0), positives)


def weighted_recall_at_precision(
    weights: np.ndarray, negatives: np.ndarray, positives: np.ndarray, precision: float = 0.9
) -> np.ndarray:
    """The largest recall with at least this precision per replicate, (b,) float64; NaN if there is none."""
    found = np.cumsum(weights, axis=0)
    reached = divide(found, found + negatives) >= precision
    best = np.where(reached, found, 0).max(axis=0, initial=0)
    return np.where(best > 0, divide(best, positives), np.nan)


def weighted_cut(rows: GroupedList, weights: np.ndarray, kept: np.ndarray, n: np.ndarray) -> dict[str, np.ndarray]:
    """Cut each replicate at its own N, then filter: tp, fp, tp_kept, fp_kept, each (b,) float64.

    kept: (m,) bool in rank order · n: (b,) int. A row that was drawn w times and crosses the cut counts partly.
    """
    names = {"tp": True, "fp": False}
    is_match = rows.ranked.is_match
    masks = {name: is_match == match for name, match in names.items()}
    masks |= {f"{name}_kept": mask & kept for name, mask in masks.items()}
    counts = {name: np.zeros(weights.shape[1]) for name in masks}
    before = np.zeros(weights.shape[1], dtype=np.int64)
    for start in range(0, len(is_match), _ROWS_AT_ONCE):
        drawn = weights[rows.group[start : start + _ROWS_AT_ONCE]]
        ends = before + np.cumsum(drawn, axis=0)
        taken = np.clip(n - (ends - drawn), 0, drawn)
        for name, mask in masks.items():
            counts[name] += taken[mask[start : start + _ROWS_AT_ONCE]].sum(axis=0)
        before = ends[-1]
        if (before >= n).all():
            break
    return counts


def weighted_auc(higher: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """P(value of a `higher` row > value of another row) + half of the ties, per replicate: (b,) float64, or NaN.

    higher: (m,) bool · values: (m,) float · weights: (m, b).
    """
    order = np.argsort(values, kind="stable")
    _, first = np.unique(values[order], return_index=True)
    if len(first) == 0:
        return np.full(weights.shape[1], np.nan)
    up, down = (np.add.reduceat(np.where(mask[order, None], weights[order], 0), first, axis=0, dtype=np.int64)
                for mask in (higher, ~higher))  # fmt: skip
    below = np.cumsum(down, axis=0) - down
    return divide((up * (below + 0.5 * down)).sum(axis=0), up.sum(axis=0) * down.sum(axis=0))


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Float64 quotient, NaN where the denominator is 0."""
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator != 0)
