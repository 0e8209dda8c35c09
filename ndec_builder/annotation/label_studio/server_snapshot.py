"""What Label Studio held when ndec looked last, kept in the workspace: edits and deletions there show against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.tables import missing_images
from ndec_builder.core.schemas import INCIDENTS, PROJECT_TASKS, conform, table_of
from ndec_builder.core.storage import read_json, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace

Rater = tuple[str, str]  # round, annotator
Row = dict[str, Any]


class Held:
    """Rows of PROJECT_TASKS by project and task. Killed before `write`, the next look finds Label Studio again."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.path = directory, directory / "project_tasks.parquet"
        self._rows: dict[int, dict[int, Row]] = {}
        if self.path.is_file():
            for row in conform(read_table(self.path), PROJECT_TASKS).to_pylist():
                self._rows.setdefault(row["project"], {})[row["task"]] = row

    def project(self, project: int) -> dict[int, Row]:
        """The tasks of a project by their number in Label Studio; to be changed in place."""
        return self._rows.setdefault(project, {})

    def projects_of(self, rater: Rater) -> list[int]:
        """Projects that this annotator was known to have in this round."""
        return [
            number
            for number, rows in self._rows.items()
            if rows and (first := next(iter(rows.values()))) and (first["round"], first["annotator"]) == rater
        ]

    def forget(self, project: int) -> None:
        self._rows.pop(project, None)

    def add(self, rater: Rater, project: int, task: int, pair_id: str | None) -> Row:
        row = {"round": rater[0], "annotator": rater[1], "project": project, "task": task, "pair_id": pair_id}
        return self.project(project).setdefault(task, row | {"annotation": None, "label": None})

    def write(self) -> None:
        rows = [row for project in sorted(self._rows) for _, row in sorted(self._rows[project].items())]
        write_table(self.path, table_of(PROJECT_TASKS, rows))


def read_incidents(directory: Path) -> pa.Table:
    """Everything that was found edited or deleted so far (schema INCIDENTS), oldest first."""
    path = directory / "incidents.parquet"
    return conform(read_table(path), INCIDENTS) if path.is_file() else table_of(INCIDENTS, [])


def record_incidents(directory: Path, rows: Sequence[Row]) -> Counter[str]:
    """Append those that are not known yet; returns how many of each kind were new."""
    known = read_incidents(directory)
    names = [name for name in INCIDENTS.names if name != "seen_at"]
    there = {tuple(row[name] for name in names) for row in known.to_pylist()} if rows else set()
    fresh: list[Row] = []
    for row in rows:
        key = tuple(row.get(name) for name in names)
        if key not in there:
            there.add(key)
            fresh.append(row | {"seen_at": datetime.now(UTC)})
    if fresh:
        write_table(directory / "incidents.parquet", pa.concat_tables([known, table_of(INCIDENTS, fresh)]))
    return Counter(row["kind"] for row in fresh)


def notes(root: Path, split: str) -> list[str]:
    """One line for each kind of trouble that a pull or the page met so far; nothing when all is well."""
    workspace = Workspace(root)
    kinds = Counter(read_incidents(workspace.annotation(split))["kind"].to_pylist())
    lines = [f"{number} × {kind} in Label Studio so far (incidents.parquet)" for kind, number in sorted(kinds.items())]
    if missing := missing_images(workspace):
        lines.append(
            f"{len(missing)} pictures could not be shown, the first: {next(iter(missing))} (missing_images.json)"
        )
    return lines


def gone(rows: Iterable[Row], kind: str) -> list[Row]:
    """Incidents for held rows (or labels) that are not in Label Studio any more."""
    names = ("round", "annotator", "project", "task", "pair_id", "label")
    return [{"kind": kind, **{name: row.get(name) for name in names}} for row in rows]


def handover_file(directory: Path) -> Path:
    """Pairs that are being taken from somebody: {"project", "pair_ids"}. That their tasks vanish is no incident."""
    return directory / "handover.json"


def handed_over(directory: Path) -> set[str]:
    path = handover_file(directory)
    return set(read_json(path)["pair_ids"]) if path.is_file() else set()


def announce_handover(directory: Path, project: int, pair_ids: Iterable[str]) -> None:
    write_json(handover_file(directory), {"project": project, "pair_ids": sorted(pair_ids)})


def end_handover(directory: Path) -> None:
    handover_file(directory).unlink(missing_ok=True)
