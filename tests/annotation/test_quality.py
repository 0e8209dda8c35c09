"""Simulated annotators: accuracy with intervals that cover it, drift, and one who answers 2 in a second each."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from ndec_builder.annotation.decisions.agreement import agreement_report, cohen_kappa, krippendorff_alpha
from ndec_builder.annotation.decisions.annotator_quality import annotator_report, faster_than_people, known_truth
from ndec_builder.core.schemas import DECISIONS, LABEL_ROWS, LABELS, table_of

START = datetime(2026, 1, 1, tzinfo=UTC)


def work(name: str, given: list[str], seconds: float = 4.0, gold: bool = False) -> list[dict[str, Any]]:
    return [
        {"pair_id": f"p{number:05d}", "round": "first", "annotator": name, "label": label, "seconds": seconds,
         "annotated_at": START + timedelta(seconds=5 * number), "is_gold": gold, "batch": 1}
        for number, label in enumerate(given)
    ]  # fmt: skip


def noisy(truth: list[str], error: float, rng: np.random.Generator) -> list[str]:
    return [str(rng.choice([x for x in LABELS[:3] if x != t])) if rng.random() < error else t for t in truth]


@pytest.mark.slow
def test_accuracy_intervals_cover_the_true_accuracy() -> None:
    rng = np.random.default_rng(5)
    covered = Counter[float]()
    for _ in range(60):
        truth = [str(label) for label in rng.choice(LABELS[:3], 200)]
        rows = [*work("a", noisy(truth, 0.03, rng), gold=True), *work("b", noisy(truth, 0.08, rng), gold=True)]
        found = annotator_report(table_of(LABEL_ROWS, rows), {f"p{n:05d}": t for n, t in enumerate(truth)})
        for row, error in zip(found, (0.03, 0.08), strict=True):
            covered[error] += row["gold"]["low"] <= 1 - error <= row["gold"]["high"]
    assert min(covered.values()) >= 53  # 95 % of 60 is 57; 53 or fewer happen once in a hundred


def test_a_corrected_label_counts_once() -> None:
    """The page offers corrections; if a pull comes before one, the label has two rows."""
    rows = work("ann", ["edited_copy"] * 9 + ["hard_negative"], gold=True)
    slip = rows[-1] | {"label": "edited_copy", "annotated_at": START + timedelta(seconds=60), "seconds": 9.0}
    truth = {row["pair_id"]: "edited_copy" for row in rows}
    (before,), (after,) = (annotator_report(table_of(LABEL_ROWS, given), truth) for given in (rows, [*rows, slip]))
    assert (before["labels"], before["gold"]["right"], before["gold"]["n"]) == (10, 9, 10)
    assert (after["labels"], after["gold"]["right"], after["gold"]["n"]) == (10, 10, 10)
    assert sum(part["checked"] for part in after["windows"]) == 10 and after["pace"] is not None


def test_answering_two_in_a_second_each_is_flagged_and_honest_work_is_not() -> None:
    rng = np.random.default_rng(1)
    truth = [str(label) for label in rng.choice(LABELS[:3], 150)]
    rows = [*work("lazy", ["hard_negative"] * 150, 0.9), *work("honest", noisy(truth, 0.05, rng))]
    by_name = {row["annotator"]: row for row in annotator_report(table_of(LABEL_ROWS, rows), {})}
    assert any("fast" in flag for flag in by_name["lazy"]["flags"])
    assert any("one answer: hard_negative" in flag for flag in by_name["lazy"]["flags"])
    assert any("`ndec annotate send-back lazy" in flag for flag in by_name["lazy"]["flags"])
    assert by_name["honest"]["flags"] == []


def test_one_answer_is_not_flagged_if_all_annotators_give_it() -> None:
    rows = [*work("a", ["hard_negative"] * 100), *work("b", ["hard_negative"] * 95 + ["unrelated"] * 5)]
    assert all(not row["flags"] for row in annotator_report(table_of(LABEL_ROWS, rows), {}))


def test_a_round_of_kept_hard_negatives_raises_no_flag() -> None:
    """The second round has only pairs that the first labelled hard_negative, so that answer is expected."""
    first = work("ann", ["hard_negative"] * 60 + ["unrelated"] * 60)
    again = [row | {"round": "double_check"} for row in work("dora", ["hard_negative"] * 60)]
    assert all(not row["flags"] for row in annotator_report(table_of(LABEL_ROWS, [*first, *again]), {}))


def test_the_first_annotator_is_not_compared_with_pairs_chosen_by_their_label() -> None:
    """Of ann's pairs only the kept ones were labelled again, and dora disagrees with some."""
    first = work("ann", ["hard_negative"] * 60)
    answers = ["hard_negative"] * 40 + ["edited_copy"] * 20
    again = [row | {"round": "double_check"} for row in work("dora", answers)]
    by_name = {row["annotator"]: row for row in annotator_report(table_of(LABEL_ROWS, [*first, *again]), {})}
    assert by_name["ann"]["flags"] == []


def test_one_answer_is_compared_on_the_same_pairs_only() -> None:
    """ben's pairs are all hard negatives, and eve agrees on them. Her other pairs do not matter."""
    ben = work("ben", ["hard_negative"] * 40)
    eve = work("eve", ["hard_negative"] * 40 + ["unrelated"] * 200)
    assert all(not row["flags"] for row in annotator_report(table_of(LABEL_ROWS, [*ben, *eve]), {}))


@pytest.mark.parametrize(
    ("gap", "flag", "program"),
    [(0.15, "impossible pace", True), (0.49, "impossible pace", True), (0.6, "fast pace", False),
     (1.4, "fast pace", False), (1.6, "", False), (5.0, "", False)],
)  # fmt: skip
def test_a_pace_is_judged_by_server_time(gap: float, flag: str, program: bool) -> None:
    """A script may claim any time per pair. A quick person on easy pairs is flagged, but is not called a program."""
    rows = work("bot", ["unrelated", "hard_negative"] * 30, seconds=9.0)
    rows = [row | {"annotated_at": START + timedelta(seconds=gap * n)} for n, row in enumerate(rows)]
    table = table_of(LABEL_ROWS, rows)
    (row,) = annotator_report(table, {})
    assert row["pace"] == pytest.approx(3600 / gap, abs=0.1)
    assert [found.split(":")[0] for found in row["flags"] if "pace" in found] == ([flag] if flag else [])
    assert faster_than_people([row]) == (["bot"] if program else [])


@pytest.mark.parametrize(("seconds", "flagged"), [(0.0, True), (0.19, True), (0.25, False), (9.0, False)])
def test_nobody_decides_within_a_reaction_time(seconds: float, flagged: bool) -> None:
    """A script that waits between two labels, but needs no time for any."""
    rows = work("bot", ["unrelated", "hard_negative"] * 30, seconds=seconds)
    rows = [row | {"annotated_at": START + timedelta(seconds=4 * n)} for n, row in enumerate(rows)]
    (row,) = annotator_report(table_of(LABEL_ROWS, rows), {})
    assert not any("impossible pace" in flag for flag in row["flags"])
    assert faster_than_people([row]) == (["bot"] if flagged else [])


def test_drift_and_low_accuracy_are_flagged() -> None:
    rng = np.random.default_rng(2)
    truth = [str(label) for label in rng.choice(LABELS[:3], 500)]
    rows = work("tired", noisy(truth[:250], 0.02, rng) + noisy(truth[250:], 0.5, rng))
    (row,) = annotator_report(table_of(LABEL_ROWS, rows), {f"p{n:05d}": t for n, t in enumerate(truth)})
    assert row["windows"][0]["accuracy"] > 0.9 > 0.65 > row["windows"][-1]["accuracy"]
    assert any("inaccurate" in flag for flag in row["flags"]) and any("drift" in flag for flag in row["flags"])
    assert sum(window["checked"] for window in row["windows"]) == 500
    assert row["checked"]["n"] == 500 and row["gold"]["n"] == 0 and row["gold"]["share"] is None


def test_gold_that_is_no_copy_accepts_any_other_label() -> None:
    rows = work("a", ["unrelated", "hard_negative", "unsure", "edited_copy"], gold=True)
    (row,) = annotator_report(table_of(LABEL_ROWS, rows), {f"p{n:05d}": "no_copy" for n in range(4)})
    assert (row["gold"]["right"], row["gold"]["n"]) == (3, 4)


def test_truth_comes_from_random_draws_only() -> None:
    """a: two people in the first round. b: doubtful, so seen again. c: undecided. d: audited."""
    rows = [
        {"pair_id": pair, "round": round_, "annotator": name, "label": label, "seconds": 3.0, "annotated_at": START,
         "is_gold": False, "batch": 1}
        for pair, round_, name, label in [
            ("a", "first", "x", "unrelated"), ("a", "first", "y", "unrelated"), ("b", "first", "x", "hard_negative"),
            ("b", "double_check", "y", "hard_negative"), ("c", "first", "x", "unsure"),
            ("c", "first", "y", "unrelated"),
            ("d", "audit", "x", "edited_copy"), ("d", "audit", "y", "edited_copy"),
        ]
    ]  # fmt: skip
    decisions = [
        {"pair_id": "a", "decision": "unrelated"}, {"pair_id": "b", "decision": "hard_negative"}, {"pair_id": "c"},
    ]  # fmt: skip
    truth = known_truth(table_of(LABEL_ROWS, rows), table_of(DECISIONS, decisions), {"g": "no_copy"})
    assert truth == {"a": "unrelated", "d": "edited_copy", "g": "no_copy"}


@pytest.mark.slow
def test_annotators_are_not_measured_on_pairs_that_their_labels_selected() -> None:
    """SIMULATED: what c keeps is audited by a and b, d settles it. c is measured on nothing, a and b fairly."""
    rng, found = np.random.default_rng(2), Counter[str]()
    for _ in range(20):
        rows = []
        for number in range(300):
            votes = noisy(["hard_negative"] * 3, 0.1, rng)
            if votes[2] != "hard_negative":
                continue  # not kept, so not audited
            if votes[0] != votes[1]:
                votes += noisy(["hard_negative"], 0.1, rng)
            people = [("audit", "a"), ("audit", "b"), ("first", "c"), ("audit", "d")]
            rows += [
                {"pair_id": f"p{number}", "round": round_, "annotator": name, "label": label, "seconds": 3.0,
                 "annotated_at": START, "is_gold": False, "batch": 1}
                for (round_, name), label in zip(people, votes, strict=False)
            ]  # fmt: skip
        table = table_of(LABEL_ROWS, rows)
        for row in annotator_report(table, known_truth(table, table_of(DECISIONS, []), {})):
            for name in ("n", "right"):
                found[row["annotator"] + name] += row["checked"][name]
    assert found["cn"] == 0
    for name in ("a", "b"):
        assert found[f"{name}right"] / found[f"{name}n"] == pytest.approx(0.9, abs=0.01)


def brute_alpha(units: list[list[str]]) -> float:
    """α from the definition: all ordered couples, within pairs and over all values."""
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    observed = sum(
        (unit[i] != unit[j]) / (len(unit) - 1)
        for unit in units
        for i in range(len(unit))
        for j in range(len(unit))
        if i != j
    ) / len(values)
    pairs = [(a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i != j]
    return 1 - observed / (sum(a != b for a, b in pairs) / len(pairs))


@pytest.mark.parametrize("seed", range(8))
def test_alpha_and_kappa_against_second_computations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice(LABELS, 60)
    units = [
        [str(t) if rng.random() < 0.8 else str(rng.choice(LABELS)) for _ in range(rng.integers(1, 5))] for t in truth
    ]
    assert krippendorff_alpha(units) == pytest.approx(brute_alpha(units), abs=1e-12)
    one, two = ([str(t) if rng.random() < 0.7 else str(rng.choice(LABELS)) for t in truth] for _ in range(2))
    assert cohen_kappa(one, two) == pytest.approx(cohen_kappa_score(one, two), abs=1e-12)


def test_alpha_of_krippendorffs_own_example() -> None:
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), C: nominal data, four observers, missing."""
    rows = ["123321412...", "12332241 25.3".replace(" ", ""), ".3332342251.", "12332441251."]
    units = [[value for value in column if value != "."] for column in zip(*rows, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_without_overlap_or_variation_is_none() -> None:
    assert krippendorff_alpha([["a"], ["b"]]) is None and krippendorff_alpha([["a", "a"], ["a", "a"]]) is None


def test_agreement_has_kappa_and_alpha_per_round_and_overall() -> None:
    rng = np.random.default_rng(3)
    truth = [str(label) for label in rng.choice(LABELS[:3], 100)]
    table = table_of(LABEL_ROWS, [*work("a", noisy(truth, 0.1, rng)), *work("b", noisy(truth, 0.1, rng))])
    found = agreement_report(table)
    assert found["kappa"] == found["rounds"]["first"]["kappa"] and found["alpha"] == found["rounds"]["first"]["alpha"]
    assert found["alpha"] == pytest.approx(found["kappa"], abs=0.01)
    assert found["rounds"]["double_check"]["alpha"] is None
