"""From a source of predictions to what the metrics are computed from: the ranked list, the filter, the subsets."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.detectors.norm_ratios import filter_threshold, pair_ratios
from ndec_builder.evaluation.detectors.scoring import Scored, score
from ndec_builder.evaluation.metrics.bootstrap import GroupedList
from ndec_builder.evaluation.metrics.estimates import AsymmetricFilter, Evaluation
from ndec_builder.evaluation.metrics.norm_ratio_filter import apply_filter, reject
from ndec_builder.evaluation.metrics.ranked import average_precision, rank
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import ACTIONS, SCOPES, BenchmarkConfig


@dataclass(frozen=True)
class BenchmarkRun:
    """One detector on one dataset. final: the list after the filter · uaps: μAP for each scope and action of it."""

    scored: Scored
    evaluation: Evaluation
    final: Predictions
    uaps: dict[str, float]


def evaluate_detector(
    config: BenchmarkConfig, workspace: Workspace, dataset: Dataset, baseline: GroupedList | None = None
) -> BenchmarkRun:
    """Score the dataset and apply the filter if the scorer is `asl`. Raises the errors of `scoring.score`."""
    return evaluate_scored(config, dataset, score(config, workspace, dataset), baseline)


def evaluate_scored(
    config: BenchmarkConfig, dataset: Dataset, scored: Scored, baseline: GroupedList | None = None
) -> BenchmarkRun:
    """`evaluate_detector` on an existing list, so that it is scored once for runs with and without the filter.

    With `one_per_query` only the best pair of each query is evaluated; the filter sees only these.
    """
    if config.one_per_query:
        scored = replace(scored, predictions=scored.predictions.best_of_queries())
    searched, n = group_predictions(dataset, scored.predictions), config.n or len(dataset.truth)
    norm_filter: AsymmetricFilter | None = None
    final, uaps = scored.predictions, dict[str, float]()
    if config.scorer == "asl":
        norm_filter, final, uaps = _filtered(config, dataset, scored, searched, n)
    truth_group = dataset.query_group[dataset.truth_queries()]
    evaluation = Evaluation(searched, truth_group, n, dataset.subsets, norm_filter, baseline)
    return BenchmarkRun(scored, evaluation, final, uaps)


def group_predictions(dataset: Dataset, predictions: Predictions) -> GroupedList:
    """The predictions in rank order with their groups and strata. Raises the errors of `rank`, naming the ids."""

    def name(row: int) -> str:
        query, reference = (int(side[row]) for side in (predictions.query, predictions.reference))
        return f"({dataset.query_ids[query]}, {dataset.reference_ids[reference]})"

    pairs = predictions.pairs(len(dataset.references))
    ranked = rank(predictions.scores, dataset.is_match(predictions), len(dataset.truth), pairs, name)
    queries = predictions.query[ranked.rows]
    return GroupedList(ranked, dataset.query_group[queries], dataset.stratum[queries])


def _filtered(
    config: BenchmarkConfig, dataset: Dataset, scored: Scored, searched: GroupedList, n: int
) -> tuple[AsymmetricFilter, Predictions, dict[str, float]]:
    """The filter, the list after it, and the μAP of that list for every scope and action."""
    ratios = pair_ratios(scored)[searched.ranked.rows]
    threshold = filter_threshold(config, scored)
    rejected = reject(ratios, threshold)
    found = scored.predictions
    lists = {}
    for scope, action in itertools.product(SCOPES, ACTIONS):
        rows, scores = apply_filter(searched.ranked, rejected, n, scope, action)
        lists[f"{scope}+{action}"] = Predictions(found.query[rows], found.reference[rows], scores, found.protocol)
    ranked = {name: group_predictions(dataset, left) for name, left in lists.items()}
    chosen = f"{config.scope}+{config.action}"
    uaps = {name: average_precision(rows.ranked) for name, rows in ranked.items()}
    hard = _best_of_hard_queries(dataset, found.query[searched.ranked.rows])
    compared = np.sort(np.concatenate([np.flatnonzero(searched.ranked.is_match), hard]))
    return AsymmetricFilter(ranked[chosen], rejected, compared, ratios, threshold), lists[chosen], uaps


def _best_of_hard_queries(dataset: Dataset, queries: np.ndarray) -> np.ndarray:
    """Ranks of the best pair of each hard negative query. queries: (m,) of the list in rank order."""
    found, first = np.unique(queries, return_index=True)
    return first[dataset.stratum[found] > 0]
