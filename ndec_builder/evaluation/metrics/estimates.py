"""All numbers of `metrics.json`, computed in the same way on the data and on each bootstrap replicate.

With B, b = μAP without / with hard negatives of the baseline and S, s the same of the scorer:
recovered = (s − b)/(B − b) · gap_closed = 1 − (S − s)/(B − b) · held = s/S. Report all three together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ndec_builder.evaluation.metrics.bootstrap import (
    GroupedList,
    divide,
    negatives_before,
    weighted_auc,
    weighted_average_precision,
    weighted_cut,
    weighted_recall_at_precision,
)

STRATA = ("none", "natural", "reverse_crop", "unspecified")  # of a query: no hard negative, or its kind
QUERY_SUBSETS = {  # subset → strata of its queries; copies and distractors are always included
    "all": (0, 1, 2, 3),
    "natural": (0, 1),
    "reverse_crop": (0, 2),
    "without": (0,),
}
SMALLEST_GAP = 0.02  # below this, recovered and gap_closed would divide by noise
GAP_KEYS = ("recovered", "gap_closed", "held")
METRIC_KEYS = (
    "uap", "precision_at_n", "tp", "fp", "recall_at_n", "recall_at_p90",
    "uap_before_filter", "tp_kept", "fp_kept", "tp_kept_count", "fp_kept_count", "precision_after_filter",
    "recall_after_filter", "precision_filter_then_cut", "filter_auc", "uap_minus_baseline", *GAP_KEYS,
)  # fmt: skip


@dataclass(frozen=True)
class AsymmetricFilter:
    """The norm-ratio filter on a searched list.

    filtered: the list that μAP is computed on (after scope and action) · rejected: (m,) bool in the rank order of the
    searched list · copies_and_hard: rows of the searched list that the AUC compares: each ground-truth pair and the
    best pair of each hard negative query · ratios: (m,) query_over_reference in rank order · threshold: pairs with a
    larger ratio are rejected.
    """

    filtered: GroupedList
    rejected: np.ndarray
    copies_and_hard: np.ndarray
    ratios: np.ndarray
    threshold: float


@dataclass(frozen=True)
class Evaluation:
    """Input of the metrics of one benchmark.

    searched: the list as searched · truth_group: (P,) group of the query of every ground-truth pair · n: the cut ·
    subsets: those of QUERY_SUBSETS that exist in the data · filter: None for a plain scorer · baseline: its own list.
    """

    searched: GroupedList
    truth_group: np.ndarray
    n: int
    subsets: tuple[str, ...]
    filter: AsymmetricFilter | None = None
    baseline: GroupedList | None = None

    @property
    def final(self) -> GroupedList:
        """The list that μAP is computed on."""
        return self.searched if self.filter is None else self.filter.filtered

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(groups, b) weights → `subset/key`: (b,) float64; NaN where undefined."""
        positives = weights[self.truth_group].sum(axis=0)
        pairs = len(self.truth_group)
        # N scales with the number of positives in the draw, rounded to the nearest integer
        n = np.maximum(1, (2 * self.n * positives + pairs) // (2 * pairs))
        values: dict[str, np.ndarray] = {}
        values |= self._list_metrics(self.final, weights, positives, "uap", "recall_at_p90")
        for subset in self.subsets:
            inside = np.isin(self.searched.stratum, QUERY_SUBSETS[subset])
            values |= self._cut_metrics(subset, inside, weights, positives, n)
        if self.filter is not None:
            values |= self._list_metrics(self.searched, weights, positives, "uap_before_filter")
        if self.baseline is not None:
            values |= self._gap_metrics(values, self._list_metrics(self.baseline, weights, positives, "uap"))
        return values

    def sizes(self, groups: int) -> dict[str, np.ndarray]:
        """`subset/key` of each share → (groups,) the pairs of each group that it is a share of, for `intervals`."""
        sizes: dict[str, np.ndarray] = {}
        positives = np.bincount(self.truth_group, minlength=groups)
        for subset in self.subsets:
            inside = np.isin(self.searched.stratum, QUERY_SUBSETS[subset])
            rows = self.searched.keep(inside)
            group, match = rows.group, rows.ranked.is_match
            top = np.arange(len(group)) < self.n
            masks = {"precision_at_n": top}
            names = ["uap", "recall_at_n", "recall_at_p90"]
            if self.filter is not None:
                kept = ~self.filter.rejected[inside]
                masks |= {"tp_kept": top & match, "fp_kept": top & ~match, "precision_after_filter": top & kept}
                masks["precision_filter_then_cut"] = kept & (np.cumsum(kept) <= self.n)
                names += ["uap_before_filter", "recall_after_filter"]
            sizes |= {f"{subset}/{name}": positives for name in names}
            sizes |= {f"{subset}/{name}": np.bincount(group[mask], minlength=groups) for name, mask in masks.items()}
        return sizes

    def _list_metrics(
        self, rows: GroupedList, weights: np.ndarray, positives: np.ndarray, uap: str, recall: str | None = None
    ) -> dict[str, np.ndarray]:
        negatives = negatives_before(rows, weights, len(STRATA))
        found = weights[rows.group[rows.ranked.is_match]]
        values = {}
        for subset in self.subsets:
            above = negatives[list(QUERY_SUBSETS[subset])].sum(axis=0)
            values[f"{subset}/{uap}"] = weighted_average_precision(found, above, positives)
            if recall is not None:
                values[f"{subset}/{recall}"] = weighted_recall_at_precision(found, above, positives)
        return values

    def _cut_metrics(
        self, subset: str, inside: np.ndarray, weights: np.ndarray, positives: np.ndarray, n: np.ndarray
    ) -> dict[str, np.ndarray]:
        rows = self.searched.keep(inside)
        kept = np.ones(len(rows.ranked), dtype=bool) if self.filter is None else ~self.filter.rejected[inside]
        counts = weighted_cut(rows, weights, kept, n)
        tp, fp = counts["tp"], counts["fp"]
        values = {"precision_at_n": divide(tp, tp + fp), "tp": tp, "fp": fp, "recall_at_n": divide(tp, positives)}
        if self.filter is not None:
            survivors = rows.keep(kept)
            refilled = weighted_cut(survivors, weights, np.ones(len(survivors.ranked), dtype=bool), n)
            tp_kept, fp_kept = counts["tp_kept"], counts["fp_kept"]
            values |= {
                "tp_kept": divide(tp_kept, tp),
                "fp_kept": divide(fp_kept, fp),
                "tp_kept_count": tp_kept,
                "fp_kept_count": fp_kept,
                "precision_after_filter": divide(tp_kept, tp_kept + fp_kept),
                "recall_after_filter": divide(tp_kept, positives),
                "precision_filter_then_cut": divide(refilled["tp"], refilled["tp"] + refilled["fp"]),
            }
            if subset != "without":
                values["filter_auc"] = self._auc(inside, weights)
        return {f"{subset}/{key}": value for key, value in values.items()}

    def _auc(self, inside: np.ndarray, weights: np.ndarray) -> np.ndarray:
        assert self.filter is not None
        rows = self.filter.copies_and_hard[inside[self.filter.copies_and_hard]]
        hard = ~self.searched.ranked.is_match[rows]
        return weighted_auc(hard, self.filter.ratios[rows], weights[self.searched.group[rows]])

    def _gap_metrics(self, own: dict[str, np.ndarray], base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = {f"{name}/uap_minus_baseline": own[f"{name}/uap"] - base[f"{name}/uap"] for name in self.subsets}
        if "without" not in self.subsets:
            return values
        best_base, best_own = base["without/uap"], own["without/uap"]
        for subset in self.subsets:
            if subset == "without":
                continue
            three = gap_figures(best_base, base[f"{subset}/uap"], best_own, own[f"{subset}/uap"])
            values |= {f"{subset}/{key}": value for key, value in zip(GAP_KEYS, three, strict=True)}
        return values


def gap_figures(
    base_without: np.ndarray, base_with: np.ndarray, own_without: np.ndarray, own_with: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """recovered, gap_closed and held from μAP without and with hard negatives, each (b,); NaN where B − b < 0.02."""
    gap = base_without - base_with
    gap = np.where(gap < SMALLEST_GAP, np.nan, gap)
    own_best = np.where(np.isnan(gap) | (own_without == 0), np.nan, own_without)
    return (own_with - base_with) / gap, 1 - (own_without - own_with) / gap, own_with / own_best
