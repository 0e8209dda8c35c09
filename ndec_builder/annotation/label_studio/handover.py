"""`ndec annotate leave`, and newcomers at a push: open pairs move from one person's project to those of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.assignment.reassign import Key, Row, for_newcomers, open_rows, spread, takers_of
from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.connection import NO_RETRY, Connection, connect, talking
from ndec_builder.annotation.label_studio.hints import suggestions
from ndec_builder.annotation.label_studio.server_snapshot import Held
from ndec_builder.annotation.label_studio.task_sync import bring_up_to_date
from ndec_builder.annotation.pull import pull_labels
from ndec_builder.annotation.settings import LeaveConfig, PushConfig
from ndec_builder.annotation.tables import read_labels, read_tasks
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import ROUNDS
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1
_CHUNK = 2000  # tasks deleted in one request


def run(config: LeaveConfig) -> Path:
    """Move the open pairs of `config.annotator` in every round to others; returns the path of tasks.parquet.

    Their tasks leave Label Studio first, then the last labels are pulled, then the pairs move: what was labelled up to
    the last moment counts, and no pair is open in two places. Killed anywhere, the same command finishes the work.
    Raises NdecError when pairs are left that nobody else may look at; they stay with whom they were.
    """
    record = RunRecord("annotate leave", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    connection = connect(workspace, config.url, config.token_file, config.image_url)
    stuck: list[Row] = []
    moved = dropped = 0
    with locked(directory):
        tasks = read_tasks(workspace, config.split)
        rounds = _rounds_of(config, tasks)
        for round_ in rounds:
            labelled = _labelled(workspace, config.split)
            rows = open_rows(tasks.to_pylist(), labelled, round_, config.annotator)
            free = take_back(workspace, config.split, connection, (round_, config.annotator), rows)
            pull_labels(workspace, config.split, connection)
            others = takers_of(config.others, tasks, round_, config.annotator)
            labels = read_labels(workspace, config.split)
            labelled = _labelled(workspace, config.split)
            free = [row for row in free if (row["pair_id"], round_, config.annotator) not in labelled]
            result = spread(tasks, free, others, labelled)
            tasks, stuck = result.tasks, stuck + result.stuck
            moved, dropped = moved + result.moved, dropped + result.dropped
            write_table(directory / "tasks.parquet", tasks)
            shown = suggestions(workspace, config.split, round_)
            bring_up_to_date(workspace, config.split, round_, connection, tasks, labels, config.chunk, shown)
            server_snapshot.end_handover(directory)
    say(
        f"{config.annotator} leaves: {moved} open pairs go to others, {dropped} second looks and gold pairs are dropped"
    )
    record.write(directory, counts={"moved": moved, "dropped": dropped, "stuck": len(stuck)}, name="leave.run.json")
    if stuck:
        raise NdecError(
            f"{len(stuck)} open pairs (the first: {stuck[0]['pair_id']}) stay with {config.annotator}: everybody named "
            "has seen them; name one more person with --to"
        )
    return directory / "tasks.parquet"


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


def _rounds_of(config: LeaveConfig, tasks: pa.Table) -> list[str]:
    """Rounds in which the annotator has pairs; raises NdecError when there is none."""
    pairs = set(zip(tasks["round"].to_pylist(), tasks["annotator"].to_pylist(), strict=True))
    rounds = [round_ for round_ in ROUNDS if (round_, config.annotator) in pairs]
    if not rounds:
        raise NdecError(
            f"annotator {config.annotator!r} has no pairs in {config.split!r}; those who have: "
            f"{', '.join(sorted({name for _, name in pairs})) or 'nobody'}"
        )
    return rounds
