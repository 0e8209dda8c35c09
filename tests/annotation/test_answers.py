"""Label Studio's answers → label rows."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ndec_builder.annotation.label_studio.annotations import (
    annotation_state,
    chosen_label,
    newest_annotation,
    update_snapshot,
)
from ndec_builder.annotation.label_studio.label_rows import NewRows, new_rows
from ndec_builder.annotation.label_studio.restored_server import KeptLabels
from ndec_builder.annotation.label_studio.server_snapshot import ServerSnapshot
from ndec_builder.annotation.records.skips import LabelState
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import INCIDENTS, LABEL_ROWS, SKIPS, table_of
from ndec_builder.core.workspace import Workspace

PAIRS = {p: {"pair_id": p, "batch": 1, "is_gold": False, "position": i} for i, p in enumerate("abc")}
NOTHING_KEPT = KeptLabels(*(table_of(schema, []) for schema in (LABEL_ROWS, SKIPS, INCIDENTS)), None)
LOGINS = {7: "ann@x"}
TASK_IDS = itertools.count(1)


def changes_of(found: list[Any], states: dict[str, LabelState], counts: Counter[str]) -> NewRows:
    snapshot, assignee = ServerSnapshot(AnnotationTables(Workspace(Path("nowhere")), "test")), ("first", "ann")
    answers = update_snapshot(found, snapshot, assignee, 4).answers
    return new_rows(answers, PAIRS, states, counts, assignee, 4, LOGINS, NOTHING_KEPT)


def rows_of(found: list[Any], labels: list[dict[str, Any]], counts: Counter[str]) -> list[dict[str, Any]]:
    states = {row["pair_id"]: LabelState(row["label"], 1, False, 4) for row in labels}
    return changes_of(found, states, counts).labels


def choice(*values: str, control: str = "verdict") -> list[dict[str, Any]]:
    return [{"from_name": control, "to_name": "query", "type": "choices", "value": {"choices": list(values)}}]


def answer(number: int, value: str, second: int, cancelled: bool = False) -> dict[str, Any]:
    moment = f"2026-11-23T12:00:{second:02d}.000000Z"
    return {
        "id": number,
        "result": choice(value),
        "updated_at": moment,
        "was_cancelled": cancelled,
        "lead_time": 1.5,
        "completed_by": 7,
    }


def found(pair_id: str, *annotations: dict[str, Any]) -> Any:
    return SimpleNamespace(id=next(TASK_IDS), data={"pair_id": pair_id}, annotations=list(annotations))


def test_the_newest_annotation_counts_and_skips_do_not() -> None:
    counts: Counter[str] = Counter()
    tasks = [
        found("a", answer(1, "unsure", 5), answer(2, "unrelated", 3)),
        found("b", answer(3, "unsure", 5, cancelled=True)),
        found("x", answer(4, "unsure", 5)),
        found("c", {**answer(5, "unsure", 6), "result": choice("maybe")}),
    ]
    rows = rows_of(tasks, [], counts)
    assert [(row["pair_id"], row["label"], row["seconds"]) for row in rows] == [("a", "unsure", 1.5)]
    assert (rows[0]["project"], rows[0]["login"], rows[0]["annotator"]) == (4, "ann@x", "ann")
    assert rows[0]["annotated_at"].isoformat() == "2026-11-23T12:00:05+00:00"
    assert counts == {"new": 1, "newly_skipped": 1, "withdrawn": 0, "foreign": 1, "unreadable": 1}


def test_only_differences_to_the_newest_pulled_label_are_rows() -> None:
    counts: Counter[str] = Counter()
    old = [
        {"pair_id": "a", "label": "unsure"},
        {"pair_id": "a", "label": "unrelated"},
        {"pair_id": "b", "label": "unsure"},
    ]
    tasks = [found("a", answer(1, "unsure", 9)), found("b"), found("c", answer(2, "unrelated", 1))]
    assert [(r["pair_id"], r["label"]) for r in rows_of(tasks, old, counts)] == [
        ("a", "unsure"),
        ("c", "unrelated"),
    ]
    assert (counts["changed"], counts["new"]) == (1, 1)
    again = [*old, {"pair_id": "a", "label": "unsure"}, {"pair_id": "c", "label": "unrelated"}]
    assert rows_of(tasks, again, Counter()) == []


def test_a_duplicate_task_gives_one_row() -> None:
    tasks = [found("a", answer(1, "unsure", 1)), found("a", answer(2, "unrelated", 2))]
    assert [row["label"] for row in rows_of(tasks, [], Counter())] == ["unrelated"]


def test_a_verdict_is_exactly_one_known_choice_of_the_right_control() -> None:
    assert chosen_label(choice("hard_negative")) == "hard_negative"
    assert chosen_label(choice("hard_negative", control="other")) is None
    assert (
        chosen_label([]) is None
        and chosen_label(choice("unsure", "unrelated")) is None
        and chosen_label(choice("maybe")) is None
    )


def test_an_annotation_that_exists_but_is_not_counted_was_not_deleted(tmp_path: Path) -> None:
    snapshot, assignee = ServerSnapshot(AnnotationTables(Workspace(tmp_path), "test")), ("first", "ann")
    for task, pair_id in ((1, "a"), (2, "b")):
        known = snapshot.add_task(assignee, 4, task, pair_id)
        known.annotation, known.label = 10 + task, "unrelated"
    look = update_snapshot([], snapshot, assignee, 4, complete=True, still=lambda annotation: annotation == 11)
    assert [(row["kind"], row["pair_id"]) for row in look.incidents] == [("annotation_deleted", "b")]
    assert [row.annotation for row in snapshot.tasks_of(4).values()] == [11, None]


def test_a_skip_of_a_labelled_pair_withdraws_the_label() -> None:
    counts: Counter[str] = Counter()
    changes = changes_of([found("a", answer(1, "unsure", 9, cancelled=True))], {"a": LabelState("unsure", 2)}, counts)
    (row,) = changes.skips
    assert (row["kind"], row["label"], row["label_rows"], row["annotation"]) == ("skipped", "unsure", 2, 1)
    assert (counts["withdrawn"], changes.labels, changes.incidents) == (1, [], [])


def test_a_known_skip_is_no_new_row() -> None:
    counts: Counter[str] = Counter()
    changes = changes_of([found("a", answer(1, "unsure", 9, cancelled=True))], {"a": LabelState(skipped=True)}, counts)
    assert changes.skips == [] and counts["newly_skipped"] == 0


def test_the_same_label_counts_again_after_it_was_withdrawn() -> None:
    changes = changes_of([found("a", answer(1, "unsure", 9))], {"a": LabelState(None, 1)}, Counter())
    assert [row["label"] for row in changes.labels] == ["unsure"]


def test_a_deleted_label_is_withdrawn_only_in_the_project_that_it_was_given_in() -> None:
    states = {"a": LabelState("unsure", 1, False, 4), "b": LabelState("unsure", 1, False, 3)}
    changes = changes_of([found("a"), found("b")], states, Counter())
    assert [(row["pair_id"], row["kind"]) for row in changes.skips] == [("a", "deleted")]


def test_a_correction_is_newer_than_what_was_known_even_if_the_clock_went_back() -> None:
    known = [answer(1, "unsure", 40), answer(2, "unrelated", 50)]
    corrected = [known[0], answer(2, "hard_negative", 10)]  # forty seconds "earlier"
    chosen = newest_annotation(corrected, annotation_state(known), 2)
    assert chosen is not None and chosen["id"] == 2
    again = newest_annotation(corrected, annotation_state(corrected), 2)
    assert again is not None and again["id"] == 2  # also when nothing is new
