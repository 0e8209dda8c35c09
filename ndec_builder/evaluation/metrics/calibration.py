"""How well probabilities hold: the reliability of each query's best pair and the expected calibration error.

The question is "the tool names this reference; how likely is it right?". Bins hold equally many queries (Nixon et al.
2019, "Measuring calibration in deep learning"), so that no bin is nearly empty. Intervals: bootstrap over groups with
the bins of the data. A replicate is noisier than the data and noise only adds to the error, so its interval lies a
little too high.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ndec_builder.evaluation.metrics.bootstrap import GroupedList, Interval, divide, intervals

MOST_BINS, QUERIES_PER_BIN = 10, 10


@dataclass(frozen=True)
class BestPairs:
    """The best pair of each query with at least one pair: score (q,) float64, correct (q,) bool, group (q,) int."""

    score: np.ndarray
    correct: np.ndarray
    group: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: np.ndarray) -> BestPairs:
        return BestPairs(self.score[rows], self.correct[rows], self.group[rows])


def best_of_queries(query: np.ndarray, rows: GroupedList) -> BestPairs:
    """query: (m,) int of the list before ranking, as `rows.ranked.rows` counts them."""
    _, first = np.unique(query[rows.ranked.rows], return_index=True)
    return BestPairs(rows.ranked.scores[first], rows.ranked.is_match[first], rows.group[first])


def equal_mass(probability: np.ndarray) -> np.ndarray:
    """(n,) int: the bin of each value, ascending. Equal values share a bin, so bins may be fewer and unequal.

    >>> equal_mass(np.repeat([0.1, 0.5, 0.9], 10)).tolist() == [0] * 10 + [1] * 10 + [2] * 10
    True
    """
    count = max(1, min(MOST_BINS, len(probability) // QUERIES_PER_BIN))
    ordered = np.sort(probability)
    edges = np.unique(ordered[[len(ordered) * i // count for i in range(1, count)]])
    number = np.searchsorted(edges, probability, side="right")
    result: np.ndarray = np.unique(number, return_inverse=True)[1]
    return result


def probable(best: BestPairs) -> tuple[BestPairs, int]:
    """The pairs whose score is a probability, and the number of the others.

    A score below 0 is none: a pair that the fused scorer did not re-score has such a score.
    """
    rows = np.flatnonzero(best.score >= 0)
    return best.take(rows), len(best) - len(rows)


def calibration(best: BestPairs, groups: int, replicates: int, seed: int) -> dict[str, Any]:
    """Keys: ece {value, low, high} · queries · bins, ascending: said (mean probability), true (share correct), low and
    high of true, count.

    best: at least one, its scores are probabilities in 0..1 · groups: of queries in the data.
    """
    number = equal_mass(best.score)
    estimate, said, count = calibration_estimate(best, number, groups)
    sizes = {str(place): row for place, row in enumerate(count)}
    numbers = intervals(estimate, groups, replicates, seed, sizes)
    bins = [_bin(numbers[str(place)], said[place].sum(), count[place].sum()) for place in range(len(count))]
    return {"ece": asdict(numbers["ece"]), "queries": len(best), "bins": bins}


def calibration_estimate(
    best: BestPairs, number: np.ndarray, groups: int
) -> tuple[Callable[[np.ndarray], Mapping[str, np.ndarray]], np.ndarray, np.ndarray]:
    """A function of weights (groups, replicates) → ece and the true share of each bin, (replicates,) each; then sums of
    the probabilities and counts, (bins, groups) each.

    number: (n,) int, the bin of each of `best`, from `equal_mass`.
    """
    cells = number * groups + best.group
    size = (int(number.max()) + 1) * groups

    def sums(values: np.ndarray | None) -> np.ndarray:
        table = np.bincount(cells, weights=values, minlength=size).reshape(-1, groups)
        return table.astype(np.float64)

    count, said, true = sums(None), sums(best.score), sums(best.correct.astype(np.float64))

    def estimate(weights: np.ndarray) -> Mapping[str, np.ndarray]:
        drawn = weights.astype(np.float64)
        n, promised, right = count @ drawn, said @ drawn, true @ drawn
        gap, total = np.abs(promised - right).sum(axis=0), n.sum(axis=0)
        values = {"ece": divide(gap, total)}
        return values | {str(place): row for place, row in enumerate(divide(right, n))}

    return estimate, said, count


def _bin(true: Interval, said: float, count: float) -> dict[str, float | None]:
    return {"said": said / count, "true": true.value, "low": true.low, "high": true.high, "count": int(count)}
