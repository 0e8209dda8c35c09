"""Changed annotations of Label Studio → rows of labels.parquet and incidents."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.annotations import (
    Found,
    changed_tasks,
    compare,
    is_there,
    labelled_tasks,
    new_labels,
)
from ndec_builder.annotation.label_studio.connection import Connection, talking
from ndec_builder.annotation.label_studio.server_snapshot import Held
from ndec_builder.annotation.label_studio.task_sync import relist, task_data
from ndec_builder.annotation.tables import read_labels, read_tasks
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LABEL_ROWS, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace

Row = dict[str, Any]


def pull_labels(workspace: Workspace, split: str, connection: Connection) -> tuple[Counter[str], list[NdecError]]:
    """Append what is new to labels.parquet and to incidents.parquet; (counts, an error for each project that is gone).

    The labels are written before what ndec knows of Label Studio: killed between the two, the next pull sees the same
    answers again and adds none twice.
    """
    directory, client = workspace.annotation(split), connection.client()
    labels, holds, counts = read_labels(workspace, split), Held(directory), Counter[str]()
    rows: list[Row] = []
    incidents: list[Row] = []
    lost: list[NdecError] = []
    pairs: dict[str, Row] = {}
    own: dict[server_snapshot.Rater, dict[str, Row]] = {}
    for row in read_tasks(workspace, split).to_pylist():
        pairs.setdefault(row["pair_id"], row)
        own.setdefault((row["round"], row["annotator"]), {})[row["pair_id"]] = row
    given: dict[server_snapshot.Rater, list[Row]] = {}
    for row in labels.to_pylist():
        given.setdefault((row["round"], row["annotator"]), []).append(row)
    with talking(connection, "looking for ndec's projects"):
        there = projects.find_projects(client)
        logins = {user.id: str(user.email or "") for user in client.users.list()}
    for rater in sorted(own):
        title = projects.project_title(workspace, split, *rater)
        project = there.get(projects.project_key(workspace, split, *rater))
        for number in holds.projects_of(rater):
            if project is None or number != project.id:
                row = {"round": rater[0], "annotator": rater[1], "project": number, "detail": title}
                incidents += server_snapshot.gone([row], "project_deleted")
                holds.forget(number)
        if project is None:
            lost.append(projects.gone(title, connection.url, split, rater[0]))
            continue
        known = ChainMap(own[rater], pairs)
        with talking(connection, f"pulling the project {title!r}"):
            found, page = _look(client, connection, holds, rater, project, given.get(rater, []))
            incidents += found.incidents + _changed_project(workspace, split, rater, project, page)
            incidents += edited_tasks(found.tasks, known, rater, project.id)
            more, changed = new_labels(found.tasks, known, given.get(rater, []), counts, rater, project.id, logins)
            rows, incidents = rows + more, incidents + changed
        projects.report_renamed(project, title)
    rows.sort(key=lambda row: (row["annotated_at"], row["round"], row["annotator"], row["pair_id"]))
    write_table(directory / "labels.parquet", pa.concat_tables([labels, table_of(LABEL_ROWS, rows)]))
    counts["labels"] = labels.num_rows + len(rows)
    fresh = server_snapshot.record_incidents(directory, incidents)
    counts["withdrawn"] = fresh["annotation_deleted"]
    counts["incidents"] = sum(fresh.values())
    for kind, number in sorted(fresh.items()):
        say(f"{number} × {kind} in Label Studio since the last look; kept in {directory / 'incidents.parquet'}")
    holds.write()
    return counts, lost


def _look(
    client: Any,
    connection: Connection,
    holds: Held,
    rater: server_snapshot.Rater,
    project: projects.Project,
    labels: list[Row],
) -> tuple[Found, str]:
    """(The tasks touched since the last label of this project and what is gone from it, the project's page.)

    The number of labelled tasks that Label Studio counts before and after the look has to enclose the number known
    after it; else something was deleted without a trace (or a clock was set back), and all of them are compared.
    """
    if len(holds.project(project.id)) != project.tasks:
        relist(client, connection, holds, rater, project.id)  # records the tasks that are gone
    since = max((row["annotated_at"] for row in labels if row["project"] == project.id), default=None)
    found = Found()
    if project.annotated or labels:
        found = compare(changed_tasks(client, project.id, since), holds, rater, project.id)
    known = sum(row["annotation"] is not None for row in holds.project(project.id).values())
    after, page = projects.look_again(client, project.id)
    if not project.annotated <= known <= after:
        answered, still = labelled_tasks(client, project.id), partial(is_there, client)
        found.add(compare(answered, holds, rater, project.id, complete=True, still=still))
    return found, page


def edited_tasks(tasks: list[Any], pairs: Mapping[str, Row], rater: server_snapshot.Rater, project: int) -> list[Row]:
    """Incidents for tasks whose pictures are others than those that ndec sent."""
    incidents = []
    for task in tasks:
        row = pairs.get(task.data.get("pair_id"))
        if row is None:
            continue
        expected = task_data("", row)
        for name in ("query", "reference"):
            if not str(task.data.get(name, "")).endswith(expected[name]):
                detail = f"{name}: {task.data.get(name)}"
                base = {"round": rater[0], "annotator": rater[1], "project": project, "task": task.id}
                incidents.append(base | {"kind": "task_edited", "pair_id": row["pair_id"], "detail": detail})
    return incidents


def _changed_project(
    workspace: Workspace, split: str, rater: server_snapshot.Rater, project: projects.Project, page: str
) -> list[Row]:
    """Incidents for a project that was renamed, or whose page was changed."""
    row = {"round": rater[0], "annotator": rater[1], "project": project.id}
    incidents = []
    if project.found_title != projects.project_title(workspace, split, *rater):
        incidents.append(row | {"kind": "project_renamed", "detail": project.found_title})
    if not any(projects.same_page(page, projects.page(hints)) for hints in (False, True)):
        incidents.append(row | {"kind": "project_edited", "detail": "the labelling page is not ndec's any more"})
    return incidents
