"""Makes Label Studio match the tasks table: creates projects, imports missing tasks, deletes duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ndec_builder.annotation.assignment.hints import NO_SUGGESTION, Suggestion
from ndec_builder.annotation.assignment.replaced_pairs import set_back
from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.annotations import named_pair
from ndec_builder.annotation.label_studio.connection import NO_RETRY, Connection, explain_errors, remember_pictures
from ndec_builder.annotation.label_studio.server_snapshot import Assignee, ServerSnapshot
from ndec_builder.annotation.label_tables import of_people
from ndec_builder.annotation.records.gold_truth import GoldOverTime
from ndec_builder.annotation.records.pictures import gold_tags, pair_of, tag_of
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import say, track
from ndec_builder.core.errors import NdecError

_DELETED_AT_ONCE = 2000
_Row = dict[str, Any]


def sync_tasks(
    tables: AnnotationTables,
    round_: str,
    connection: Connection,
    chunk: int,
    shown: Mapping[str, Suggestion] | None = None,
) -> int:
    """Create each annotator's project if needed and import the missing open pairs; returns how many were imported.

    `shown`: suggestions for the page, or None when it shows none. Pairs that this annotator has labelled or skipped
    are not imported again. Deletions in Label Studio are recorded as incidents first. A call that was killed at any
    point is completed by the next one, without duplicates.
    """
    client, finished = connection.client(), tables.labelled | tables.skipped | set_back(tables, round_)
    lost = GoldOverTime(tables.workspace, tables.split, tables.gold).lost()  # the next push replaces them
    lost |= tables.shown.removed
    wanted: dict[str, list[_Row]] = {}
    for row in of_people(tables.tasks).to_pylist():
        if row["round"] == round_:
            # An annotator with nothing left to label gets an empty list: a deleted project is still made again.
            left = wanted.setdefault(row["annotator"], [])
            if (row["pair_id"], round_, row["annotator"]) not in finished and row["pair_id"] not in lost:
                left.append(row)
    snapshot, imported = ServerSnapshot(tables), 0
    hints = shown is not None
    with explain_errors(connection, "looking for ndec's projects"):
        found = projects.find_projects(client)
    for annotator, rows in sorted(wanted.items()):
        project = _find_or_create_project(tables, (round_, annotator), connection, found, snapshot, hints)
        ordered = sorted(rows, key=lambda row: row["position"])
        tags = _tags(tables, ordered)
        requests = [_request(connection.image_url, row, shown, tags.get(row["pair_id"])) for row in ordered]
        imported += _import(client, connection, snapshot, (round_, annotator), project, requests, chunk)
    snapshot.write()
    return imported


def _find_or_create_project(
    tables: AnnotationTables,
    assignee: Assignee,
    connection: Connection,
    found: Mapping[str, projects.Project],
    snapshot: ServerSnapshot,
    hints: bool,
) -> projects.Project:
    """The annotator's project, created if needed. Known projects that no longer exist are recorded as incidents."""
    workspace, split, (round_, annotator) = tables.workspace, tables.split, assignee
    title = projects.project_title(workspace, split, round_, annotator)
    project = found.get(projects.project_key(workspace, split, round_, annotator))
    for number in snapshot.projects_of(assignee):
        if project is None or number != project.id:
            server_snapshot.record_incidents(tables, [server_snapshot.deleted_project(assignee, number)])
            snapshot.forget_project(number)
    if project is not None and (hints or tables.options.ever_shown):
        _say_other_page(connection, project, title, hints)
    if project is None:
        say(f"making the project {title!r}")
        with explain_errors(connection, f"making the project {title!r}"):
            client = connection.client()
            project = projects.create_project(client, workspace, split, round_, annotator, connection.image_url, hints)
    projects.report_renamed(connection, project, title, split, assignee)
    return project


def _say_other_page(connection: Connection, project: projects.Project, title: str, hints: bool) -> None:
    """Say if a project was made when hints were switched on and now are not, or the other way round."""
    with explain_errors(connection, f"looking at the page of the project {title!r}"):
        shows = projects.shows_hints(projects.refetch(connection.client(), project.id)[1])
    if shows and not hints:
        say(f"hints are off now: new pairs of {title!r} show none, and pairs that were sent with a hint still show it")
    if hints and not shows:
        say(
            f"hints are on, but the project {title!r} was made without them, and its page shows none; hints appear in "
            "projects of other rounds and annotators"
        )


def _import(
    client: Any,
    connection: Connection,
    snapshot: ServerSnapshot,
    assignee: Assignee,
    project: projects.Project,
    requests: Sequence[_Row],
    chunk: int,
) -> int:
    """Import the tasks that the project lacks, in the given order; returns how many.

    Label Studio does not deduplicate, and may have stored everything although the request failed. So the project is
    listed first (unless its number of tasks matches the snapshot), and again after a failure.
    """
    if project.tasks != len(snapshot.tasks_of(project.id)):
        relist_tasks(client, connection, snapshot, assignee, project.id)
    present = {row.pair_id for row in snapshot.tasks_of(project.id).values()}
    missing = [task for task in requests if task["data"]["pair_id"] not in present]
    if missing and connection.default_pictures:  # before: after a kill, the next call finds nothing missing
        remember_pictures(snapshot.tables.workspace, connection.image_url)
    chunks = [missing[start : start + chunk] for start in range(0, len(missing), chunk)]
    for part in track(chunks, len(chunks), "importing tasks"):
        try:
            with explain_errors(connection, "importing tasks"):
                answer = client.projects.import_tasks(
                    id=project.id, request=part, return_task_ids=True, request_options=NO_RETRY
                )
            numbers = list(getattr(answer, "task_ids", None) or [])
        except NdecError:
            present = relist_tasks(client, connection, snapshot, assignee, project.id)
            if not all(task["data"]["pair_id"] in present for task in part):
                raise
            continue
        if len(numbers) != len(part):  # the server did not name them: the next sync lists the project
            continue
        for number, task in zip(numbers, part, strict=True):
            snapshot.add_task(assignee, project.id, number, task["data"]["pair_id"], tag_of(task["data"]))
    return len(missing)


def _tags(tables: AnnotationTables, rows: Sequence[_Row]) -> dict[str, str | None]:
    """pair_id → tag of the pictures that its task shows. Gold pairs have one as well, or they would stand out."""
    made = {row["pair_id"]: row for row in tables.gold.to_pylist()}
    tags = tables.shown.tags(
        {row["pair_id"]: (row["query_id"], row["reference_id"]) for row in rows if row["pair_id"] not in made}
    )
    return tags | gold_tags(tables.workspace, [made[row["pair_id"]] for row in rows if row["pair_id"] in made])


def relist_tasks(
    client: Any, connection: Connection, snapshot: ServerSnapshot, assignee: Assignee, project: int
) -> set[str | None]:
    """List a project again and return its pair_ids.

    Duplicate tasks without a label are deleted; missing tasks are recorded as incidents.
    """
    rows = snapshot.tasks_of(project)
    with explain_errors(connection, "listing tasks"):
        present, spare = _list_tasks(client, project, snapshot)
        if spare:  # a label may arrive between the listing and now, so the server decides which ones are still open
            delete_open_tasks(client, project, spare)
            present, _ = _list_tasks(client, project, snapshot)
    expected = server_snapshot.handed_over(snapshot.tables.directory)
    lost = [
        row
        for number, row in rows.items()
        if number not in present
        and number not in spare
        and (row.pair_id is None or pair_of(row.pair_id) not in expected)
    ]
    server_snapshot.record_incidents(snapshot.tables, server_snapshot.incidents_for(lost, "task_deleted"))
    for number in [number for number in rows if number not in present]:
        del rows[number]
    for number, (question, tag) in present.items():
        snapshot.add_task(assignee, project, number, question, tag)
    return {question for question, _ in present.values()}


def _list_tasks(
    client: Any, project: int, snapshot: ServerSnapshot
) -> tuple[dict[int, tuple[str | None, str | None]], list[int]]:
    """(question and tag of each task, tasks that repeat a question and had no label when they were listed)."""
    tasks: dict[str | None, list[tuple[int, int]]] = defaultdict(list)  # (minus the annotations, id) by question
    found: dict[int, tuple[str | None, str | None]] = {}
    for task in client.tasks.list(project=project, page_size=1000, include="id,data,total_annotations"):
        tag = tag_of(task.data)
        found[task.id] = snapshot.question(named_pair(task), tag), tag
        tasks[found[task.id][0]].append((-task.total_annotations, task.id))
    spare: list[int] = []
    for question, same in tasks.items():
        same.sort()
        spare += [number for labelled, number in same[1:] if question is not None and not labelled]
    return found, spare


def delete_open_tasks(client: Any, project: int, numbers: Sequence[int]) -> None:
    """Delete those of the tasks that have no label at that moment, by actions of Label Studio's data manager."""
    item = {"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number", "value": 0}
    for start in range(0, len(numbers), _DELETED_AT_ONCE):
        client.actions.create(
            id="delete_tasks",
            project=project,
            filters={"conjunction": "and", "items": [item]},
            selected_items={"all": False, "included": list(numbers[start : start + _DELETED_AT_ONCE])},
            request_options=NO_RETRY,
        )


def _request(image_url: str, row: _Row, shown: Mapping[str, Suggestion] | None, tag: str | None) -> _Row:
    """One task of an import request, with its prediction if suggestions are shown."""
    if shown is None:
        return {"data": task_data(image_url, row, tag=tag)}
    suggestion = shown.get(row["pair_id"], NO_SUGGESTION)
    request = {"data": task_data(image_url, row, suggestion.text, tag)}
    return request | ({"predictions": suggestion.predictions} if suggestion.predictions else {})


def task_data(image_url: str, row: _Row, hint: str | None = None, tag: str | None = None) -> _Row:
    """The data of one task: the pair's id, the tag of its pictures (records/pictures.py), and their addresses, which
    contain only these two. None: a picture was never opened, so nothing is known about its bytes.

    No score, rank or pre-label, because they bias people, and nothing that identifies a gold pair. `hint` is a line
    shown on the page; None unless hints were switched on.
    """
    data = {
        "pair_id": row["pair_id"],
        "query": image_url + picture_path(row["pair_id"], "query", tag),
        "reference": image_url + picture_path(row["pair_id"], "reference", tag),
        "position": row["position"],
    } | ({} if tag is None else {"pictures": tag})
    return data if hint is None else data | {"hint": hint}


def picture_path(pair_id: str, side: str, tag: str | None = None) -> str:
    """Path of one picture of a pair on the image server. A browser keeps pictures: other bytes need another path."""
    return f"/pair/{pair_id}/{side}" if tag is None else f"/pair/{pair_id}.{tag}/{side}"
