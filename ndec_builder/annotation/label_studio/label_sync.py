"""Reads new and changed annotations from Label Studio and appends them to labels.parquet and incidents.parquet."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.annotations import (
    ProjectChanges,
    annotation_exists,
    changed_tasks,
    labelled_tasks,
    new_labels,
    update_snapshot,
)
from ndec_builder.annotation.label_studio.connection import Connection, explain_errors
from ndec_builder.annotation.label_studio.server_snapshot import Assignee, ServerSnapshot
from ndec_builder.annotation.label_studio.task_sync import relist_tasks, task_data
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LABEL_ROWS, table_of
from ndec_builder.core.workspace import Workspace

_Row = dict[str, Any]


def pull_labels(tables: AnnotationTables, connection: Connection) -> tuple[Counter[str], list[NdecError]]:
    """Append new labels to labels.parquet and new incidents to incidents.parquet.

    Returns (counts, an error for each deleted project). Labels are written before the snapshot: if the process is
    killed between the two, the next pull reads the same annotations again and adds none twice.
    """
    workspace, split, client = tables.workspace, tables.split, connection.client()
    labels, snapshot, counts = tables.labels, ServerSnapshot(tables), Counter[str]()
    rows: list[_Row] = []
    incidents: list[_Row] = []
    deleted: list[NdecError] = []
    pairs: dict[str, _Row] = {}
    own: dict[Assignee, dict[str, _Row]] = {}
    for row in tables.require_tasks().to_pylist():
        pairs.setdefault(row["pair_id"], row)
        own.setdefault((row["round"], row["annotator"]), {})[row["pair_id"]] = row
    given: dict[Assignee, list[_Row]] = {}
    for row in labels.to_pylist():
        given.setdefault((row["round"], row["annotator"]), []).append(row)
    with explain_errors(connection, "looking for ndec's projects"):
        found_projects = projects.find_projects(client)
        logins = {user.id: str(user.email or "") for user in client.users.list()}
    for assignee in sorted(own):
        title = projects.project_title(workspace, split, *assignee)
        project = found_projects.get(projects.project_key(workspace, split, *assignee))
        for number in snapshot.projects_of(assignee):
            if project is None or number != project.id:
                row = {"round": assignee[0], "annotator": assignee[1], "project": number, "detail": title}
                incidents += server_snapshot.incidents_for([row], "project_deleted")
                snapshot.forget_project(number)
        if project is None:
            deleted.append(projects.deleted_project_error(title, connection.url, split, assignee[0]))
            continue
        known = ChainMap(own[assignee], pairs)
        with explain_errors(connection, f"pulling the project {title!r}"):
            found, page = _fetch_changes(client, connection, snapshot, assignee, project, given.get(assignee, []))
            incidents += found.incidents + _changed_project(workspace, split, assignee, project, page)
            incidents += edited_tasks(found.tasks, known, assignee, project.id)
            more, changed = new_labels(
                found.tasks, known, given.get(assignee, []), counts, assignee, project.id, logins
            )
            rows, incidents = rows + more, incidents + changed
        projects.report_renamed(project, title)
    rows.sort(key=lambda row: (row["annotated_at"], row["round"], row["annotator"], row["pair_id"]))
    tables.write("labels", pa.concat_tables([labels, table_of(LABEL_ROWS, rows)]))
    counts["labels"] = labels.num_rows + len(rows)
    fresh = server_snapshot.record_incidents(tables, incidents)
    counts["withdrawn"] = fresh["annotation_deleted"]
    counts["incidents"] = sum(fresh.values())
    path = tables.directory / "incidents.parquet"
    for kind, number in sorted(fresh.items()):
        say(f"{number} × {kind} in Label Studio since the last check; recorded in {path}")
    snapshot.write()
    return counts, deleted


def _fetch_changes(
    client: Any,
    connection: Connection,
    snapshot: ServerSnapshot,
    assignee: Assignee,
    project: projects.Project,
    labels: list[_Row],
) -> tuple[ProjectChanges, str]:
    """Fetch the tasks changed since this project's last label; returns them, and the labelling page it uses.

    The number of labelled tasks in the snapshot must lie between Label Studio's own counts before and after the
    request. If it does not, a label was deleted without a trace (or a clock was set back): then all are compared.
    """
    if len(snapshot.tasks_of(project.id)) != project.tasks:
        relist_tasks(client, connection, snapshot, assignee, project.id)  # records deleted tasks as incidents
    since = max((row["annotated_at"] for row in labels if row["project"] == project.id), default=None)
    found = ProjectChanges()
    if project.annotated or labels:
        found = update_snapshot(changed_tasks(client, project.id, since), snapshot, assignee, project.id)
    known = sum(row["annotation"] is not None for row in snapshot.tasks_of(project.id).values())
    after, page = projects.refetch(client, project.id)
    if not project.annotated <= known <= after:
        answered, still = labelled_tasks(client, project.id), partial(annotation_exists, client)
        found.add(update_snapshot(answered, snapshot, assignee, project.id, complete=True, still=still))
    return found, page


def edited_tasks(tasks: list[Any], pairs: Mapping[str, _Row], assignee: Assignee, project: int) -> list[_Row]:
    """Incidents for tasks whose picture addresses are not those that ndec sent."""
    incidents = []
    for task in tasks:
        row = pairs.get(task.data.get("pair_id"))
        if row is None:
            continue
        expected = task_data("", row)
        for name in ("query", "reference"):
            if not str(task.data.get(name, "")).endswith(expected[name]):
                detail = f"{name}: {task.data.get(name)}"
                base = {"round": assignee[0], "annotator": assignee[1], "project": project, "task": task.id}
                incidents.append(base | {"kind": "task_edited", "pair_id": row["pair_id"], "detail": detail})
    return incidents


def _changed_project(
    workspace: Workspace, split: str, assignee: Assignee, project: projects.Project, page: str
) -> list[_Row]:
    """Incidents for a project that was renamed or whose labelling page was edited."""
    row = {"round": assignee[0], "annotator": assignee[1], "project": project.id}
    incidents = []
    if project.found_title != projects.project_title(workspace, split, *assignee):
        incidents.append(row | {"kind": "project_renamed", "detail": project.found_title})
    if not any(projects.same_page(page, projects.labelling_page(hints)) for hints in (False, True)):
        incidents.append(row | {"kind": "project_edited", "detail": "the labelling page was edited"})
    return incidents
