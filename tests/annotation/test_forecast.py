"""`ndec annotate plan`: the SIMULATED forecast against counts by hand, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ndec_builder.annotation.stopping import plan
from ndec_builder.annotation.stopping.forecast import (
    Forecast,
    QueuePool,
    SecondLabels,
    audit_pairs,
    best,
    forecast_ways,
)
from ndec_builder.annotation.stopping.settings import PlanConfig
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_json
from support.review import Review

NONE = SecondLabels(np.zeros(3), 0.0)


def pool(classes: list[str], queries: list[int], labelled: int = 0) -> QueuePool:
    """Pairs whose class is certain: c copy, h hard negative, u unrelated; the first `labelled` have a label."""
    codes = np.array(["chu".index(one) for one in classes])
    return QueuePool(np.array(queries), np.eye(3)[codes], np.where(np.arange(len(codes)) < labelled, codes, -1))


def test_a_queue_keeps_the_hard_negatives_of_finished_queries_only() -> None:
    """Query 0: hard, then a copy at the end of the queue. Query 1: hard and unrelated. Query 2: hard alone."""
    some = pool(list("hhhuc"), [0, 1, 2, 1, 0])
    found = {
        way.queue: way
        for way in forecast_ways(some, {0.8: 2}, NONE, True, 3, 0)
        if way.way != "everything twice, no audit"
    }
    assert found[2].kept == 1  # query 1, after its fourth pair was labelled; query 0 turned out to have a copy
    assert found[2].labels == 4 + audit_pairs(1)
    assert found[5].kept == 2
    assert found[2].way == "certified stop at 80%" and found[2].recall == 0.8


def test_in_train_every_hard_negative_is_kept() -> None:
    ways = forecast_ways(pool(list("hhhuc"), [0, 1, 2, 1, 0]), {}, NONE, False, 3, 0)
    assert {way.queue: way.kept for way in ways}[2] == 2


def test_labels_given_already_cost_nothing_and_second_labels_cost_their_share() -> None:
    """Two of the first three pairs are labelled; the third is a hard negative and takes half a second label."""
    second = SecondLabels(np.array([9.0, 0.5, 7.0]), 2.25)
    ways = forecast_ways(pool(list("hhhu"), [0, 1, 2, 3], labelled=2), {}, second, False, 2, 0)
    assert {way.queue: way.labels for way in ways if way.way == "likeliest first"}[3] == 1.5 + 2.25 + audit_pairs(3)
    twice = next(way for way in ways if way.way.startswith("everything"))
    assert twice.labels == 2 * 4 - 2 + (3 * 0.5 + 7.0) / 2


def test_second_labels_are_counted_by_the_first_label() -> None:
    labels = {"a": "hard_negative", "b": "hard_negative", "c": "unrelated", "d": "unsure"}
    second = SecondLabels.of(labels, {"a", "d"}, {"d"})
    assert second.rates.tolist() == [0.0, 1.2 / 2, 0.0] and second.pending == 1.2


def test_classes_are_drawn_with_their_probabilities() -> None:
    some = QueuePool(np.arange(4000), np.tile([0.2, 0.5, 0.3], (4000, 1)), np.full(4000, -1))
    counts = np.bincount(some.draw(np.random.default_rng(0)), minlength=3) / 4000
    assert np.abs(counts - [0.2, 0.5, 0.3]).max() < 0.03


def test_the_best_way_for_a_budget_and_for_a_goal() -> None:
    ways = [Forecast("a", 1, 100, 50, 40, 60), Forecast("b", 2, 200, 90, 80, 95), Forecast("c", 3, 300, 92, 85, 99)]
    assert best(ways, 250, 0) is ways[1]
    assert best(ways, 0, 82) is ways[2]
    assert best(ways, 50, 0) is None and best(ways, 0, 100) is None


@pytest.mark.slow
def test_it_is_marked_as_simulated_and_names_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    review = Review(tmp_path)
    review.label(review.sample)
    stored = read_json(plan.run(PlanConfig(tmp_path, goal=300, draws=3)))
    said = capsys.readouterr().err
    assert stored["simulated"] is True and "SIMULATED forecast" in said
    assert "best for 300 hard negatives" in said and "--order likeliest" in said
    ways = {way["queue"]: way for way in stored["ways"] if way["way"] == "likeliest first"}
    hard = sum(label == "hard_negative" for label in review.truth.values())
    assert ways[1500]["kept"] == pytest.approx(hard, rel=0.35)  # the probabilities of the fixture are not calibrated
    assert stored["chosen"]["low"] >= 300


def test_a_goal_that_the_candidates_cannot_reach_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    review = Review(tmp_path)
    review.label(review.sample)
    assert read_json(plan.run(PlanConfig(tmp_path, goal=5000, draws=2)))["chosen"] is None
    assert "no way fits 5,000 hard negatives: these candidates give about" in capsys.readouterr().err


def test_a_plan_needs_a_pilot(tmp_path: Path) -> None:
    with pytest.raises(NdecError, match="0 pairs of the split 'test' are labelled; a plan needs a pilot"):
        plan.run(PlanConfig(Review(tmp_path).workspace.root, budget=100))


@pytest.mark.parametrize("given", [{}, {"budget": 5, "goal": 5}, {"budget": -1}])
def test_either_a_budget_or_a_goal(tmp_path: Path, given: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="give either --budget N or --goal N"):
        plan.run(PlanConfig(tmp_path, **given))  # type: ignore[arg-type]
