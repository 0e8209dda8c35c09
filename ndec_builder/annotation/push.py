"""`ndec annotate push | double-check | adjudicate`: assign pairs, then bring them to Label Studio."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation import projects
from ndec_builder.annotation.connection import NO_RETRY, Connection, connect, talking
from ndec_builder.annotation.image_server import image_path
from ndec_builder.annotation.labels import read_labels
from ndec_builder.annotation.resolve import resolve
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tasks import assign, disputed_pairs, double_check_pairs, pairs_to_label
from ndec_builder.core.console import say, track
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.schemas import TASKS, conform, table_of
from ndec_builder.core.storage import read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1
REFERENCE_ROLE = {"test": "reference", "train": "basic"}  # test mines pool × reference, train pool × basic


def run(config: PushConfig) -> Path:
    """Write tasks.parquet, make the projects and import what is missing in them; returns the path of the table.

    The table comes first and the import brings Label Studio to it: killed anywhere, the same command finishes the work
    and no pair is there twice. Raises NdecError without candidates or server, or when nobody may look at a pair.
    """
    record = RunRecord("annotate push", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    path = directory / "tasks.parquet"
    with locked(directory):
        before = conform(read_table(path), TASKS) if path.is_file() else table_of(TASKS, [])
        labels = read_labels(workspace, config.split)
        new = _new_tasks(config, workspace, before, labels)
        connection = connect(workspace, config.url, config.token_file, config.image_url)
        tasks = pa.concat_tables([before, new])
        write_table(path, tasks)
        labelled = set(zip(*(labels[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True))
        wanted: dict[str, list[dict[str, Any]]] = {}
        for row in tasks.to_pylist():
            if row["round"] == config.round:
                # An annotator with nothing left has an empty list: a lost project is made again all the same.
                left = wanted.setdefault(row["annotator"], [])
                if (row["pair_id"], row["round"], row["annotator"]) not in labelled:
                    left.append(row)
        imported = _bring_up_to_date(config, workspace, connection, wanted)
    say(f"{config.round} round of {config.split}: {new.num_rows} new tasks, {imported} sent to {connection.url}")
    counts = {"tasks": tasks.num_rows, "new": new.num_rows, "imported": imported, "annotators": len(wanted)}
    record.write(directory, counts=counts, inputs=_inputs(workspace, config.split))
    return path


def _new_tasks(config: PushConfig, workspace: Workspace, tasks: pa.Table, labels: pa.Table) -> pa.Table:
    """Rows that this push adds to the tasks table."""
    candidates = _candidate_files(workspace, config.split)
    pairs = pairs_to_label(read_table(path) for path in candidates)
    if config.round == "first":
        decided_file = workspace.annotation(config.split) / "decisions.parquet"
        decided: set[str] = set()
        if decided_file.is_file():
            table = read_table(decided_file, ["pair_id", "decision"])
            decided = set(table.filter(table["decision"].is_valid())["pair_id"].to_pylist())
        pairs = [pair for pair in pairs if pair[0] not in decided]
        overlap = config.overlap if len(config.annotators) > 1 else 0.0
        return assign(pairs, "first", config.annotators, tasks=tasks, overlap=overlap)
    if not labels.num_rows:
        raise NdecError(
            f"there is no label of the split {config.split!r} yet, so nothing to look at again; "
            f"label the first round, then run `ndec annotate pull --split {config.split}`"
        )
    seen_by: dict[str, set[str]] = defaultdict(set)
    for row in [*tasks.to_pylist(), *labels.to_pylist()]:
        if row["round"] != config.round:
            seen_by[row["pair_id"]].add(row["annotator"])
    if config.round == "double_check":
        chosen = double_check_pairs(labels, config.double_check)
    else:
        chosen = disputed_pairs(resolve(tasks, labels))
    pairs = [pair for pair in pairs if pair[0] in chosen]
    return assign(pairs, config.round, config.annotators, tasks=tasks, seen_by=seen_by)


def _candidate_files(workspace: Workspace, split: str) -> list[Path]:
    first = workspace.candidates(split) / "candidates.parquet"
    if not first.is_file():
        raise NdecError(
            f"there are no candidates of the split {split!r} yet ({first} does not exist); "
            f"run `ndec mine --split {split} --workspace {workspace.root}` first"
        )
    recheck = workspace.candidates(split) / "recheck.parquet"
    return [first, recheck] if recheck.is_file() else [first]


def _bring_up_to_date(
    config: PushConfig, workspace: Workspace, connection: Connection, wanted: dict[str, list[dict[str, Any]]]
) -> int:
    """Make each annotator's project if it is not there and import the missing tasks; returns how many were imported."""
    client = connection.client()
    imported = 0
    with talking(connection, "looking for ndec's projects"):
        there = projects.find_projects(client)
    for annotator, rows in sorted(wanted.items()):
        project = there.get(projects.project_key(workspace, config.split, config.round, annotator))
        title = projects.project_title(workspace, config.split, config.round, annotator)
        if project is None:
            say(f"making the project {title!r}")
            with talking(connection, f"making the project {title!r}"):
                project = projects.create_project(client, workspace, config.split, config.round, annotator)
        projects.report_renamed(project, title)
        data = [task_data(config.split, connection.image_url, row) for row in sorted(rows, key=lambda r: r["position"])]
        imported += import_missing(client, connection, project.id, data, config.chunk)
    return imported


def task_data(split: str, image_url: str, row: dict[str, Any]) -> dict[str, Any]:
    """What Label Studio gets of a pair: its pictures and its number. No score, rank or pre-label: they bias people."""
    return {
        "pair_id": row["pair_id"],
        "query": image_url + image_path("pool", row["query_id"]),
        "reference": image_url + image_path(REFERENCE_ROLE[split], row["reference_id"]),
        "position": row["position"],
    }


def import_missing(
    client: Any, connection: Connection, project: int, data: Sequence[dict[str, Any]], chunk: int
) -> int:
    """Import the tasks whose pair_id the project lacks, in the given order; returns how many.

    Label Studio does not deduplicate and may have stored everything although the request failed: so look first,
    look again after a failure, and take out doubles that a lost connection left behind (never one that has a label).
    """
    there = _remove_doubles(client, connection, project)
    missing = [task for task in data if task["pair_id"] not in there]
    chunks = [missing[start : start + chunk] for start in range(0, len(missing), chunk)]
    for part in track(chunks, len(chunks), "importing tasks"):
        try:
            with talking(connection, "importing tasks"):
                request = [{"data": task} for task in part]
                client.projects.import_tasks(id=project, request=request, request_options=NO_RETRY)
        except NdecError:
            there = _remove_doubles(client, connection, project)
            if not all(task["pair_id"] in there for task in part):
                raise
    return len(missing)


def _remove_doubles(client: Any, connection: Connection, project: int) -> set[str]:
    """Delete unlabelled tasks of a pair that is there twice; returns the pair_ids that are there."""
    tasks: dict[str, list[Any]] = defaultdict(list)
    with talking(connection, "listing tasks"):
        for task in client.tasks.list(project=project, page_size=1000, include="id,data,total_annotations"):
            tasks[str(task.data.get("pair_id"))].append(task)
        for same in tasks.values():
            same.sort(key=lambda task: (-(task.total_annotations or 0), task.id))
            for task in same[1:]:
                if not task.total_annotations:
                    client.tasks.delete(id=str(task.id))
    return set(tasks)


def _inputs(workspace: Workspace, split: str) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in _candidate_files(workspace, split)}
