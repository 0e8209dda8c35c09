"""`ndec annotate leave`, and newcomers at a push: open pairs move from one person's project to those of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.assignment.reassign import Key, Row, for_newcomers, spread
from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.connection import NO_RETRY, Connection, talking
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_studio.server_snapshot import Held
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import read_labels
from ndec_builder.core.console import say
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace

_CHUNK = 2000  # tasks deleted in one request


def share_with_newcomers(config: PushConfig, workspace: Workspace, connection: Connection, tasks: pa.Table) -> pa.Table:
    """Open pairs of the others for people who are new to the round; returns the tasks table (written)."""
    directory = workspace.annotation(config.split)
    holds, rows = Held(directory), tasks.to_pylist()
    people = list(dict.fromkeys([r["annotator"] for r in rows if r["round"] == config.round] + list(config.annotators)))
    known = [name for name in people if holds.projects_of((config.round, name))]
    newcomers = [name for name in config.annotators if name not in known]
    if not known or not newcomers:
        return tasks
    given = for_newcomers(rows, _labelled(workspace, config.split), config.round, newcomers, people)
    for donor, chosen in given.items():
        rater = (config.round, donor)
        free = take_back(workspace, config.split, connection, rater, chosen)
        pull_labels(workspace, config.split, connection)
        labelled = _labelled(workspace, config.split)
        free = [row for row in free if (row["pair_id"], *rater) not in labelled]
        result = spread(tasks, free, newcomers, labelled)
        tasks = result.tasks
        write_table(directory / "tasks.parquet", tasks)
        say(f"{result.moved} open pairs move from {donor} to {', '.join(newcomers)}")
    return tasks


def take_back(
    workspace: Workspace, split: str, connection: Connection, rater: server_snapshot.Rater, rows: Sequence[Row]
) -> list[Row]:
    """Delete these open pairs from somebody's project; returns the rows whose task is not there (any more).

    Label Studio is told to delete only tasks without a label, so what was labelled meanwhile stays and is not returned.
    """
    directory, client = workspace.annotation(split), connection.client()
    with talking(connection, "looking for ndec's projects"):
        project = projects.find_projects(client).get(projects.project_key(workspace, split, *rater))
    if project is None or not rows:
        return list(rows)
    holds = Held(directory)
    wanted = {row["pair_id"] for row in rows}
    server_snapshot.announce_handover(directory, project.id, wanted)
    numbers = [number for number, row in holds.project(project.id).items() if row["pair_id"] in wanted]
    for start in range(0, len(numbers), _CHUNK):
        with talking(connection, "taking open pairs back"):
            delete_open_tasks(client, project.id, numbers[start : start + _CHUNK])
    left = set()
    with talking(connection, "listing tasks"):
        for task in client.tasks.list(project=project.id, page_size=1000, include="id,data"):
            left.add(task.data.get("pair_id"))
            holds.add(rater, project.id, task.id, task.data.get("pair_id"))
    there = holds.project(project.id)
    for number in [number for number, row in there.items() if row["pair_id"] in wanted and row["pair_id"] not in left]:
        del there[number]
    holds.write()
    return [row for row in rows if row["pair_id"] not in left]


def delete_open_tasks(client: Any, project: int, numbers: Sequence[int]) -> None:
    """Delete those of the tasks that have no label, in one action of Label Studio's data manager."""
    item = {"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number", "value": 0}
    client.actions.create(
        id="delete_tasks",
        project=project,
        filters={"conjunction": "and", "items": [item]},
        selected_items={"all": False, "included": list(numbers)},
        request_options=NO_RETRY,
    )


def _labelled(workspace: Workspace, split: str) -> set[Key]:
    labels = read_labels(workspace, split)
    return set(zip(*(labels[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True))
