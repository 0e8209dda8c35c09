"""`audit --weighted`: the order, its probabilities, and the bound on a workspace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ndec_builder.annotation.assignment.rounds import new_tasks
from ndec_builder.annotation.decisions.audit import audit_order, evaluate_audit, sample_chances
from ndec_builder.annotation.decisions.audit_text import audit_text
from ndec_builder.annotation.decisions.weighted_draws import doubt_weights, draw_chances, weighted_order
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from support.review import Review
from support.votes import Vote


def test_a_doubtful_pair_comes_first_as_often_as_its_weight_says() -> None:
    """Of 2,000 draws of two pairs, the one with three times the weight is first in three of four."""
    first = sum(
        weighted_order([f"a{n}", f"b{n}"], {f"a{n}": 3.0, f"b{n}": 1.0}, f"salt {n}")[0] == f"a{n}" for n in range(2000)
    )
    assert abs(first / 2000 - 0.75) < 3 * np.sqrt(0.75 * 0.25 / 2000)


def test_the_probabilities_are_those_of_the_pairs_left() -> None:
    chances = draw_chances(["a", "b", "c"], {"a": 3.0, "b": 1.0, "c": 2.0})
    assert chances.tolist() == pytest.approx(np.array([[3 / 6, 1 / 6], [1 / 3, 1 / 3], [1, 1]]))


def test_weights_grow_with_doubt_from_one_to_three() -> None:
    weights = doubt_weights(["none", "sure", "half"], {"sure": 0.0, "half": 0.5, "clear": 1.0})
    assert weights == {"half": 3.0, "none": 1.0, "sure": 1.0}


def test_equal_weights_give_a_bound_near_the_uniform_one() -> None:
    pairs = [f"p{number}" for number in range(400)]
    weights = dict.fromkeys(pairs, 1.0)
    order = audit_order(pairs, weights)
    votes = {pair: ["hard_negative"] for pair in order[:250]}
    weighted = evaluate_audit(400, order[:250], votes, chances=sample_chances(pairs, order[:250], weights))
    uniform = evaluate_audit(400, order[:250], votes)
    assert weighted.bound is not None and uniform.watched_bound is not None
    assert uniform.watched_bound <= weighted.bound <= 2 * uniform.watched_bound
    assert weighted.bound == weighted.watched_bound and "drawn more often" in audit_text(weighted)


def test_an_open_pair_ends_what_counts() -> None:
    pairs = [f"p{number}" for number in range(100)]
    order = audit_order(pairs, {})
    chances = sample_chances(pairs, order[:80], {})
    votes = {pair: ["hard_negative"] for pair in order[:80]}
    complete = evaluate_audit(100, order[:80], votes, chances=chances)
    del votes[order[40]]
    cut = evaluate_audit(100, order[:80], votes, chances=chances)
    shorter = evaluate_audit(100, order[:40], votes, chances=chances[:40] if chances is not None else None)
    assert cut.bound == shorter.bound > complete.bound  # type: ignore[operator]


def labelled(root: Path) -> AnnotationTables:
    review = Review(root)
    review.label(review.ids)
    return AnnotationTables(review.workspace, "test")


@pytest.mark.slow
def test_the_weights_of_the_first_audit_stay(tmp_path: Path) -> None:
    tables = labelled(tmp_path)
    config = PushConfig(tmp_path, round="audit", annotators=("eve",), audit_pairs=60, weighted=True)
    drawn = new_tasks(config, tables)["pair_id"].to_pylist()
    again = AnnotationTables(tables.workspace, "test")
    assert again.audit_weights == tables.audit_weights is not None
    later = PushConfig(tmp_path, round="audit", annotators=("eve",), audit_pairs=90)
    assert new_tasks(later, again)["pair_id"].to_pylist()[:60] == drawn


@pytest.mark.slow
def test_a_uniform_audit_cannot_become_weighted(tmp_path: Path) -> None:
    review = Review(tmp_path)
    votes: list[Vote] = [(review.ids[0], "audit", "eve", "hard_negative")]
    review.label(review.ids, votes)
    config = PushConfig(tmp_path, round="audit", annotators=("eve",), audit_pairs=60, weighted=True)
    with pytest.raises(NdecError, match="started with uniform draws"):
        new_tasks(config, AnnotationTables(review.workspace, "test"))
