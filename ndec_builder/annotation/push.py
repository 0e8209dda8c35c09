"""`ndec annotate push | double-check | adjudicate | audit`: assign pairs, then bring them to Label Studio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.assignment.gold_pairs import gold_needed, make_gold, mix
from ndec_builder.annotation.assignment.queues import people_of
from ndec_builder.annotation.assignment.rounds import new_tasks
from ndec_builder.annotation.label_studio import projects, server_snapshot
from ndec_builder.annotation.label_studio.connection import Connection, connect_label_studio, explain_errors
from ndec_builder.annotation.label_studio.handover import share_with_newcomers
from ndec_builder.annotation.label_studio.hints import suggestions
from ndec_builder.annotation.label_studio.task_sync import sync_tasks
from ndec_builder.annotation.push_options import remember
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import candidate_tables, read_labels, read_set_aside
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import TASKS, conform, table_of
from ndec_builder.core.storage import read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 2  # 2: pictures are addressed by pair
GOLD_ROUNDS = ("first", "double_check")


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
        _candidate_files(workspace, config.split)  # says what to do where there are none
        tables = candidate_tables(workspace, config.split)
        labels, set_aside = read_labels(workspace, config.split), read_set_aside(workspace, config.split)
        if not config.annotators:
            config = replace(config, annotators=people_of(before, labels, config.round))
            say(f"nobody is named with --annotator: new pairs go to {', '.join(config.annotators)}")
        new = _with_gold(config, workspace, before, new_tasks(config, tables, before, labels, set_aside))
        connection = connect_label_studio(workspace, config.url, config.token_file, config.image_url)
        tasks = pa.concat_tables([before, new])
        remember(directory, config.hints, config.check_above, config.check_pairs)
        write_table(path, tasks)
        tasks = share_with_newcomers(config, workspace, connection, tasks)
        tasks = _gold_for_newcomers(config, workspace, tasks)
        labels, shown = read_labels(workspace, config.split), suggestions(workspace, config.split, config.round)
        imported = sync_tasks(workspace, config.split, config.round, connection, tasks, labels, config.chunk, shown)
        server_snapshot.end_handover(directory)
        raters = set(zip(tasks["round"].to_pylist(), tasks["annotator"].to_pylist(), strict=True))
        annotators = sorted(annotator for round_, annotator in raters if round_ == config.round)
        where = _addresses(config, workspace, connection, annotators)
    say(f"{config.round} round of {config.split}: {new.num_rows} new tasks, {imported} sent to {connection.url}")
    for line in [*_stale(tasks, tables, labels), *where]:
        say(line)
    counts = {"tasks": tasks.num_rows, "new": new.num_rows, "imported": imported, "annotators": len(annotators)}
    record.write(directory, counts=counts, inputs=_inputs(workspace, config.split))
    return path


def _with_gold(config: PushConfig, workspace: Workspace, tasks: pa.Table, new: pa.Table) -> pa.Table:
    """Mix gold pairs into the new rows; the audit and the adjudication have none."""
    if not config.gold or not new.num_rows or config.round not in GOLD_ROUNDS:
        return new
    gold = make_gold(workspace, config.split, gold_needed(new, tasks, config.gold), config.gold_seed)
    return mix(new, gold, config.gold, tasks, config.gold_seed)


def _gold_for_newcomers(config: PushConfig, workspace: Workspace, tasks: pa.Table) -> pa.Table:
    """Gold pairs for people whose first pairs are all taken over from others; returns the tasks table (written)."""
    if not config.gold or config.round not in GOLD_ROUNDS:
        return tasks
    holds = server_snapshot.ServerSnapshot(workspace.annotation(config.split))
    rows = [row for row in tasks.to_pylist() if row["round"] == config.round]
    has_gold = {row["annotator"] for row in rows if row["is_gold"]}
    new = {name for name in config.annotators if name not in has_gold and not holds.projects_of((config.round, name))}
    is_new = pa.array(
        [row["round"] == config.round and row["annotator"] in new for row in tasks.to_pylist()], pa.bool_()
    )
    own, rest = tasks.filter(is_new), tasks.filter(pc.invert(is_new))
    if not own.num_rows:
        return tasks
    tasks = pa.concat_tables([rest, _with_gold(config, workspace, rest, own)])
    write_table(workspace.annotation(config.split) / "tasks.parquet", tasks)
    return tasks


def _stale(tasks: pa.Table, tables: list[pa.Table], labels: pa.Table) -> list[str]:
    """A line where people still have pairs that a later mining, with other settings, did not find again."""
    mined = {pair for table in tables for pair in table["pair_id"].to_pylist()} | set(labels["pair_id"].to_pylist())
    rows = zip(tasks["pair_id"].to_pylist(), tasks["is_gold"].to_pylist(), strict=True)
    stale = {pair for pair, is_gold in rows if not is_gold and pair not in mined}
    return (
        [
            f"{len(stale)} pairs that people have open are no longer among the mined ones: their labels will count for "
            "nothing; mine with the settings of before, or tell people to skip them"
        ]
        if stale
        else []
    )


def _addresses(config: PushConfig, workspace: Workspace, connection: Connection, annotators: list[str]) -> list[str]:
    """Where each annotator labels."""
    with explain_errors(connection, "looking for ndec's projects"):
        there = projects.find_projects(connection.client())
    keys = {name: projects.project_key(workspace, config.split, config.round, name) for name in annotators}
    return [
        f"{name}: {connection.url}/projects/{there[key].id}/data?labeling=1"
        for name, key in keys.items()
        if key in there
    ]


def _candidate_files(workspace: Workspace, split: str) -> list[Path]:
    paths = workspace.candidate_files(split)
    if not paths:
        raise NdecError(
            f"there are no candidates of the split {split!r} yet ({workspace.candidates(split) / 'candidates.parquet'} "
            f"does not exist); run `ndec mine --split {split} --workspace {workspace.root}` first"
        )
    return paths


def _inputs(workspace: Workspace, split: str) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in _candidate_files(workspace, split)}
