"""The numbers of one detector on one half of a dataset, with intervals by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.bootstrap import (
    GroupedList,
    divide,
    intervals,
    negatives_before,
    weighted_average_precision,
    weighted_recall_at_precision,
)
from ndec_builder.evaluation.metrics.by_edit_kind import Copies, by_edit_kind, edit_kinds
from ndec_builder.evaluation.metrics.estimates import QUERY_SUBSETS, STRATA
from ndec_builder.evaluation.predictions import Predictions

PRECISIONS = {"recall_at_p90": 0.9, "recall_at_p99": 0.99}
BLIND = 0.25  # an edit whose recall is below this with its 95 % interval is one that a detector cannot find
_ENOUGH = 15  # copies with an edit, below which nothing is said about it
_REPLICATES_BY_EDIT = 500


@dataclass(frozen=True)
class LeagueEstimate:
    """Everything that depends on the draw. thresholds: name (default, tuned) → score; references: their number."""

    rows: GroupedList
    truth_group: np.ndarray
    subsets: tuple[str, ...]
    thresholds: Mapping[str, float]
    references: int

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(groups, b) weights → named (b,) float64.

        Recall at a precision is 0 where no score reaches that precision. False matches are per 1,000 references, for
        all queries of the half: `false_all`, `false_without` hard negatives, and of the kinds of hard negatives alone.
        """
        rows = self.rows
        positives = weights[self.truth_group].sum(axis=0)
        negatives = negatives_before(rows, weights, len(STRATA))
        found = weights[rows.group[rows.ranked.is_match]]
        values = {}
        for subset in self.subsets:
            above = negatives[list(QUERY_SUBSETS[subset])].sum(axis=0)
            values[f"{subset}/uap"] = weighted_average_precision(found, above, positives)
            for key, precision in PRECISIONS.items():
                recall = weighted_recall_at_precision(found, above, positives, precision)
                values[f"{subset}/{key}"] = np.nan_to_num(recall, nan=0.0)
        for name, threshold in self.thresholds.items():
            values |= {f"{name}/{key}": value for key, value in self._at(threshold, weights, positives).items()}
        return values

    def sizes(self, groups: int) -> dict[str, np.ndarray]:
        """Name of each share → (groups,) the pairs of each group that it is a share of, for `intervals`."""
        positives = np.bincount(self.truth_group, minlength=groups)
        sizes = {f"{subset}/{key}": positives for subset in self.subsets for key in ("uap", *PRECISIONS)}
        for name, threshold in self.thresholds.items():
            taken = self.rows.ranked.scores >= threshold
            sizes[f"{name}/recall"] = positives
            sizes[f"{name}/precision"] = np.bincount(self.rows.group[taken], minlength=groups)
        return sizes

    def _at(self, threshold: float, weights: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
        ranked = self.rows.ranked
        taken = int(np.searchsorted(-ranked.scores, -threshold, side="right"))
        drawn, match = weights[self.rows.group[:taken]], ranked.is_match[:taken]
        strata = self.rows.stratum[:taken]
        true = drawn[match].sum(axis=0)
        false = np.array([drawn[~match & (strata == stratum)].sum(axis=0) for stratum in range(len(STRATA))])
        total = true + false.sum(axis=0)
        values = {
            "recall": divide(true, positives),
            "precision": divide(true, total),
            "false_all": 1000 * false.sum(axis=0) / self.references,
        }
        if len(self.subsets) > 1:
            values["false_without"] = 1000 * false[0] / self.references
            values |= {
                f"false_{kind}": 1000 * false[STRATA.index(kind)] / self.references
                for kind in ("natural", "reverse_crop")
                if kind in self.subsets
            }
        return values


def league_numbers(
    dataset: Dataset, rows: GroupedList, thresholds: Mapping[str, float], replicates: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """All numbers with 95 % intervals: `subset/uap`, `subset/recall_at_p90`, …, `default/recall`, `tuned/false_all`.

    No resampled set of a list without false matches has one, so their number 0 has no interval (null), not 0 … 0.
    """
    groups = int(dataset.query_group.max()) + 1
    truth_group = dataset.query_group[dataset.truth_queries()]
    estimate = LeagueEstimate(rows, truth_group, dataset.subsets, thresholds, dataset.reference_count)
    found = intervals(estimate, groups, replicates, seed, estimate.sizes(groups))
    numbers = {name: asdict(value) for name, value in found.items()}
    for name, number in numbers.items():
        if "/false_" in name and number["value"] == 0:
            number.update(low=None, high=None)
    return numbers


def recall_by_edit(dataset: Dataset, found: Predictions, threshold: float, seed: int) -> dict[str, Any] | None:
    """Per kind of edit: copies, and the share of them at or above the threshold; None if the edits are not known."""
    if "edit" not in dataset.queries.column_names:
        return None
    queries = dataset.truth_queries()
    above = found.pairs(len(dataset.references))[found.scores >= threshold]
    kinds = edit_kinds(dataset.queries["edit"].take(queries).to_pylist())
    copies = Copies(dataset.query_group[queries], np.isin(dataset.truth, above), None, kinds)
    rows = by_edit_kind(copies, int(dataset.query_group.max()) + 1, _REPLICATES_BY_EDIT, seed)
    return {name: {"copies": row["copies"], "recall": row["recall_at_n"]} for name, row in rows.items()}


def blind_to(by_edit: Mapping[str, Any] | None) -> list[str]:
    """The edits whose recall is below BLIND with its complete interval."""
    return [
        name
        for name, row in (by_edit or {}).items()
        if row["copies"] >= _ENOUGH and row["recall"]["high"] is not None and row["recall"]["high"] < BLIND
    ]
