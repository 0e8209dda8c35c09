"""Which pairs are re-labelled, which may be cleared, and what the audit proves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.annotation.assignment.order import informative_first
from ndec_builder.annotation.decisions.label_statistics import (
    clearing_threshold,
    doubtful_pairs,
    draw_pairs,
    kept_by_one,
    posterior_of,
    residual_bound,
)
from ndec_builder.annotation.label_tables import copy_probabilities, newest_labels
from ndec_builder.core.schemas import CANDIDATES, LABEL_ROWS, table_of

START = datetime(2026, 1, 1, tzinfo=UTC)


def label_table(*rows: tuple[str, str, str, str], gold: tuple[str, ...] = ()) -> Any:
    """Rows (pair_id, round, annotator, label)."""
    return table_of(
        LABEL_ROWS,
        [
            {"pair_id": pair, "round": round_, "annotator": name, "label": label, "seconds": 3.0, "batch": 1,
             "annotated_at": START + timedelta(seconds=number), "is_gold": pair in gold}
            for number, (pair, round_, name, label) in enumerate(rows)
        ],
    )  # fmt: skip


@given(st.sets(st.text("abcdef0123456789", min_size=4, max_size=8), max_size=30), st.integers(0, 30))
@settings(max_examples=50)
def test_a_draw_only_grows_and_does_not_depend_on_the_order(pairs: set[str], count: int) -> None:
    fewer, more = draw_pairs(sorted(pairs), count), draw_pairs(sorted(pairs, reverse=True), count + 3)
    assert more[: len(fewer)] == fewer and len(fewer) == min(count, len(pairs))


def test_a_draw_behaves_like_a_random_sample() -> None:
    pairs = [f"{number:06d}" for number in range(20_000)]
    share = np.mean([int(pair) < 10_000 for pair in draw_pairs(pairs, 4000)])
    assert share == pytest.approx(0.5, abs=0.03)


def test_doubtful_pairs_are_re_labelled_and_clear_ones_are_not() -> None:
    labels = label_table(
        ("agree", "first", "a", "edited_copy"), ("against", "first", "a", "hard_negative"),
        ("plain", "first", "b", "hard_negative"), ("both", "first", "a", "hard_negative"),
        ("both", "double_check", "b", "hard_negative"), ("disputed", "first", "a", "edited_copy"),
        ("disputed", "double_check", "b", "hard_negative"),
    )  # fmt: skip
    pairs, posterior = posterior_of(labels, {"agree": 0.97, "against": 0.97, "both": 0.6, "disputed": 0.5})
    again = doubtful_pairs(pairs, posterior, 0.02, 0.02)
    assert {"against", "disputed"} <= again and not again & {"agree", "both"}


def test_audit_labels_and_gold_pairs_do_not_enter_the_posterior() -> None:
    labels = label_table(
        ("p", "first", "a", "hard_negative"), ("p", "audit", "b", "edited_copy"), ("p", "audit", "c", "edited_copy"),
        ("g", "first", "a", "edited_copy"), gold=("g",),
    )  # fmt: skip
    pairs, posterior = posterior_of(labels, {})
    assert pairs == ["p"] and posterior.probabilities[0].argmax() == 1


def test_the_newest_label_counts() -> None:
    labels = label_table(("p", "first", "a", "unrelated"), ("q", "first", "a", "unsure"), ("p", "first", "a", "unsure"))
    assert newest_labels(labels)["label"].to_pylist() == ["unsure", "unsure"]


def test_clearing_needs_proof() -> None:
    rng = np.random.default_rng(0)
    sure = np.concatenate([np.full(400, 0.99), rng.uniform(0, 0.9, 400)])
    copies = np.concatenate([np.ones(400, bool), rng.random(400) < 0.3])
    assert clearing_threshold(sure, copies, allowed=0.02) == (
        0.99,
        pytest.approx(0.985),
    )  # the whole fails, its upper part does not
    assert clearing_threshold(sure[:400], copies[:400], allowed=0.02) == (
        0.99,
        pytest.approx(0.9775),
    )  # all of it at once
    assert clearing_threshold(sure[:187], copies[:187], allowed=0.02) is None  # 188 checked pairs are the least
    assert clearing_threshold(sure[:188], copies[:188], allowed=0.02) == (0.99, pytest.approx(0.9775))
    assert clearing_threshold(sure, copies & (np.arange(800) % 10 > 0), allowed=0.02) is None  # one in ten is wrong
    assert clearing_threshold(np.zeros(0), np.zeros(0, bool), allowed=0.02) is None


def test_the_residual_bound_counts_undecided_pairs_as_copies() -> None:
    verdicts = {"one": None, "two": "hard_negative", "split": None, "third": "edited_copy"}
    bound = residual_bound(["one", "two", "third", "unseen"], verdicts)
    assert (bound["n"], bound["k"], bound["undecided"]) == (4, 1, 2)
    assert bound["bound"] == pytest.approx(0.95**0.25)  # the p at which all but one of four are copies: p⁴ = 0.95
    assert residual_bound([], verdicts) == {"n": 0, "k": 0, "undecided": 0, "bound": None}


def test_the_least_certain_pre_labels_come_first_and_ties_stay_in_rank() -> None:
    pairs = [(name, "q", "r") for name in ("sure", "half", "none", "no")]
    ordered = informative_first(pairs, {"sure": 0.99, "half": 0.5, "no": 0.01})
    assert [pair[0] for pair in ordered] == ["half", "none", "sure", "no"]


def test_pre_labels_are_read_as_probabilities_of_a_copy() -> None:
    rows = [
        {"pair_id": "a", "prelabel": "edited_copy", "prelabel_confidence": 0.75}, {"pair_id": "b"},
        {"pair_id": "c", "prelabel": "hard_negative", "prelabel_confidence": 0.75},
    ]  # fmt: skip
    assert copy_probabilities([table_of(CANDIDATES, rows)]) == {"a": 0.75, "c": 0.25}


def test_pairs_that_one_annotator_alone_would_have_kept() -> None:
    labels = label_table(
        ("kept", "first", "b", "hard_negative"), ("kept", "first", "a", "edited_copy"),
        ("dropped", "first", "a", "edited_copy"), ("dropped", "first", "b", "hard_negative"),
        ("single", "first", "a", "hard_negative"), ("single", "double_check", "b", "hard_negative"),
    )  # fmt: skip
    assert kept_by_one(labels) == ["kept"]
