"""Brings Label Studio to the tasks table: makes projects, imports what is missing, takes out what is there twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.connection import NO_RETRY, Connection, talking
from ndec_builder.annotation.label_studio.hints import NONE, Suggestion
from ndec_builder.annotation.label_studio.server_snapshot import Held
from ndec_builder.core.console import say, track
from ndec_builder.core.errors import NdecError
from ndec_builder.core.workspace import Workspace

Row = dict[str, Any]


def bring_up_to_date(
    workspace: Workspace,
    split: str,
    round_: str,
    connection: Connection,
    tasks: pa.Table,
    labels: pa.Table,
    chunk: int,
    shown: Mapping[str, Suggestion] | None = None,
) -> int:
    """Make each annotator's project if it is not there and import the missing open pairs; returns how many.

    `shown`: suggestions for the page; None when it has none. Pairs that have a label of this annotator do not come
    back. What was deleted in Label Studio is recorded as an incident first. Killed anywhere, the next call finishes the
    work: nothing is there twice.
    """
    directory, client = workspace.annotation(split), connection.client()
    labelled = set(zip(*(labels[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True))
    wanted: dict[str, list[Row]] = {}
    for row in tasks.to_pylist():
        if row["round"] == round_:
            # An annotator with nothing left has an empty list: a lost project is made again all the same.
            left = wanted.setdefault(row["annotator"], [])
            if (row["pair_id"], round_, row["annotator"]) not in labelled:
                left.append(row)
    holds, imported = Held(directory), 0
    with talking(connection, "looking for ndec's projects"):
        there = projects.find_projects(client)
    for annotator, rows in sorted(wanted.items()):
        project = _found_or_made(workspace, split, (round_, annotator), connection, there, holds, shown is not None)
        ordered = sorted(rows, key=lambda row: row["position"])
        requests = [_request(connection.image_url, row, shown) for row in ordered]
        imported += _import(client, connection, holds, (round_, annotator), project, requests, chunk)
    holds.write()
    return imported


def _found_or_made(
    workspace: Workspace,
    split: str,
    rater: server_snapshot.Rater,
    connection: Connection,
    there: Mapping[str, projects.Project],
    holds: Held,
    hints: bool,
) -> projects.Project:
    """The annotator's project; projects known before that are not there any more are incidents."""
    round_, annotator = rater
    title = projects.project_title(workspace, split, round_, annotator)
    project = there.get(projects.project_key(workspace, split, round_, annotator))
    directory = workspace.annotation(split)
    for number in holds.projects_of(rater):
        if project is None or number != project.id:
            row = {"round": round_, "annotator": annotator, "project": number, "detail": title}
            server_snapshot.record_incidents(directory, server_snapshot.gone([row], "project_deleted"))
            holds.forget(number)
    if project is None:
        say(f"making the project {title!r}")
        with talking(connection, f"making the project {title!r}"):
            client = connection.client()
            project = projects.create_project(client, workspace, split, round_, annotator, connection.image_url, hints)
    projects.report_renamed(project, title)
    return project


def _import(
    client: Any,
    connection: Connection,
    holds: Held,
    rater: server_snapshot.Rater,
    project: projects.Project,
    requests: Sequence[Row],
    chunk: int,
) -> int:
    """Import the tasks whose pair_id the project lacks, in the given order; returns how many.

    Label Studio does not deduplicate and may have stored everything although the request failed: so look first (unless
    the number of tasks is the one known), and look again after a failure.
    """
    if project.tasks != len(holds.project(project.id)):
        relist(client, connection, holds, rater, project.id)
    there = {row["pair_id"] for row in holds.project(project.id).values()}
    missing = [task for task in requests if task["data"]["pair_id"] not in there]
    chunks = [missing[start : start + chunk] for start in range(0, len(missing), chunk)]
    for part in track(chunks, len(chunks), "importing tasks"):
        try:
            with talking(connection, "importing tasks"):
                answer = client.projects.import_tasks(
                    id=project.id, request=part, return_task_ids=True, request_options=NO_RETRY
                )
            numbers = list(getattr(answer, "task_ids", None) or [])
        except NdecError:
            there = relist(client, connection, holds, rater, project.id)
            if not all(task["data"]["pair_id"] in there for task in part):
                raise
            continue
        if len(numbers) != len(part):  # a server that does not say: the next look lists them
            continue
        for number, task in zip(numbers, part, strict=True):
            holds.add(rater, project.id, number, task["data"]["pair_id"])
    return len(missing)


def relist(
    client: Any, connection: Connection, holds: Held, rater: server_snapshot.Rater, project: int
) -> set[str | None]:
    """List a project anew: doubles without a label are deleted, tasks that are gone are incidents; pair_ids there."""
    rows = holds.project(project)
    tasks: dict[str | None, list[Any]] = defaultdict(list)
    with talking(connection, "listing tasks"):
        for task in client.tasks.list(project=project, page_size=1000, include="id,data,total_annotations"):
            tasks[task.data.get("pair_id")].append(task)
        for pair_id, same in tasks.items():
            same.sort(key=lambda task: (-(task.total_annotations or 0), task.id))
            for task in same[1:] if pair_id is not None else []:
                if not task.total_annotations:
                    client.tasks.delete(id=str(task.id))
                    same.remove(task)
    there = {task.id: pair_id for pair_id, same in tasks.items() for task in same}
    expected = server_snapshot.handed_over(holds.directory)
    lost = [row for number, row in rows.items() if number not in there and row["pair_id"] not in expected]
    server_snapshot.record_incidents(holds.directory, server_snapshot.gone(lost, "task_deleted"))
    for number in [number for number in rows if number not in there]:
        del rows[number]
    for number, pair_id in there.items():
        holds.add(rater, project, number, pair_id)
    return set(tasks)


def _request(image_url: str, row: Row, shown: Mapping[str, Suggestion] | None) -> Row:
    """A task as Label Studio takes it, with its prediction where suggestions are shown."""
    if shown is None:
        return {"data": task_data(image_url, row)}
    suggestion = shown.get(row["pair_id"], NONE)
    request = {"data": task_data(image_url, row, suggestion.text)}
    return request | ({"predictions": suggestion.predictions} if suggestion.predictions else {})


def task_data(image_url: str, row: Row, hint: str | None = None) -> Row:
    """What Label Studio gets of a pair: its number and the addresses of its pictures, which say no more than that.

    No score, rank or pre-label, since they bias people; nothing that tells a gold pair from another. `hint` is shown on
    the page; None unless somebody switched it on.
    """
    data = {
        "pair_id": row["pair_id"],
        "query": image_url + picture_path(row["pair_id"], "query"),
        "reference": image_url + picture_path(row["pair_id"], "reference"),
        "position": row["position"],
    }
    return data if hint is None else data | {"hint": hint}


def picture_path(pair_id: str, side: str) -> str:
    """Path of one picture of a pair on the image server."""
    return f"/pair/{pair_id}/{side}"
