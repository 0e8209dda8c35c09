"""`ndec annotate leave`: an annotator's open pairs go to others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from ndec_builder.annotation.assignment.hints import suggestions
from ndec_builder.annotation.assignment.queues import TaskRow
from ndec_builder.annotation.assignment.reassign import open_rows, reassign, receivers_of, who_cannot
from ndec_builder.annotation.assignment.rounds import involved_in
from ndec_builder.annotation.label_studio import server_snapshot
from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.handover import withdraw_tasks
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_studio.task_sync import sync_tasks
from ndec_builder.annotation.push_options import write_push_options
from ndec_builder.annotation.settings import LeaveConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import ROUNDS
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1


def run(config: LeaveConfig) -> Path:
    """Move the open pairs of `config.annotator` in every round to others; returns the path of tasks.parquet.

    First their tasks are deleted in Label Studio, then the last labels are pulled, then the pairs move: labels given up
    to the last moment count, and no pair is open in two places. After a kill, the same command finishes the work.
    Raises NdecError if there are pairs that nobody else may label; they stay where they are.
    """
    record = RunRecord("annotate leave", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    connection = connect_label_studio(workspace, config.url, config.token_file, config.image_url)
    stuck: list[TaskRow] = []
    moved = dropped = 0
    with locked(directory):
        tables = AnnotationTables(workspace, config.split)
        for round_ in _rounds_of(config, tables.require_tasks()):
            rows = open_rows(tables.tasks.to_pylist(), tables.labelled, round_, config.annotator)
            free = withdraw_tasks(tables, connection, (round_, config.annotator), rows)
            pull_labels(tables, connection)
            free = [row for row in free if (row["pair_id"], round_, config.annotator) not in tables.labelled]
            receivers = receivers_of(config.others, tables.tasks, round_, config.annotator, tables.options.left)
            result = reassign(tables.tasks, free, receivers, tables.labelled, involved_in(tables))
            stuck, moved, dropped = stuck + result.stuck, moved + result.moved, dropped + result.dropped
            tables.write("tasks", result.tasks)
            sync_tasks(tables, round_, connection, config.chunk, suggestions(tables, round_))
            server_snapshot.end_handover(directory)
        left = {*tables.options.left, config.annotator} - {*config.others}  # until a command names them again
        tables.options = replace(tables.options, left=tuple(sorted(left)))
        write_push_options(directory, tables.options)
        counts = {"moved": moved, "dropped": dropped, "stuck": len(stuck)}
        record.write(directory, counts=counts, name="leave.run.json")
    say(
        f"{config.annotator} leaves: {number_of(moved, 'open pair goes', 'open pairs go')} to others; "
        f"{dropped} overlap and gold pairs are dropped"
    )
    if stuck:
        raise NdecError(
            f"{number_of(len(stuck), 'open pair stays', 'open pairs stay')} with {config.annotator} (the first: "
            f"{stuck[0]['pair_id']}): {who_cannot(config.others)}; name one more with --to"
        )
    return directory / "tasks.parquet"


def _rounds_of(config: LeaveConfig, tasks: pa.Table) -> list[str]:
    """Rounds in which the annotator has pairs; raises NdecError if there is none."""
    pairs = set(zip(tasks["round"].to_pylist(), tasks["annotator"].to_pylist(), strict=True))
    rounds = [round_ for round_ in ROUNDS if (round_, config.annotator) in pairs]
    if not rounds:
        raise NdecError(
            f"annotator {config.annotator!r} has no pairs in {config.split!r}; annotators with pairs: "
            f"{', '.join(sorted({name for _, name in pairs})) or 'nobody'}"
        )
    return rounds
