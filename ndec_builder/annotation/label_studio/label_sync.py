"""Reads new and changed annotations from Label Studio and appends them to the workspace's tables."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.annotations import (
    ProjectChanges,
    annotation_exists,
    changed_tasks,
    labelled_tasks,
    named_pair,
    update_snapshot,
)
from ndec_builder.annotation.label_studio.connection import Connection, explain_errors
from ndec_builder.annotation.label_studio.label_rows import NewRows, in_label_order, new_rows
from ndec_builder.annotation.label_studio.restored_server import KeptLabels, restored_text
from ndec_builder.annotation.label_studio.server_snapshot import Assignee, FullComparisons, KnownTask, ServerSnapshot
from ndec_builder.annotation.label_studio.task_sync import picture_path, relist_tasks
from ndec_builder.annotation.records.label_file import LABELS_IN_MEMORY
from ndec_builder.annotation.records.labels_by_annotator import LabelsByAnnotator
from ndec_builder.annotation.records.pairs_of_tasks import PairsOfTasks, rows_of_assignee
from ndec_builder.annotation.records.pictures import pair_of, tag_of
from ndec_builder.annotation.records.skips import DELETED, LabelState, question_states, waiting_skips
from ndec_builder.annotation.records.table_store import StoredTable, TableStore
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.memory import return_freed_memory
from ndec_builder.core.schemas import SKIPS, table_of
from ndec_builder.core.workspace import Workspace

MANY_DELETED, SHARE_DELETED = 10, 0.1  # more deleted labels than this in a project are no correction by a person
_Row = dict[str, Any]


def pull_labels(
    tables: AnnotationTables, connection: Connection, *, everything: bool = False, accept_deleted: bool = False
) -> tuple[Counter[str], list[NdecError]]:
    """Append what is new in Label Studio to incidents.parquet, skips.parquet and labels.parquet, in this order.

    `everything`: compare every task instead of those that changed · `accept_deleted`: labels that are gone there stop
    counting even if they are most of a project's. Returns (counts, an error for each deleted project). The snapshot is
    written last: if the process is killed before, the next pull reads the same annotations again and adds none twice.
    """
    found = collect_changes(tables, connection, everything=everything, accept_deleted=accept_deleted)
    fresh = server_snapshot.record_incidents(tables, found.rows.incidents)
    found.counts["incidents"] = sum(fresh.values())
    path = tables.directory / "incidents.parquet"
    for kind, number in sorted(fresh.items()):
        say(f"{number} × {kind} in Label Studio since the last check; recorded in {path}")
    for project, number in found.stored:
        found.comparisons.announce(project.id, number)
    if any(number != project.stored for project, number in found.stored):
        found.comparisons.write()
    with explain_errors(connection, "writing how many answers are stored"):
        for project, number in found.stored:
            if number != project.stored:
                projects.write_stored(connection.client(), project, number)
            found.comparisons.is_counted(project.id)
    if found.rows.skips:
        now = datetime.now(UTC)
        skips = [row | {"seen_at": now} for row in found.rows.skips]
        tables.write("skips", pa.concat_tables([tables.skips, table_of(SKIPS, skips)]))
    tables.append_labels(_new_labels(found))
    found.counts["labels"] = tables.label_count
    # the tasks are read only where pairs were skipped: they take memory
    found.counts["skipped"] = len(waiting_skips(tables.skipped, tables.tasks)) if tables.skipped else 0
    return_freed_memory()  # of the labels, before all tasks are written
    found.snapshot.write()
    found.comparisons.write()
    return found.counts, found.deleted


@dataclass
class ServerChanges:
    """What a pull found in Label Studio, before anything is written."""

    snapshot: ServerSnapshot
    comparisons: FullComparisons
    repair: bool
    store: TableStore = field(default_factory=TableStore)
    labels: list[StoredTable] = field(default_factory=list)  # new ones, by project
    rows: NewRows = field(default_factory=NewRows)  # without labels
    counts: Counter[str] = field(default_factory=Counter)
    stored: list[tuple[projects.Project, int]] = field(default_factory=list)  # how many answers of each
    deleted: list[NdecError] = field(default_factory=list)  # one for each project that is missing


def collect_changes(
    tables: AnnotationTables,
    connection: Connection,
    *,
    everything: bool = False,
    accept_deleted: bool = False,
    repair: bool = True,
) -> ServerChanges:
    """Compare Label Studio with the tables.

    `repair`: if the tasks of a project changed, list them again, record deleted ones and delete duplicates. Without it
    nothing is written anywhere.
    """
    workspace, split, client = tables.workspace, tables.split, connection.client()
    found = ServerChanges(ServerSnapshot(tables), FullComparisons(tables.directory, everything), repair)
    snapshot, rows = found.snapshot, found.rows
    assigned = PairsOfTasks(tables.assigned)
    del tables.assigned  # not needed when the labels are written
    stored_labels = LabelsByAnnotator(tables.label_parts())
    return_freed_memory()
    with explain_errors(connection, "looking for ndec's projects"):
        found_projects = projects.find_projects(client)
        logins = {user.id: str(user.email or "") for user in client.users.list()}
    assignees = _with_unknown(workspace, split, found_projects, assigned.assignees())
    for assignee in assignees:
        title = projects.project_title(workspace, split, *assignee)
        project = found_projects.get(projects.project_key(workspace, split, *assignee))
        for number in snapshot.projects_of(assignee):
            if project is None or number != project.id:
                rows.incidents.append(server_snapshot.deleted_project(assignee, number))
                snapshot.forget_project(number)
        if project is None:
            found.deleted.append(projects.deleted_project_error(title, connection.url, split, assignee[0]))
            continue
        known = assigned.of(*assignee)
        counted = found.comparisons.counted(project.id, project.stored)
        kept = _stored_of(tables, stored_labels.of(*assignee), assignee, counted, accept_deleted)
        given = question_states(kept.labels, kept.skips, tables.shown)
        with explain_errors(connection, f"pulling the project {title!r}"):
            since = stored_labels.newest.get(project.id)
            fetched = client, connection, found, assignee, project, since, known, given, kept.differs
            changes, page = _fetch_changes(*fetched)
            changes.answers |= kept.without_task(snapshot.tasks_of(project.id).values(), given, project.id)
            again = _asked_again(tables, snapshot.tasks_of(project.id).values())
            more = new_rows(changes.answers, known, given, found.counts, assignee, project.id, logins, kept, again)
        if kept.differs:
            say(restored_text(kept, title))
        no_deletion = {("annotation_deleted", pair_id) for pair_id in kept.missing()}
        rows.incidents += [row for row in changes.incidents if (row["kind"], row["pair_id"]) not in no_deletion]
        rows.incidents += kept.incidents + _changed_project(split, assignee, project, page)
        if not accept_deleted:
            keep_if_many_are_gone(more, given, project.id, title, found.counts)
        if number := kept.stored + kept.new_incidents + more.label_count + len(more.skips):
            found.stored.append((project, number))
        if more.label_count:
            found.labels.append(found.store.put(more.take_labels()))
        rows.skips, rows.incidents = rows.skips + more.skips, rows.incidents + more.incidents
        snapshot.close(project.id)
        projects.report_renamed(connection, project, title, split, assignee)
        del kept, given, known, changes, more  # before those of the next project
        if project.tasks >= 10_000:  # looking through all objects takes longer than the pull of a small project
            gc.collect()  # requests leave cycles, and most of them are old by now
        return_freed_memory()
    del stored_labels, assigned  # before labels and snapshot are written
    return_freed_memory()
    return found


def _with_unknown(
    workspace: Workspace, split: str, found: Mapping[str, projects.Project], assignees: Sequence[Assignee]
) -> list[Assignee]:
    """The assignees, and those without pairs in tasks.parquet whose project has labels; these are reported.

    Database or workspace are older copies then, or the annotator left. The labels count as in any other project.
    """
    prefix = projects.project_key(workspace, split, "", "").removesuffix("/")
    others = []
    for key, project in sorted(found.items()):
        round_, _, name = key.removeprefix(prefix).partition("/")
        if key.startswith(prefix) and (round_, name) not in assignees and project.annotated:
            others.append((round_, name))
            say(
                f"{name} has no pairs in tasks.parquet (round {round_}), but its project "
                f"{project.found_title!r} has {number_of(project.annotated, 'label')}, which this pull stores. Was "
                "an older copy of workspace or database put in place?"
            )
    return [*assignees, *others]


def _new_labels(found: ServerChanges) -> pa.Table:
    parts = (found.store.get(stored) for stored in found.labels)
    return in_label_order(pa.concat_tables([LABELS_IN_MEMORY.empty_table(), *parts]))


def _stored_of(
    tables: AnnotationTables, labels: pa.Table, assignee: Assignee, counted: int | None, accept: bool
) -> KeptLabels:
    """What is stored of an annotator in a round, next to the number in the project's description."""
    skips, recorded = (rows_of_assignee(table, *assignee) for table in (tables.skips, tables.incidents))
    return KeptLabels(labels, skips, recorded, counted, accept)


def keep_if_many_are_gone(
    more: NewRows, states: Mapping[str | None, LabelState], project: int, title: str, counts: Counter[str]
) -> None:
    """Drop the withdrawals of deleted labels if most of a project's are gone: its database was probably restored."""
    gone = [row for row in more.skips if row["kind"] == DELETED]
    stored = sum(state.label is not None and state.project in (None, project) for state in states.values())
    if len(gone) <= max(MANY_DELETED, SHARE_DELETED * stored):
        return
    more.skips = [row for row in more.skips if row["kind"] != DELETED]
    counts["withdrawn"] -= len(gone)
    counts["missing"] += len(gone)
    say(
        f"{len(gone)} of {stored} pulled labels of the project {title!r} are missing in Label Studio; was an older "
        "copy of its database restored? They still count. If they were deleted on purpose, run `ndec annotate pull "
        "--all --accept-deleted`, and they stop counting"
    )


def _fetch_changes(
    client: Any,
    connection: Connection,
    found: ServerChanges,
    assignee: Assignee,
    project: projects.Project,
    since: datetime | None,
    pairs: Mapping[str, Mapping[str, Any]],
    states: Mapping[str | None, LabelState],
    differs: bool,
) -> tuple[ProjectChanges, str]:
    """Fetch the tasks changed since this project's last label, or all; returns them, and the labelling page it uses.

    All are compared if database or workspace `differs` from the one of the last pull, if the tasks changed, if the
    snapshot names a label that is not stored, if it is time to, or if the
    number of labelled tasks in the snapshot does not lie between Label Studio's own counts before and after the
    request: a label was deleted without a trace.
    """
    snapshot, tasks_changed = found.snapshot, False
    if found.repair and len(snapshot.tasks_of(project.id)) != project.tasks:
        before = set(snapshot.tasks_of(project.id))
        relist_tasks(client, connection, snapshot, assignee, project.id)  # records deleted tasks as incidents
        tasks_changed = before != set(snapshot.tasks_of(project.id))
    complete = found.comparisons.due(project.id, since) or tasks_changed or differs
    complete = complete or _not_stored(snapshot.tasks_of(project.id).values(), pairs, states)
    changes, inspect = ProjectChanges(), partial(edited_task, pairs, assignee, project.id)
    if since is not None or (not complete and (project.annotated or states)):
        changed = changed_tasks(client, project.id, since)
        changes = update_snapshot(changed, snapshot, assignee, project.id, inspect=inspect)
    known = sum(row.annotation is not None for row in snapshot.tasks_of(project.id).values())
    after, page = projects.refetch(client, project.id)
    if complete or not project.annotated <= known <= after:
        answered, still = labelled_tasks(client, project.id), partial(annotation_exists, client)
        every = update_snapshot(answered, snapshot, assignee, project.id, complete=True, still=still, inspect=inspect)
        changes.add(every)
        found.comparisons.done(project.id)
    return changes, page


def _asked_again(tables: AnnotationTables, tasks: Iterable[KnownTask]) -> set[str]:
    """The pairs whose picture was replaced and that have a task with the new one."""
    touched = tables.shown.touched
    return {task.pair_id for task in tasks if task.pair_id in touched} if touched else set()


def _not_stored(tasks: Iterable[KnownTask], pairs: Mapping[str, Any], states: Mapping[str | None, LabelState]) -> bool:
    """Whether the snapshot names a label of an assigned pair that is not the stored one.

    A workspace that was restored from an older copy has such pairs, and pairs that were assigned after they were seen.
    """
    return any(
        task.label is not None
        and task.pair_id is not None
        and pair_of(task.pair_id) in pairs
        and task.label != states.get(task.pair_id, LabelState()).label
        for task in tasks
    )


def edited_task(pairs: Mapping[str, Any], assignee: Assignee, project: int, task: Any) -> list[_Row]:
    """Incidents for a task whose picture addresses are not those that ndec sent."""
    pair_id = named_pair(task)
    if pair_id is None or pair_id not in pairs:
        return []
    incidents = []
    for name in ("query", "reference"):
        if not str(task.data.get(name, "")).endswith(picture_path(pair_id, name, tag_of(task.data))):
            detail = f"{name}: {task.data.get(name)}"
            base = {"round": assignee[0], "annotator": assignee[1], "project": project, "task": task.id}
            incidents.append(base | {"kind": "task_edited", "pair_id": pair_id, "detail": detail})
    return incidents


def _changed_project(split: str, assignee: Assignee, project: projects.Project, page: str) -> list[_Row]:
    """Incidents for a project that was renamed or whose labelling page was edited."""
    row = {"round": assignee[0], "annotator": assignee[1], "project": project.id}
    incidents = []
    if not projects.is_own_title(project.found_title, split, *assignee):
        incidents.append(row | {"kind": "project_renamed", "detail": project.found_title})
    if not any(projects.same_page(page, projects.labelling_page(hints)) for hints in (False, True)):
        incidents.append(row | {"kind": "project_edited", "detail": "the labelling page was edited"})
    return incidents
