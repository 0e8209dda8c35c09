"""The state of Label Studio at the last pull or push, kept in the workspace to detect edits and deletions there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.label_tables import compact_schema, keys
from ndec_builder.annotation.records.missing_images import missing_line
from ndec_builder.annotation.records.pictures import pair_of
from ndec_builder.annotation.records.table_store import StoredTable, TableStore, write_tables
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.addresses import without_credentials
from ndec_builder.core.schemas import INCIDENTS, PROJECT_TASKS, table_of
from ndec_builder.core.storage import read_json, read_table, write_json
from ndec_builder.core.workspace import Workspace

Assignee = tuple[str, str]  # round, annotator
_ROWS_AT_ONCE = 10_000
FULL_EVERY, FULL_EVERY_PULLS = timedelta(days=1), 20
_Row = dict[str, Any]


@dataclass(slots=True)
class KnownTask:
    """A row of PROJECT_TASKS: a task of Label Studio at the last check. The fields are in the order of the columns."""

    round: str
    annotator: str
    project: int
    task: int
    pair_id: str | None  # None for a task added by hand; in memory the question (records/pictures.py)
    annotation: int | None = None  # the one that counts; None: the task is open
    label: str | None = None
    state: str | None = ""  # ids and change times of all annotations
    pictures: str | None = None  # tag of the bytes that it was made for


class ServerSnapshot:
    """KnownTasks by project and task. If a process is killed before `write`, the next sync rebuilds them.

    Rows become Python objects when `tasks_of` opens a project, and a table in a file again with `close`. Compact tables
    never hold those of all projects.
    """

    def __init__(self, tables: AnnotationTables) -> None:
        self.tables = tables
        self._store = TableStore()
        self._closed: dict[int, StoredTable] = {}
        self._open: dict[int, dict[int, KnownTask]] = {}
        self._assignees: dict[int, Assignee] = {}
        self._schema = compact_schema(PROJECT_TASKS) if tables.compact else PROJECT_TASKS
        for number in self._projects():
            own = self._rows_of(number)
            self._closed[number] = self._store.put(own)
            self._assignees[number] = next(keys(own, "round", "annotator"))

    def _projects(self) -> list[int]:
        path = self.tables.directory / "project_tasks.parquet"
        if not self.tables.compact:
            column = self.tables.project_tasks["project"]
        elif not path.is_file():
            return []
        else:
            column = read_table(path, ["project"])["project"]
        return sorted(pc.unique(column).to_pylist())

    def _rows_of(self, project: int) -> pa.Table:
        """The stored rows of a project. The file has them side by side, so few of its row groups are read."""
        if self.tables.compact:
            return self.tables.read(
                "project_tasks", PROJECT_TASKS, added=("state", "pictures"), where=("project", project)
            )
        return self.tables.project_tasks.filter(pc.field("project") == project)

    def tasks_of(self, project: int) -> dict[int, KnownTask]:
        """The tasks of a project by their id in Label Studio. Callers change this dict in place."""
        if project not in self._open:
            stored = self._closed.pop(project, None)
            table = self._schema.empty_table() if stored is None else self._store.get(stored)
            rows = self._open[project] = {}
            shared: dict[Any, Any] = {}  # one object for equal values
            for row in keys(table, *PROJECT_TASKS.names):
                known = rows[row[3]] = KnownTask(*row)
                known.pair_id = self.question(known.pair_id, known.pictures)
                for name in ("round", "annotator", "project", "label"):
                    value = getattr(known, name)
                    setattr(known, name, shared.setdefault(value, value))
        return self._open[project]

    def close(self, project: int) -> None:
        """Keep the rows of a project outside memory."""
        if rows := self._open.pop(project, None):
            self._closed[project] = self._store.put(self._table(rows))

    def _table(self, rows: Mapping[int, KnownTask]) -> pa.Table:
        """Rows of PROJECT_TASKS by task."""
        numbers, schema = sorted(rows), self._schema
        starts = range(0, len(numbers), _ROWS_AT_ONCE)
        chunks = ([rows[task] for task in numbers[start : start + _ROWS_AT_ONCE]] for start in starts)
        columns = ([[_stored(row, name) for row in chunk] for name in schema.names] for chunk in chunks)
        return pa.concat_tables([pa.table(values, schema=schema) for values in columns])

    def question(self, pair_id: str | None, pictures: str | None) -> str | None:
        """The name of what a task with this pair and this tag asks; None if it names no pair."""
        return None if pair_id is None else self.tables.shown.question(pair_id, pictures)

    def projects_of(self, assignee: Assignee) -> list[int]:
        """Ids of the projects that this annotator had in this round at the last check."""
        known = sorted({*self._closed, *(number for number, rows in self._open.items() if rows)})
        return [number for number in known if self._assignees[number] == assignee]

    def forget_project(self, project: int) -> None:
        self._closed.pop(project, None)
        self._open.pop(project, None)

    def add_task(
        self, assignee: Assignee, project: int, task: int, question: str | None, pictures: str | None = None
    ) -> KnownTask:
        """The task of this id; a new one is added."""
        rows = self.tasks_of(project)
        if task not in rows:
            self._assignees[project] = assignee
            rows[task] = KnownTask(*assignee, project, task, question, pictures=pictures)
        return rows[task]

    def write(self) -> None:
        for project in [*self._open]:
            self.close(project)
        parts = (self._store.get(stored) for _, stored in sorted(self._closed.items()))
        if self.tables.compact:
            write_tables(self.tables.directory / "project_tasks.parquet", self._schema, parts)
        else:
            self.tables.write("project_tasks", pa.concat_tables([self._schema.empty_table(), *parts]))


class FullComparisons:
    """When all tasks of a project were last compared, and how many pulls have read only the changed ones since.

    Label Studio's change times cannot be relied on alone: its clock may be set back. So everything is compared on the
    first pull, after a day, after 20 pulls, and while the newest stored label is in the future.
    """

    def __init__(self, directory: Path, everything: bool = False) -> None:
        self.path, self.everything = directory / "full-comparisons.json", everything
        self.known: dict[str, _Row] = read_json(self.path) if self.path.is_file() else {}

    def due(self, project: int, newest: datetime | None) -> bool:
        """Whether all tasks of this project are to be compared now. Counts this pull."""
        entry = self.known.setdefault(str(project), {"at": "", "pulls": 0})
        entry["pulls"] += 1
        if self.everything or not entry["at"] or entry["pulls"] > FULL_EVERY_PULLS:
            return True
        now = datetime.now(UTC)
        age = now - datetime.fromisoformat(entry["at"])
        return not timedelta(0) <= age <= FULL_EVERY or (newest is not None and newest > now)

    def done(self, project: int) -> None:
        """All tasks of the project were compared."""
        self.known[str(project)] |= {"at": datetime.now(UTC).isoformat(), "pulls": 0}

    def counted(self, project: int, found: int | None) -> int | None:
        """The number in a project's description: 0 if it has none but had one.

        None if it never had one, or if it is that of this workspace's last pull, which may have been interrupted.
        """
        known = self.known.setdefault(str(project), {"at": "", "pulls": 0})
        if found is not None and found == known.get("announced"):
            return None
        return 0 if found is None and known.get("counted") else found

    def announce(self, project: int, number: int) -> None:
        """This number is about to be written into the project's description."""
        self.known[str(project)]["announced"] = number

    def is_counted(self, project: int) -> None:
        """The project's description now has a number."""
        self.known[str(project)]["counted"] = True

    def write(self) -> None:
        write_json(self.path, self.known)


def record_incidents(tables: AnnotationTables, rows: Sequence[_Row]) -> Counter[str]:
    """Append the incidents that are not recorded yet; returns how many of each kind were new."""
    known = tables.incidents
    names = [name for name in INCIDENTS.names if name != "seen_at"]
    seen = {tuple(row[name] for name in names) for row in known.to_pylist()} if rows else set()
    fresh: list[_Row] = []
    for found in rows:
        row = {name: without_credentials(value) if isinstance(value, str) else value for name, value in found.items()}
        key = tuple(row.get(name) for name in names)
        if key not in seen:
            seen.add(key)
            fresh.append(row | {"seen_at": datetime.now(UTC)})
    if fresh:
        tables.write("incidents", pa.concat_tables([known, table_of(INCIDENTS, fresh)]))
    return Counter(row["kind"] for row in fresh)


def trouble_lines(root: Path, split: str) -> list[str]:
    """One line for each kind of problem found by a pull or the page so far; empty when there was none."""
    workspace = Workspace(root)
    kinds = Counter(AnnotationTables(workspace, split).incidents["kind"].to_pylist())
    lines = [f"{number} × {kind} in Label Studio so far (incidents.parquet)" for kind, number in sorted(kinds.items())]
    if line := missing_line(workspace):
        lines.append(line)
    return lines


def incidents_for(tasks: Iterable[KnownTask], kind: str) -> list[_Row]:
    """Incidents for tasks, or labels of tasks, that no longer exist in Label Studio."""
    names = ("round", "annotator", "project", "task", "pair_id", "label")
    return [{"kind": kind, **{name: _stored(task, name) for name in names}} for task in tasks]


def _stored(task: KnownTask, name: str) -> Any:
    """A field as tables hold it: the pair instead of the question."""
    value = getattr(task, name)
    return pair_of(value) if name == "pair_id" and value is not None else value


def deleted_project(assignee: Assignee, project: int) -> _Row:
    """The incident for a project that no longer exists in Label Studio."""
    return {"kind": "project_deleted", "round": assignee[0], "annotator": assignee[1], "project": project}


def handover_file(directory: Path) -> Path:
    """Pairs being withdrawn from a project: {"project", "pair_ids"}. Their missing tasks are not incidents."""
    return directory / "handover.json"


def handed_over(directory: Path) -> set[str]:
    path = handover_file(directory)
    return set(read_json(path)["pair_ids"]) if path.is_file() else set()


def announce_handover(directory: Path, project: int, pair_ids: Iterable[str]) -> None:
    write_json(handover_file(directory), {"project": project, "pair_ids": sorted(pair_ids)})


def end_handover(directory: Path) -> None:
    handover_file(directory).unlink(missing_ok=True)
