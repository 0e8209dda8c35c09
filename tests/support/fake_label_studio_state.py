"""What the fake Label Studio stores: projects, tasks and annotations."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
_Row = dict[str, Any]


class StoredState:
    """The data, and the clock that stamps its changes. offset: seconds by which it is wrong; None: the real time."""

    def __init__(self) -> None:
        self.data = empty_state()
        self.offset: float | None = 0.0

    def annotate(self, task: _Row, choice: str | None, offset: float = 0.0) -> None:
        result = {"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": [choice]}}
        notes, now = task["annotations"], self.now(offset)
        if not notes:
            note = {"id": self.number("annotation"), "task": task["id"], "project": task["project"], "lead_time": 1.0}
            notes.append(note | {"completed_by": 1, "created_at": now, "updated_by": None, "ground_truth": False})
        notes[0] |= {"result": [] if choice is None else [result], "was_cancelled": choice is None, "updated_at": now}
        task["updated_at"] = now

    def now(self, offset: float = 0.0) -> str:
        if self.offset is None:
            return datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.data["clock"] += 1
        return (EPOCH + timedelta(seconds=self.data["clock"] + self.offset + offset)).isoformat().replace("+00:00", "Z")

    def number(self, kind: str) -> int:
        self.data["last"][kind] += 1
        return int(self.data["last"][kind])

    def tasks_of(self, project: int) -> list[_Row]:
        return [task for _, task in sorted(self.data["tasks"].items()) if task["project"] == project]

    def project(self, number: int) -> _Row:
        tasks = self.tasks_of(number)
        counts = {"task_number": len(tasks), "num_tasks_with_annotations": sum(labels(task) > 0 for task in tasks)}
        return self.data["projects"][number] | counts


def empty_state() -> _Row:
    return {"clock": 0, "last": {"project": 0, "task": 0, "annotation": 0}, "projects": {}, "tasks": {}}


def labels(task: _Row) -> int:
    return sum(not note["was_cancelled"] for note in task["annotations"])


def state_of_database(path: Path) -> _Row:
    """The projects, tasks and annotations of Label Studio's own database (SQLite), as `reset` takes them."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        projects, tasks, notes = (
            [dict(row) for row in database.execute(f"SELECT * FROM {name} ORDER BY id")]
            for name in ("project", "task", "task_completion")
        )
    state = empty_state() | {"clock": 60 * 86_400}  # later than all that is stored
    for kind, rows in (("project", projects), ("task", tasks), ("annotation", notes)):
        state["last"][kind] = max((row["id"] for row in rows), default=0)
    names = ("id", "title", "description", "label_config")
    state["projects"] = {row["id"]: {name: row[name] for name in names} for row in projects}
    for row in tasks:
        task = {"id": row["id"], "project": row["project_id"], "data": json.loads(row["data"]), "annotations": []}
        state["tasks"][row["id"]] = task | {"updated_at": _stored_time(row["updated_at"])}
    for row in notes:
        note = {name: row[name] for name in ("id", "lead_time")} | {"result": json.loads(row["result"])}
        note |= {"task": row["task_id"], "project": row["project_id"], "was_cancelled": bool(row["was_cancelled"])}
        note |= {"completed_by": row["completed_by_id"], "updated_by": row["updated_by_id"], "ground_truth": False}
        note |= {name: _stored_time(row[name]) for name in ("created_at", "updated_at")}
        state["tasks"][row["task_id"]]["annotations"].append(note)
    return state


def _stored_time(text: str) -> str:
    return f"{text.replace(' ', 'T')}Z"
