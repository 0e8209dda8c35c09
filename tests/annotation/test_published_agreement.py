"""SIMULATED annotators, so that the truth is known: what agreement.json and the card say about them must hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import beta
from sklearn.metrics import cohen_kappa_score

from ndec_builder.annotation.assignment.rounds import new_tasks
from ndec_builder.annotation.decisions.agreement import agreement_report, agreement_texts, krippendorff_alpha
from ndec_builder.annotation.decisions.annotator_quality import annotator_report, known_truth, undecided_truth
from ndec_builder.annotation.decisions.audit import evaluate_audit, pairs_to_watch
from ndec_builder.annotation.decisions.audit_text import audit_text, published_bound
from ndec_builder.annotation.decisions.label_statistics import kept_by_one, residual_bound
from ndec_builder.annotation.decisions.resolution import decision_table
from ndec_builder.annotation.label_tables import keys
from ndec_builder.annotation.push_options import PushOptions
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import LABEL_ROWS, LABELS, TASKS, table_of
from support.review import Review

START = datetime(2026, 1, 1, tzinfo=UTC)
Vote = tuple[str, str, str, str, int]  # pair_id, round, annotator, label, batch


def labels_of(votes: list[Vote]) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"pair_id": pair, "round": round_, "annotator": name, "label": label, "batch": batch, "seconds": 4.0,
         "is_gold": False, "annotated_at": START + timedelta(seconds=5 * number)}
        for number, (pair, round_, name, label, batch) in enumerate(votes)
    ]  # fmt: skip
    return table_of(LABEL_ROWS, rows)


def decisions_of(votes: list[Vote]) -> pa.Table:
    tasks = [{"pair_id": p, "round": r, "annotator": a, "batch": b, "is_gold": False} for p, r, a, _, b in votes]
    return decision_table(table_of(TASKS, tasks), labels_of(votes))


def said(truth: str, right: float, rng: np.random.Generator) -> str:
    return truth if rng.random() < right else str(rng.choice([x for x in LABELS[:3] if x != truth]))


def double_checked(which: str) -> tuple[list[Vote], dict[str, list[str]]]:
    """400 pairs, a tenth labelled by ann and ben, the others by ann; cleo double-checks. 97 % of labels are right."""
    rng = np.random.default_rng(4)
    votes: list[Vote] = []
    first: dict[str, list[str]] = {}
    for number in range(400):
        pair, truth = f"p{number:03d}", str(rng.choice(LABELS[:3], p=[0.3, 0.6, 0.1]))
        names = ("ann", "ben") if number < 40 else ("ann",)
        first[pair] = [said(truth, 0.97, rng) for _ in names]
        votes += [(pair, "first", name, label, 1) for name, label in zip(names, first[pair], strict=True)]
        if len({*first[pair]}) == 1 and (which == "all" or first[pair][0] == "hard_negative"):
            votes.append((pair, "double_check", "cleo", said(truth, 0.97, rng), 2))
    return votes, first


def test_kappa_comes_from_pairs_that_no_label_chose() -> None:
    """The double-check has only pairs labelled hard_negative: its first rater is constant, so its kappa would be 0."""
    votes, first = double_checked("hard_negative")
    found = agreement_report(labels_of(votes))
    both = [labels for labels in first.values() if len(labels) == 2]
    kappa = cohen_kappa_score(*zip(*both, strict=True))
    assert found["kappa"] == found["rounds"]["first"]["kappa"] == pytest.approx(kappa)
    assert kappa > 0.8
    assert found["alpha"] == krippendorff_alpha(both)
    assert found["rounds"]["double_check"]["kappa"] is None


def test_a_double_check_states_the_share_that_it_confirmed() -> None:
    votes, _ = double_checked("hard_negative")
    found = agreement_report(labels_of(votes))
    second = [label for _, round_, _, label, _ in votes if round_ == "double_check"]
    n, k, z = len(second), second.count("hard_negative"), 1.959964
    middle, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4)
    confirmed = found["rounds"]["double_check"]["confirmed"]
    assert (confirmed["n"], confirmed["confirmed"], confirmed["share"]) == (n, k, k / n)
    assert (confirmed["low"], confirmed["high"]) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert f"Double-check: {k} of {n} pairs confirmed by another annotator" in " ".join(agreement_texts(found))


def test_a_double_check_of_all_pairs_counts_for_kappa() -> None:
    """Pairs with two first labels are in it only if these were equal, so they do not count."""
    votes, first = double_checked("all")
    found = agreement_report(labels_of(votes), PushOptions().after_double_check("all", False).drawn_rounds)
    second = {pair: label for pair, round_, _, label, _ in votes if round_ == "double_check"}
    couples = [(labels[0], second[pair]) for pair, labels in first.items() if len(labels) == 1]
    assert found["rounds"]["double_check"]["kappa"] == pytest.approx(cohen_kappa_score(*zip(*couples, strict=True)))
    assert found["rounds"]["double_check"]["pairs"] == 360
    assert found["alpha"] == krippendorff_alpha([*couples, *(x for x in first.values() if len(x) == 2)])


@pytest.mark.parametrize(
    ("checks", "earlier", "drawn"),
    [(["all"], False, True), (["all", "all"], False, True), (["hard_negative", "all"], False, False),
     (["all", "uncertain"], False, False), (["all"], True, False), ([], True, False)],
)  # fmt: skip
def test_which_double_checks_were_drawn_without_a_label(checks: list[str], earlier: bool, drawn: bool) -> None:
    options = PushOptions()
    for which in checks:
        options = options.after_double_check(which, earlier).after_push(False, 0.9, 0)
    assert ("double_check" in options.drawn_rounds) == drawn


@pytest.mark.slow
@pytest.mark.parametrize("keepable", [False, True])
def test_a_double_check_without_the_pairs_of_dropped_queries_was_chosen_by_labels(
    tmp_path: Path, keepable: bool
) -> None:
    review = Review(tmp_path)
    review.label(review.ids)
    tables = AnnotationTables(review.workspace, "test")
    new_tasks(
        PushConfig(tmp_path, round="double_check", double_check="all", annotators=("eve",), keepable=keepable), tables
    )
    assert ("double_check" in tables.options.drawn_rounds) != keepable


def test_a_later_batch_of_the_first_round_was_chosen_by_a_label() -> None:
    """Pairs of the auto-clear slice whose first label contradicts the pre-label go to one more annotator."""
    votes: list[Vote] = [(f"p{n}", "first", "ann", label, 1) for n, label in enumerate(LABELS[:3] * 2)]
    votes += [(f"p{n}", "first", "ben", label, 1) for n, label in enumerate(LABELS[:3] * 2)]
    doubtful: list[Vote] = [(f"d{n}", "first", "ann", "hard_negative", 1) for n in range(6)]
    doubtful += [(f"d{n}", "first", "ben", "edited_copy", 2) for n in range(6)]
    found = agreement_report(labels_of(votes + doubtful))
    assert (found["kappa"], found["rounds"]["first"]["pairs"]) == (1.0, 6)
    assert kept_by_one(labels_of(votes + doubtful)) == ["p1", "p4"]


def test_a_kappa_of_an_earlier_version_with_a_double_check_in_it_is_not_published() -> None:
    rounds = {"first": {"kappa": 0.9, "pairs": 40}, "double_check": {"kappa": 0.0, "pairs": 244}}
    assert agreement_texts({"kappa": 0.2, "rounds": rounds}) == [
        "Round first: Cohen's kappa 0.900 over 40 shared pairs."
    ]


@pytest.fixture(scope="module")
def disputes() -> list[Vote]:
    """300 pairs, two annotators who are right in 85 % each; nobody has adjudicated."""
    rng = np.random.default_rng(0)
    return [
        (f"p{number:03d}", "first", name, said(truth, 0.85, rng), 1)
        for number, truth in enumerate(rng.choice(LABELS[:3], 300, p=[0.3, 0.6, 0.1]).tolist())
        for name in ("ann", "ben")
    ]


def test_disputes_that_wait_do_not_make_annotators_perfect(disputes: list[Vote]) -> None:
    labels, decisions = labels_of(disputes), decisions_of(disputes)
    truth = known_truth(labels, decisions, {})
    rows = annotator_report(labels, truth, undecided_truth(labels, decisions, truth))
    first, second = ([vote[3] for vote in disputes[start::2]] for start in (0, 1))
    differ = sum(one != two for one, two in zip(first, second, strict=True))
    for row in rows:
        checked = row["checked"]
        assert (checked["n"], checked["open"], checked["share"]) == (300 - differ, differ, None)
        assert checked["low"] < 0.85 < checked["high"]
        assert row["flags"] == []


def test_the_residual_bound_counts_disputes_as_copies(disputes: list[Vote]) -> None:
    """Many pairs whose first label kept them are copies, but annotators agree on the others only."""
    kept = kept_by_one(labels_of(disputes))
    found = residual_bound(kept, dict(keys(decisions_of(disputes), "pair_id", "decision")))
    second = {pair: label for pair, _, name, label, _ in disputes if name == "ben"}
    undecided = sum(second[pair] != "hard_negative" for pair in kept)
    assert (found["n"], found["k"], found["undecided"]) == (len(kept), 0, undecided)
    assert found["bound"] == pytest.approx(beta.ppf(0.95, undecided + 1, len(kept) - undecided))


def test_a_dataset_states_the_bound_of_an_audit_that_people_watch() -> None:
    pairs = [f"p{number}" for number in range(330)]
    audit = evaluate_audit(5000, pairs, {pair: ["hard_negative"] for pair in pairs})
    assert audit.bound is not None and audit.watched_bound is not None and audit.bound < audit.watched_bound
    bound, meaning = published_bound(audit.as_json()) or (None, "")
    assert bound == audit.watched_bound and "however often" in meaning
    assert published_bound({"bound": 0.0157}) == (0.0157, "one-sided 95 % bound for a size fixed in advance")
    assert published_bound({"bound": None}) is None
    text = audit_text(audit)
    assert f"at most {audit.watched_bound:.2%} of the 5,000 kept hard negatives are edited copies" in text
    assert f"({audit.bound:.2%} if its size was fixed before the first label)" in text


@pytest.mark.parametrize("copies", [0, 1])
def test_how_many_pairs_a_watched_audit_needs(copies: int) -> None:
    need = pairs_to_watch(copies, 5000) or 0
    for pairs, proven in ((need, True), (need - 1, False)):
        names = [f"p{number}" for number in range(pairs)]
        votes = {name: ["edited_copy"] * 2 if n < copies else ["hard_negative"] for n, name in enumerate(names)}
        bound = evaluate_audit(5000, names, votes).watched_bound
        assert bound is not None and (bound <= 0.01) == proven
    assert pairs_to_watch(1, 30) is None
