"""Moves open pairs between annotators' projects: for `ndec annotate leave`, and when a push names new annotators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ndec_builder.annotation.assignment.queues import TaskRow
from ndec_builder.annotation.assignment.reassign import reassign, rows_for_newcomers
from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.connection import NO_RETRY, Connection, explain_errors
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_studio.server_snapshot import Assignee, ServerSnapshot
from ndec_builder.annotation.label_tables import keys
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import say

_CHUNK = 2000  # tasks deleted in one request


def share_with_newcomers(config: PushConfig, tables: AnnotationTables, connection: Connection) -> None:
    """Move open pairs of the current annotators to those who are new to the round."""
    snapshot, rows = ServerSnapshot(tables), tables.tasks.to_pylist()
    people = list(dict.fromkeys([r["annotator"] for r in rows if r["round"] == config.round] + list(config.annotators)))
    known = [name for name in people if snapshot.projects_of((config.round, name))]
    newcomers = [name for name in config.annotators if name not in known]
    if not known or not newcomers:
        return
    given = rows_for_newcomers(rows, set(keys(tables.labels)), config.round, newcomers, people)
    for donor, chosen in given.items():
        assignee = (config.round, donor)
        free = withdraw_tasks(tables, connection, assignee, chosen)
        pull_labels(tables, connection)
        labelled = set(keys(tables.labels))
        free = [row for row in free if (row["pair_id"], *assignee) not in labelled]
        result = reassign(tables.tasks, free, newcomers, labelled)
        tables.write("tasks", result.tasks)
        say(f"{result.moved} open pairs move from {donor} to {', '.join(newcomers)}")


def withdraw_tasks(
    tables: AnnotationTables, connection: Connection, assignee: Assignee, rows: Sequence[TaskRow]
) -> list[TaskRow]:
    """Delete these open pairs from an annotator's project; returns the rows that have no task there now.

    Only tasks without a label are deleted, so a pair that was labelled in the meantime stays and is not returned.
    """
    client = connection.client()
    with explain_errors(connection, "looking for ndec's projects"):
        project = projects.find_projects(client).get(projects.project_key(tables.workspace, tables.split, *assignee))
    if project is None or not rows:
        return list(rows)
    snapshot = ServerSnapshot(tables)
    wanted = {row["pair_id"] for row in rows}
    server_snapshot.announce_handover(tables.directory, project.id, wanted)
    numbers = [number for number, row in snapshot.tasks_of(project.id).items() if row["pair_id"] in wanted]
    for start in range(0, len(numbers), _CHUNK):
        with explain_errors(connection, "withdrawing open pairs"):
            delete_open_tasks(client, project.id, numbers[start : start + _CHUNK])
    left = set()
    with explain_errors(connection, "listing tasks"):
        for task in client.tasks.list(project=project.id, page_size=1000, include="id,data"):
            left.add(task.data.get("pair_id"))
            snapshot.add_task(assignee, project.id, task.id, task.data.get("pair_id"))
    known = snapshot.tasks_of(project.id)
    for number in [number for number, row in known.items() if row["pair_id"] in wanted - left]:
        del known[number]
    snapshot.write()
    return [row for row in rows if row["pair_id"] not in left]


def delete_open_tasks(client: Any, project: int, numbers: Sequence[int]) -> None:
    """Delete the tasks that have no label, in one action of Label Studio's data manager."""
    item = {"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number", "value": 0}
    client.actions.create(
        id="delete_tasks",
        project=project,
        filters={"conjunction": "and", "items": [item]},
        selected_items={"all": False, "included": list(numbers)},
        request_options=NO_RETRY,
    )
