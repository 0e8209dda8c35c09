"""Label Studio's answers → label rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ndec_builder.annotation.label_studio.annotations import chosen_label, new_labels, update_snapshot
from ndec_builder.annotation.label_studio.server_snapshot import ServerSnapshot
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.workspace import Workspace

PAIRS = {p: {"pair_id": p, "batch": 1, "is_gold": False, "position": i} for i, p in enumerate("abc")}
LOGINS = {7: "ann@x"}


def rows_of(found: list[Any], labels: list[dict[str, Any]], counts: Counter[str]) -> list[dict[str, Any]]:
    return new_labels(found, PAIRS, labels, counts, ("first", "ann"), 4, LOGINS)[0]


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
    return SimpleNamespace(data={"pair_id": pair_id}, annotations=list(annotations))


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
    assert counts == {"new": 1, "skipped": 1, "foreign": 1, "unreadable": 1}


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
        snapshot.add_task(assignee, 4, task, pair_id).update(annotation=10 + task, label="unrelated")
    look = update_snapshot([], snapshot, assignee, 4, complete=True, still=lambda annotation: annotation == 11)
    assert [(row["kind"], row["pair_id"]) for row in look.incidents] == [("annotation_deleted", "b")]
    assert [row["annotation"] for row in snapshot.tasks_of(4).values()] == [11, None]
