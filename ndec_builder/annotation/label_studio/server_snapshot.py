"""The state of Label Studio at the last pull or push, kept in the workspace to detect edits and deletions there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.tables import AnnotationTables, missing_images
from ndec_builder.core.addresses import without_credentials
from ndec_builder.core.schemas import INCIDENTS, PROJECT_TASKS, table_of
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace

Assignee = tuple[str, str]  # round, annotator
_ROWS_AT_ONCE = 10_000
FULL_EVERY, FULL_EVERY_PULLS = timedelta(days=1), 20
_Row = dict[str, Any]


class ServerSnapshot:
    """Rows of PROJECT_TASKS by project and task. If a process is killed before `write`, the next sync rebuilds them.

    Rows become Python objects when `tasks_of` opens a project, and a table again with `close`.
    """

    def __init__(self, tables: AnnotationTables) -> None:
        self.tables = tables
        self._closed: dict[int, pa.Table] = {}
        self._open: dict[int, dict[int, _Row]] = {}
        table = tables.project_tasks.sort_by("project")
        start = 0
        for count in pc.value_counts(table["project"]).to_pylist():  # in the order of the table
            self._closed[count["values"]] = table.slice(start, count["counts"])
            start += count["counts"]

    def tasks_of(self, project: int) -> dict[int, _Row]:
        """The tasks of a project by their id in Label Studio. Callers change this dict in place."""
        if project not in self._open:
            table = self._closed.pop(project, table_of(PROJECT_TASKS, ()))
            self._open[project] = {
                row["task"]: row for batch in table.to_batches(_ROWS_AT_ONCE) for row in batch.to_pylist()
            }
        return self._open[project]

    def close(self, project: int) -> None:
        """Keep the rows of a project as a table, which takes a tenth of the memory."""
        if rows := self._open.pop(project, None):
            self._closed[project] = _sorted_table(rows)

    def projects_of(self, assignee: Assignee) -> list[int]:
        """Ids of the projects that this annotator had in this round at the last check."""
        first = {number: table.slice(0, 1).to_pylist()[0] for number, table in self._closed.items()}
        first |= {number: next(iter(rows.values())) for number, rows in self._open.items() if rows}
        return [number for number, row in sorted(first.items()) if (row["round"], row["annotator"]) == assignee]

    def forget_project(self, project: int) -> None:
        self._closed.pop(project, None)
        self._open.pop(project, None)

    def add_task(self, assignee: Assignee, project: int, task: int, pair_id: str | None) -> _Row:
        row = {"round": assignee[0], "annotator": assignee[1], "project": project, "task": task, "pair_id": pair_id}
        return self.tasks_of(project).setdefault(task, row | {"annotation": None, "label": None, "state": ""})

    def write(self) -> None:
        for project in [*self._open]:
            self.close(project)
        parts = [table for _, table in sorted(self._closed.items())]
        self.tables.write("project_tasks", pa.concat_tables([table_of(PROJECT_TASKS, ()), *parts]))


def _sorted_table(rows: Mapping[int, _Row]) -> pa.Table:
    """Rows of PROJECT_TASKS by task."""
    numbers = sorted(rows)
    starts = range(0, len(numbers), _ROWS_AT_ONCE)
    chunks = ([rows[task] for task in numbers[start : start + _ROWS_AT_ONCE]] for start in starts)
    return pa.concat_tables([table_of(PROJECT_TASKS, chunk) for chunk in chunks])


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
    if missing := missing_images(workspace):
        lines.append(
            f"{len(missing)} pictures could not be shown, the first: {next(iter(missing))} (missing_images.json)"
        )
    return lines


def incidents_for(rows: Iterable[_Row], kind: str) -> list[_Row]:
    """Incidents for rows of the snapshot (or labels) that no longer exist in Label Studio."""
    names = ("round", "annotator", "project", "task", "pair_id", "label")
    return [{"kind": kind, **{name: row.get(name) for name in names}} for row in rows]


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
