"""The data of figures 6, 7 and 8 of the paper; `plots.py` draws them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndec_builder.core.errors import UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.detectors.methods import Method, config_of, parse_methods
from ndec_builder.evaluation.detectors.norm_ratios import filter_threshold, pair_ratios
from ndec_builder.evaluation.detectors.scoring import score
from ndec_builder.evaluation.evaluate import evaluate_detector
from ndec_builder.evaluation.metrics.bootstrap import (
    MOST_REPLICATES_AT_ONCE,
    GroupedList,
    Interval,
    exact_ends,
    interval_of,
    negatives_before,
    replicate_weights,
    weighted_average_precision,
)
from ndec_builder.evaluation.metrics.norm_ratio_filter import reject
from ndec_builder.evaluation.metrics.over_seeds import interval, over_seeds
from ndec_builder.evaluation.paper.gaps import Gaps
from ndec_builder.evaluation.settings import PaperConfig


@dataclass(frozen=True)
class Curve:
    """Figure 6 for one method: μAP over the share of the hard negative queries in the test set."""

    name: str
    shares: tuple[float, ...]
    uap: tuple[Interval, ...]


@dataclass(frozen=True)
class Nesting:
    """Sampling of figure 6: points from no to all hard negatives, random orders, bootstrap replicates."""

    shares: int = 5
    orders: int = 5
    replicates: int = 200
    seed: int = 0


def nested_curve(name: str, rows: GroupedList, queries: np.ndarray, truth_group: np.ndarray, dataset: Dataset,
                 how: Nesting | PaperConfig) -> Curve:  # fmt: skip
    """The curve of one ranked list. Arguments as in `nested_uap`."""
    uap = nested_uap(rows, queries, truth_group, dataset, how)
    shares, size = tuple(np.linspace(0, 1, how.shares).tolist()), np.bincount(truth_group)
    return Curve(name, shares, tuple(exact_ends(interval_of(float(line[0]), line[1:]), size) for line in uap))


def figure_6(config: PaperConfig, workspace: Workspace, dataset: Dataset, gaps: Gaps) -> list[Curve]:
    """Nested random subsets of the hard negative queries; all others are fixed. Raises UsageError without any."""
    if not (dataset.stratum > 0).any():
        raise UsageError(f"{dataset.name} has no hard negative queries, so figure 6 cannot be drawn")
    curves = []
    for method in parse_methods(config.method):
        run = evaluate_detector(_of(method, config), workspace, dataset)
        gaps.check(method.name, dataset, run.scored)
        rows, found = run.evaluation.final, run.final
        queries = found.query[rows.ranked.rows]
        curves.append(nested_curve(method.name, rows, queries, run.evaluation.truth_group, dataset, config))
    return curves


def nested_uap(
    rows: GroupedList, queries: np.ndarray, truth_group: np.ndarray, dataset: Dataset, config: Nesting | PaperConfig
) -> np.ndarray:
    """(shares, 1 + replicates) float64: μAP on the data (mean over the orders), then on each replicate (one order).

    queries: (m,) of the list in rank order.
    """
    groups = int(dataset.query_group.max()) + 1
    hard = np.flatnonzero(dataset.stratum > 0)
    lists = []
    for order in range(config.orders):
        shuffled = np.random.default_rng([config.seed, order]).permutation(hard)
        steps = np.round(np.linspace(0, len(hard), config.shares)).astype(int)
        entry = np.zeros(len(dataset.stratum), dtype=np.int64)  # index of the first share that includes a query
        entry[shuffled] = np.searchsorted(steps, np.arange(len(hard)), side="right")
        lists.append(GroupedList(rows.ranked, rows.group, entry[queries]))

    def estimate(order: int, weights: np.ndarray) -> np.ndarray:
        positives = weights[truth_group].sum(axis=0)
        above = np.cumsum(negatives_before(lists[order], weights, config.shares), axis=0)
        found = weights[rows.group[rows.ranked.is_match]]
        return np.stack([weighted_average_precision(found, negatives, positives) for negatives in above])

    ones = np.ones((groups, 1), dtype=np.int32)
    parts = [np.mean([estimate(order, ones) for order in range(config.orders)], axis=0)]
    # the replicates of a batch share one random order, so that a batch needs one pass; each order gets as many
    each = max(1, config.replicates // config.orders)
    batch = math.ceil(each / math.ceil(each / MOST_REPLICATES_AT_ONCE))
    for number, weights in enumerate(replicate_weights(groups, config.replicates, config.seed, batch)):
        parts += [estimate(number % config.orders, weights)]
    return np.concatenate(parts, axis=1)


def figure_7(config: PaperConfig, workspace: Workspace, dataset: Dataset, gaps: Gaps) -> dict[str, dict[str, Interval]]:
    """Method → μAP without and with hard negatives."""
    bars = {}
    for method in parse_methods(config.method):
        run = evaluate_detector(_of(method, config), workspace, dataset)
        gaps.check(method.name, dataset, run.scored)
        evaluation = run.evaluation
        groups = int(dataset.query_group.max()) + 1
        values, sizes = over_seeds([evaluation], groups, config.replicates, config.seed), evaluation.sizes(groups)
        bars[method.name] = {
            name: interval(values, f"{subset}/uap", sizes) for name, subset in (("without", "without"), ("with", "all"))
        }
    return bars


ROWS_8 = ("copies kept", "copies wrongly rejected", "hard negatives rejected", "hard negatives wrongly kept")


def figure_8(
    config: PaperConfig, workspace: Workspace, dataset: Dataset, gaps: Gaps
) -> dict[str, list[dict[str, Any]]]:
    """Row of the figure → its best-scored pairs {query, reference (row numbers), ratio, score}, by the first method.

    Copies are ground-truth pairs; hard negative queries are shown by their best pair. Raises UsageError without norms.
    """
    method = parse_methods(config.method)[0]
    if config.asl_checkpoint is None and not method.has_norms:
        raise UsageError(f"--figure 8 shows norm ratios: give --asl-checkpoint RUN, or a run of train-asl instead of "
                         f"{method.name}")  # fmt: skip
    more = {} if method.has_norms else {"asl_checkpoint": config.asl_checkpoint}
    scored = score(config_of(method, config, scorer="asl", **more), workspace, dataset)
    gaps.check(method.name, dataset, scored)
    found, ratios = scored.predictions, pair_ratios(scored)
    order = np.lexsort((found.reference, found.query, -found.scores))
    match = dataset.is_match(found)
    best = np.zeros(len(found), dtype=bool)
    best[order[np.unique(found.query[order], return_index=True)[1]]] = True
    hard = best & (dataset.stratum[found.query] > 0)
    rejected = reject(ratios, filter_threshold(config, scored))
    masks = (match & ~rejected, match & rejected, hard & rejected, hard & ~rejected)
    return {
        name: [
            {"query": int(found.query[row]), "reference": int(found.reference[row]),
             "query_over_reference": float(ratios[row]), "score": float(found.scores[row])}
            for row in order[mask[order]][: config.gallery // 2 or 1]
        ]
        for name, mask in zip(ROWS_8, masks, strict=True)
    }  # fmt: skip


def _of(method: Method, config: PaperConfig) -> Any:
    """The settings for one method; with the scorer `asl` the norms are its own or come from the ASL checkpoint."""
    if config.scorer != "asl":
        return config_of(method, config)
    if method.has_norms:
        return config_of(method, config, scorer="asl")
    return config_of(method, config, scorer="asl", asl_checkpoint=config.asl_checkpoint)
