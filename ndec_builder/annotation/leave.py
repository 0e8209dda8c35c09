"""`ndec annotate leave`: somebody's open pairs go to others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ndec_builder.annotation.assignment.reassign import Row, open_rows, spread, takers_of
from ndec_builder.annotation.label_studio import server_snapshot
from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.handover import labelled_keys, withdraw_tasks
from ndec_builder.annotation.label_studio.hints import suggestions
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_studio.task_sync import sync_tasks
from ndec_builder.annotation.settings import LeaveConfig
from ndec_builder.annotation.tables import read_labels, read_tasks
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import ROUNDS
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1


def run(config: LeaveConfig) -> Path:
    """Move the open pairs of `config.annotator` in every round to others; returns the path of tasks.parquet.

    Their tasks leave Label Studio first, then the last labels are pulled, then the pairs move: what was labelled up to
    the last moment counts, and no pair is open in two places. Killed anywhere, the same command finishes the work.
    Raises NdecError when pairs are left that nobody else may look at; they stay with whom they were.
    """
    record = RunRecord("annotate leave", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    connection = connect_label_studio(workspace, config.url, config.token_file, config.image_url)
    stuck: list[Row] = []
    moved = dropped = 0
    with locked(directory):
        tasks = read_tasks(workspace, config.split)
        rounds = _rounds_of(config, tasks)
        for round_ in rounds:
            labelled = labelled_keys(workspace, config.split)
            rows = open_rows(tasks.to_pylist(), labelled, round_, config.annotator)
            free = withdraw_tasks(workspace, config.split, connection, (round_, config.annotator), rows)
            pull_labels(workspace, config.split, connection)
            others = takers_of(config.others, tasks, round_, config.annotator)
            labels = read_labels(workspace, config.split)
            labelled = labelled_keys(workspace, config.split)
            free = [row for row in free if (row["pair_id"], round_, config.annotator) not in labelled]
            result = spread(tasks, free, others, labelled)
            tasks, stuck = result.tasks, stuck + result.stuck
            moved, dropped = moved + result.moved, dropped + result.dropped
            write_table(directory / "tasks.parquet", tasks)
            shown = suggestions(workspace, config.split, round_)
            sync_tasks(workspace, config.split, round_, connection, tasks, labels, config.chunk, shown)
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
