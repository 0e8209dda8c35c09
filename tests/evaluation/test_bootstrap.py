"""Multiplicity weights give exactly what the plain metrics give on the literally resampled list."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ndec_builder.evaluation.metrics import bootstrap
from ndec_builder.evaluation.metrics.bootstrap import (
    GroupedList,
    intervals,
    replicate_weights,
    weighted_auc,
    weighted_average_precision,
)
from ndec_builder.evaluation.metrics.estimates import QUERY_SUBSETS, AsymmetricFilter, Evaluation, gap_figures
from ndec_builder.evaluation.metrics.norm_ratio_filter import cut_then_filter
from ndec_builder.evaluation.metrics.ranked import (
    RankedList,
    average_precision,
    precision_at_n,
    rank,
    recall_at_precision,
)

QUERIES, REFERENCES, GROUPS = 14, 4, 6


class Data:
    """A random dataset with a searched list, a filter and a baseline list over the same queries."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.group = rng.integers(0, GROUPS, QUERIES)
        self.stratum = rng.choice(4, QUERIES, p=[0.5, 0.2, 0.2, 0.1])
        copies = np.flatnonzero(self.stratum == 0)
        self.truth = [(int(q), int(rng.integers(0, REFERENCES))) for q in copies[: max(1, len(copies) - 2)]]
        self.norms = rng.integers(1, 5, (2, QUERIES)).astype(float)
        self.searched, self.baseline = self._rows(rng), self._rows(rng)
        self.n = int(rng.integers(1, 12))

    def _rows(self, rng: np.random.Generator) -> list[tuple[int, int, float]]:
        pairs = [p for p in itertools.product(range(QUERIES), range(REFERENCES)) if rng.random() < 0.7]
        return [(q, r, float(rng.integers(0, 6))) for q, r in pairs]

    def ranked(self, rows: list[tuple[int, int, float]], times: np.ndarray) -> tuple[RankedList, list[tuple[int, int]]]:
        """The resampled list: every query appears as often as its group was drawn."""
        copies = [(q, r, s, c) for q, r, s in rows for c in range(times[self.group[q]])]
        positives = sum(int(times[self.group[q]]) for q, _ in self.truth)
        match = np.array([(q, r) in self.truth for q, r, _, _ in copies], bool)
        pairs = np.array([(q * REFERENCES + r) * 1000 + c for q, r, _, c in copies], np.int64)
        ranked = rank(np.array([s for _, _, s, _ in copies]), match, positives, pairs)
        return ranked, [(copies[i][0], copies[i][1]) for i in ranked.rows]

    def grouped(self, rows: list[tuple[int, int, float]]) -> tuple[GroupedList, list[tuple[int, int]]]:
        ranked, pairs = self.ranked(rows, np.ones(GROUPS, int))
        queries = np.array([q for q, _ in pairs], int)
        return GroupedList(ranked, self.group[queries], self.stratum[queries]), pairs

    def rejected(self, pairs: list[tuple[int, int]]) -> np.ndarray:
        return np.array([self.norms[0, q] > self.norms[1, r] for q, r in pairs], bool)

    def evaluation(self) -> Evaluation:
        searched, pairs = self.grouped(self.searched)
        rejected = self.rejected(pairs)
        ratios = np.array([self.norms[0, q] / self.norms[1, r] for q, r in pairs])
        compared = self.compared(searched.ranked.is_match, [q for q, _ in pairs])
        truth_group = np.array([self.group[q] for q, _ in self.truth])
        return Evaluation(
            searched, truth_group, self.n, tuple(QUERY_SUBSETS),
            AsymmetricFilter(searched.keep(~rejected), rejected, compared, ratios, 1.0), self.grouped(self.baseline)[0],
        )  # fmt: skip

    def compared(self, match: np.ndarray, queries: list[int]) -> np.ndarray:
        best = [queries.index(q) for q in sorted(set(queries)) if self.stratum[q] > 0]
        return np.array(sorted({*np.flatnonzero(match).tolist(), *best}), int)


def literally(data: Data, times: np.ndarray) -> dict[str, float | None]:
    """Every number of `Evaluation` by the plain metrics on the resampled lists."""
    values: dict[str, float | None] = {}
    lists = {"own": data.ranked(data.searched, times), "base": data.ranked(data.baseline, times)}
    positives = lists["own"][0].positives
    share = data.n * positives / len(data.truth)
    n = max(1, int(np.floor(share + 0.5)))
    uaps: dict[tuple[str, str], float] = {}
    for subset, strata in QUERY_SUBSETS.items():
        inside = {
            name: (ranked.keep(mask), [p for p, ok in zip(pairs, mask, strict=True) if ok])
            for name, (ranked, pairs) in lists.items()
            for mask in [np.array([data.stratum[q] in strata for q, _ in pairs], bool)]
        }
        ranked, pairs = inside["own"]
        rejected = data.rejected(pairs)
        final = ranked.keep(~rejected)
        cut, counted = cut_then_filter(ranked, rejected, n), precision_at_n(ranked, n)
        uaps[subset, "own"], uaps[subset, "base"] = average_precision(final), average_precision(inside["base"][0])
        values |= {
            f"{subset}/uap": uaps[subset, "own"],
            f"{subset}/uap_before_filter": average_precision(ranked),
            f"{subset}/recall_at_p90": recall_at_precision(final),
            f"{subset}/precision_at_n": counted.precision,
            f"{subset}/tp": cut.tp,
            f"{subset}/fp": cut.fp,
            f"{subset}/recall_at_n": counted.recall_at_n,
            f"{subset}/tp_kept": cut.tp_kept / cut.tp if cut.tp else None,
            f"{subset}/fp_kept": cut.fp_kept / cut.fp if cut.fp else None,
            f"{subset}/tp_kept_count": cut.tp_kept,
            f"{subset}/fp_kept_count": cut.fp_kept,
            f"{subset}/precision_after_filter": cut.precision_after_filter,
            f"{subset}/recall_after_filter": cut.recall_after_filter,
            f"{subset}/precision_filter_then_cut": cut.filter_then_cut,
            f"{subset}/uap_minus_baseline": uaps[subset, "own"] - uaps[subset, "base"],
        }
    for subset in ("all", "natural", "reverse_crop"):
        keys = (("without", "base"), (subset, "base"), ("without", "own"), (subset, "own"))
        four = [np.array([uaps[key]]) for key in keys]
        for name, value in zip(("recovered", "gap_closed", "held"), gap_figures(*four), strict=True):
            values[f"{subset}/{name}"] = None if np.isnan(value[0]) else float(value[0])
    return values


@pytest.mark.slow
@pytest.mark.parametrize("dense", [0, bootstrap._DENSE_CELLS])  # long lists, and those with few matches and groups
def test_every_number_equals_that_of_the_literally_resampled_list(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_DENSE_CELLS", dense)
    for seed in range(60):
        data, rng = Data(seed), np.random.default_rng(1000 + seed)
        weights = rng.integers(0, 4, (GROUPS, 3)).astype(np.int32)
        positive = data.group[data.truth[0][0]]
        weights[positive] = np.maximum(weights[positive], 1)  # a replicate without a positive pair has no metric
        got = data.evaluation()(weights)
        for replicate in range(weights.shape[1]):
            expected = literally(data, weights[:, replicate])
            assert {key for key in got if not key.endswith("filter_auc")} == set(expected)
            for key, value in expected.items():
                actual = got[key][replicate]
                if value is None:
                    assert np.isnan(actual), (seed, key)
                else:
                    assert actual == pytest.approx(value, abs=1e-12), (seed, key)


@pytest.mark.parametrize("seed", range(6))
def test_sizes_are_the_denominators_of_the_shares(seed: int) -> None:
    data = Data(seed)
    evaluation = data.evaluation()
    values = {key: value[0] for key, value in evaluation(np.ones((GROUPS, 1), np.int32)).items()}
    parts = {
        "precision_at_n": "tp", "recall_at_n": "tp", "tp_kept": "tp_kept_count", "fp_kept": "fp_kept_count",
        "precision_after_filter": "tp_kept_count", "recall_after_filter": "tp_kept_count",
    }  # fmt: skip
    sizes = evaluation.sizes(GROUPS)
    for key, size in sizes.items():
        subset, name = key.split("/")
        assert size.shape == (GROUPS,) and key in values
        if name in parts and size.sum():
            assert values[key] == pytest.approx(values[f"{subset}/{parts[name]}"] / size.sum())
    kept = evaluation.searched.ranked.is_match[~evaluation.filter.rejected][: data.n]
    if len(kept):
        assert values["all/precision_filter_then_cut"] == pytest.approx(kept.mean())
    assert sizes["all/precision_filter_then_cut"].sum() == len(kept)


@pytest.mark.slow
def test_auc_equals_scikit_learn_on_resampled_rows() -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        m = int(rng.integers(2, 30))
        higher, values = rng.random(m) < 0.5, rng.integers(0, 6, m).astype(float)
        higher[:2] = [True, False]
        weights = rng.integers(0, 4, (m, 2)).astype(np.int32)
        weights[:2] = 1
        auc = weighted_auc(higher, values, weights)
        for b in range(2):
            labels, drawn = np.repeat(higher, weights[:, b]), np.repeat(values, weights[:, b])
            assert auc[b] == pytest.approx(roc_auc_score(labels, drawn))
    assert np.isnan(weighted_auc(np.array([True]), np.array([1.0]), np.ones((1, 1), np.int32))).all()
    assert np.isnan(weighted_auc(np.array([], bool), np.array([]), np.ones((0, 2), np.int32))).all()


def test_replicates_draw_as_many_groups_as_there_are_and_do_not_depend_on_the_batches() -> None:
    weights = np.concatenate(list(replicate_weights(37, 300, seed=4)), axis=1)
    assert weights.shape == (37, 300) and (weights.sum(axis=0) == 37).all()
    again = np.concatenate(list(replicate_weights(37, 130, seed=4)), axis=1)
    assert (weights[:, :130] == again).all()
    assert (weights != np.concatenate(list(replicate_weights(37, 300, seed=5)), axis=1)).any()


def test_interval_of_a_mean_covers_it_and_the_group_counts_not_the_row() -> None:
    """One group of 200 equal rows carries no more information than one row: the interval must be as wide."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=40)

    def mean(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": values @ weights / weights.sum(axis=0)}

    interval = intervals(mean, 40, 1000, seed=0)["mean"]
    spread = 1.96 * values.std() / np.sqrt(40)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - spread, abs=0.25 * spread)
    assert interval.high == pytest.approx(values.mean() + spread, abs=0.25 * spread)


def test_undefined_replicates() -> None:
    def rarely(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = weights[0].astype(float)
        return {"often": np.where(drawn > 0, drawn, np.nan), "never": np.full(len(drawn), np.nan), "always": drawn}

    got = intervals(rarely, 3, 200, seed=0)
    assert (got["often"].value, got["often"].low) == (1.0, None)  # group 0 is missing from 30 % of the draws
    assert got["never"].value is None
    assert got["always"].low is not None


def test_a_replicate_without_ground_truth_is_undefined() -> None:
    zero = np.zeros((2, 1), np.int32)
    assert np.isnan(weighted_average_precision(zero, zero, np.zeros(1))).all()
