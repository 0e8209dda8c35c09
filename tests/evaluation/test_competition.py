"""References that compete for a query, and lists with one reference per query."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ndec_builder.evaluation.detectors.competition import SAME_SCENE, compete
from ndec_builder.evaluation.predictions import Predictions

FAR, SAME = np.eye(4, dtype=np.float32), np.ones((4, 4), np.float32) / 2


def by_enumeration(logits: list[float], rivals: list[set[int]]) -> list[float]:
    """P(i) over all subsets of i and its rivals with at most one member, each weighted by independent odds."""
    found = []
    for i, others in enumerate(rivals):
        known = [i, *others]
        total = own = 0.0
        for present in itertools.product((False, True), repeat=len(known)):
            if sum(present) > 1:
                continue
            p = [1 / (1 + np.exp(-logits[k])) for k in known]
            weight = np.prod([x if there else 1 - x for x, there in zip(p, present, strict=True)])
            total, own = total + weight, own + weight * present[0]
        found.append(own / total)
    return found


def compared(inside: list[float], vectors: np.ndarray, pictures: str, rivals: list[set[int]]) -> None:
    logits = np.array([2.0, 1.5, -0.3, 0.4])
    found = compete(np.zeros(4, np.int64), logits, np.array(inside), vectors, pictures)
    assert found == pytest.approx(by_enumeration(logits.tolist(), rivals))


ALL = [{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {0, 1, 2}]


def test_all_references_of_a_query_compete() -> None:
    compared([1.0, 0.9, np.nan, 0.8], SAME, "abcd", ALL)


def test_parts_of_a_collage_do_not_compete() -> None:
    compared([0.5, 0.5, np.nan, 0.9], FAR, "abcd", [{2, 3}, {2, 3}, {0, 1, 3}, {0, 1, 2}])


def test_parts_from_one_scene_compete() -> None:
    compared([0.5, 0.5, np.nan, 0.9], SAME, "abcd", ALL)
    assert float(SAME[0] @ SAME[1]) >= SAME_SCENE


def test_the_same_picture_twice_does_not_compete() -> None:
    compared([1.0, 1.0, 1.0, 1.0], SAME, "aabc", [{2, 3}, {2, 3}, {0, 1, 3}, {0, 1, 2}])


def test_queries_do_not_influence_each_other() -> None:
    logits = np.array([2.0, 1.5, 4.0])
    args = np.full(3, np.nan), SAME[:3], "abc"
    found = compete(np.array([0, 0, 7]), logits, *args)
    assert found[2] == pytest.approx(1 / (1 + np.exp(-4.0)))


def test_a_query_made_of_ten_references_keeps_all() -> None:
    vectors, names = np.eye(10, dtype=np.float32), [str(i) for i in range(10)]
    found = compete(np.zeros(10, np.int64), np.full(10, 3.0), np.full(10, 0.1), vectors, names)
    assert found == pytest.approx(np.full(10, 1 / (1 + np.exp(-3.0))))


def test_extreme_logits_stay_finite_and_in_order() -> None:
    found = compete(np.zeros(3, np.int64), np.array([900.0, -900.0, 0.0]), np.full(3, np.nan), SAME[:3], "abc")
    assert found.tolist() == [1.0, 0.0, 0.0]


def test_one_per_query_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    query, reference = np.divmod(rng.permutation(30 * 7), 7)
    scores = np.round(rng.normal(size=210), 1)  # with ties
    some = rng.random(210) < 0.5
    found = Predictions(query[some], reference[some], scores[some], "how").best_of_queries()
    best: dict[int, tuple[float, int]] = {}
    for q, r, s in zip(query[some].tolist(), reference[some].tolist(), scores[some].tolist(), strict=True):
        best[q] = min(best.get(q, (np.inf, 0)), (-s, r))
    assert {q: (-s, r) for q, r, s in zip(found.query, found.reference, found.scores, strict=True)} == best
    assert found.query.tolist() == sorted(best) and found.protocol == "how"
