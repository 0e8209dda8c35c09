"""Do probabilities hold: bins, the expected calibration error and its interval, and decision thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.decision import ShippedThresholds, decisions
from ndec_builder.evaluation.metrics.bootstrap import GroupedList, replicate_weights
from ndec_builder.evaluation.metrics.calibration import BestPairs, calibration, equal_mass, probable
from ndec_builder.evaluation.metrics.ranked import rank
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.league.calibration import reliability

RNG = np.random.default_rng(5)
SAID = np.round(RNG.random(60), 1)  # with ties
PAIRS = BestPairs(SAID, RNG.random(60) < SAID, RNG.integers(0, 9, 60))
SHIPPED = ShippedThresholds({"0.9": {"threshold": 0.5, "low": 0.4, "high": 0.6}}, "some data")


def plain_ece(said: np.ndarray, correct: np.ndarray, number: np.ndarray) -> float:
    total = 0.0
    for k in set(number.tolist()):
        inside = [i for i in range(len(said)) if number[i] == k]
        total += abs(sum(said[i] for i in inside) - sum(bool(correct[i]) for i in inside))
    return total / len(said)


def test_bins_hold_equally_many_different_values() -> None:
    assert np.bincount(equal_mass(RNG.permutation(230) / 230)).tolist() == [23] * 10
    assert np.bincount(equal_mass(RNG.permutation(37) / 37)).tolist() == [12, 12, 13]


def test_equal_values_share_a_bin() -> None:
    number = equal_mass(SAID)
    for value in np.unique(SAID):
        assert len(np.unique(number[value == SAID])) == 1
    assert equal_mass(np.full(50, 0.3)).tolist() == [0] * 50


def test_the_error_is_the_weighted_gap_of_the_bins() -> None:
    found = calibration(PAIRS, 9, 100, 0)
    assert found["ece"]["value"] == pytest.approx(plain_ece(SAID, PAIRS.correct, equal_mass(SAID)))
    first = equal_mass(SAID) == 0
    assert found["bins"][0]["said"] == pytest.approx(SAID[first].mean())
    assert found["bins"][0]["true"] == pytest.approx(PAIRS.correct[first].mean())
    assert sum(entry["count"] for entry in found["bins"]) == found["queries"] == 60


def test_the_interval_is_that_of_resampled_groups() -> None:
    number, values = equal_mass(SAID), []
    for weights in replicate_weights(9, 100, 3):
        for drawn in weights.T:
            rows = np.repeat(np.arange(60), drawn[PAIRS.group])
            values.append(plain_ece(SAID[rows], PAIRS.correct[rows], number[rows]))
    found = calibration(PAIRS, 9, 100, 3)["ece"]
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(values, [0.025, 0.975]))


def test_scores_below_0_are_no_probabilities() -> None:
    best = BestPairs(np.array([0.8, -2.1, 0.0]), np.array([True, False, False]), np.arange(3))
    kept, others = probable(best)
    assert kept.score.tolist() == [0.8, 0.0] and kept.group.tolist() == [0, 2] and others == 1


def test_the_raw_error_of_a_league_leaves_out_queries_without_a_probability() -> None:
    said = np.append(SAID, np.full(20, -2.1))
    correct, group = np.append(PAIRS.correct, np.zeros(20, bool)), np.append(PAIRS.group, np.zeros(20, int))
    found = reliability(PAIRS, BestPairs(said, correct, group), 9, True, 100, 0)
    assert found is not None
    assert found["ece_raw"] == pytest.approx(plain_ece(SAID, PAIRS.correct, equal_mass(SAID)))


def some_list(groups: int, wrong: int) -> tuple[GroupedList, np.ndarray]:
    """Each group: 3 copies, 2 listed at .9; in `wrong` groups a false pair at .8, in 9 groups one at .1."""
    scores = np.concatenate([np.tile([0.9, 0.9], groups), np.full(wrong, 0.8), np.full(9, 0.1)])
    match = np.concatenate([np.ones(2 * groups, bool), np.zeros(wrong + 9, bool)])
    group = np.concatenate([np.repeat(np.arange(groups), 2), np.arange(wrong), np.arange(9)])
    ranked = rank(scores, match, 3 * groups)
    rows = GroupedList(ranked, group[ranked.rows], np.zeros(len(scores), np.int64))
    return rows, np.repeat(np.arange(groups), 3)


def test_a_shipped_threshold_is_checked_on_the_data() -> None:
    rows, truth = some_list(30, 5)
    found = decisions(rows, truth, 30, 200, 0, SHIPPED)["shipped"][0]
    assert found["precision_here"]["value"] == pytest.approx(60 / 65)
    assert found["recall_here"]["value"] == pytest.approx(60 / 90)
    assert "has precision 0.92" in found["text"] and "do not use" not in found["text"]


def test_a_shipped_threshold_that_does_not_hold_is_named() -> None:
    rows, truth = some_list(30, 25)
    found = decisions(rows, truth, 30, 200, 0, SHIPPED)["shipped"][0]
    assert found["precision_here"]["value"] == pytest.approx(60 / 85)
    assert "below 0.9, so do not use it on this data" in found["text"]


def test_too_few_pairs_refuse_shipped_thresholds() -> None:
    rows, truth = some_list(10, 2)
    found = decisions(rows, truth, 10, 200, 0, SHIPPED)
    assert found["shipped"] == [] and "30 true pairs in 10 groups of queries: too few to check them" in found["refused"]


def test_both_precisions_get_an_advice_of_their_own() -> None:
    rows, truth = some_list(30, 5)
    here = decisions(rows, truth, 30, 200, 0, None)["here"]
    assert [advice["target_precision"] for advice in here] == [0.9, 0.99]
    assert [advice["threshold"] for advice in here] == [0.8, 0.9]


@pytest.mark.slow
def test_a_csv_of_probabilities(small: Any, tmp_path: Path) -> None:
    config = {"workspace": tmp_path, "manifest": small.manifest, "replicates": 100, "predictions": tmp_path / "p.csv"}
    rows = [(f"q{i:02d}", f"r{i:02d}", round(0.99 - i / 20, 3)) for i in range(12)]
    (tmp_path / "p.csv").write_text("".join(f"{q},{r},{s}\n" for q, r, s in rows))
    report = run(BenchmarkConfig(**config, probabilities=True, name="p"))
    metrics = json.loads((report / "metrics.json").read_text())
    said, correct = [row[2] for row in rows], [i < 8 for i in range(12)]
    assert metrics["calibration"]["ece"]["value"] == pytest.approx(abs(np.mean(said) - np.mean(correct)))
    assert metrics["decisions"]["refused"] == "the fit has no thresholds"
    page = (report / "report.html").read_text()
    assert "Do the probabilities hold?" in page and "Chosen on this data:" in page
    (tmp_path / "p.csv").write_text("q00,r00,1.5\n")
    with pytest.raises(NdecError, match=r"1 of 1 scores of .* are outside 0 … 1, first 1\.5"):
        run(BenchmarkConfig(**config, probabilities=True, name="q"))
    with pytest.raises(UsageError, match="--probabilities says what the scores of --predictions CSV are"):
        BenchmarkConfig(workspace=tmp_path, manifest=tmp_path, model="m", probabilities=True).check()
