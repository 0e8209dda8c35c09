"""`ndec annotate send-back`: an annotator's labels no longer count, and their pairs go to other annotators."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.assignment.hints import suggestions
from ndec_builder.annotation.assignment.queues import TaskRow
from ndec_builder.annotation.assignment.reassign import Reassignment, reassign, receivers_of, who_cannot
from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_studio.task_sync import sync_tasks
from ndec_builder.annotation.label_tables import keys, without_set_aside
from ndec_builder.annotation.records.given_labels import take_given_labels
from ndec_builder.annotation.settings import SendBackConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.access.machines import user_name
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.rows import as_rows
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import ROUNDS, SET_ASIDE, table_of
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1
RECORD_FILE = "send-back.run.json"
PENDING_FILE = "send-back.pending.json"  # exists from the first change until Label Studio has all tasks


def run(config: SendBackConfig) -> Path:
    """Set the labels of `config.annotator` aside, all or since a time; returns the path of set_aside.parquet.

    labels.parquet stays as it is: set_aside.parquet lists the rows that no longer count, who sent them back, when and
    why. The pairs go to others of the same round who have not seen them; if nobody has not, a pair with another label
    keeps that one. Open pairs stay (`leave` moves those). After a kill, the same command finishes the work, and says so
    if it was finished. Raises NdecError, with nothing changed, if there is no such label, or if nobody else may label a
    pair.
    """
    record = RunRecord("annotate send-back", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    connection = connect_label_studio(workspace, config.url, config.token_file, config.image_url)
    with locked(directory):
        tables = AnnotationTables(workspace, config.split)
        take_given_labels(tables)
        tasks = tables.require_tasks()
        pull_labels(tables, connection)
        chosen = chosen_labels(config, tables.valid_labels, tables.set_aside)
        set_aside = pa.concat_tables([tables.set_aside, _set_aside_rows(config, chosen)])
        moved = move_set_aside(config, tasks, tables.labels, set_aside, tables.options.left)
        pending = directory / PENDING_FILE
        counts = {"set_aside": len(chosen), "moved": moved.moved, "dropped": moved.dropped}
        if pending.is_file() and (begun := read_json(pending))["annotator"] == config.annotator:
            counts = {name: begun[name] + number for name, number in counts.items()}
        elif not chosen and moved.tasks.equals(tasks):
            if (earlier := record.earlier(directory, RECORD_FILE)) is None:
                raise NdecError(_no_label(config, tables.labels))
            say(
                f"nothing to do: the same command set {number_of(earlier['counts']['set_aside'], 'label')} of "
                f"{config.annotator} aside at {earlier['started_at']}, and there is no new one"
            )
            return directory / "set_aside.parquet"
        if moved.stuck:
            raise NdecError(
                f"nothing is sent back: {len(moved.stuck)} of the pairs (the first: {moved.stuck[0]['pair_id']}) can "
                f"go to nobody: {who_cannot(config.others)}; name one more with --to"
            )
        write_json(pending, {"annotator": config.annotator} | counts)
        path = tables.write("set_aside", set_aside)  # first: a label must never count together with its replacement
        tables.write("tasks", moved.tasks)
        for round_ in [name for name in ROUNDS if name in moved.tasks["round"].to_pylist()]:
            sync_tasks(tables, round_, connection, config.chunk, suggestions(tables, round_))
        record.write(directory, counts=counts, name=RECORD_FILE)
        pending.unlink(missing_ok=True)
    say(
        f"{number_of(counts['set_aside'], 'label')} of {config.annotator} are set aside; "
        f"{number_of(counts['moved'], 'pair goes', 'pairs go')} to others, "
        f"{counts['dropped']} keep another label. If decisions were made already, run `ndec annotate resolve --split "
        f"{config.split}` again"
    )
    return path


def chosen_labels(config: SendBackConfig, labels: pa.Table, set_aside: pa.Table) -> list[TaskRow]:
    """The newest label of each pair and round of this annotator that counts and was given at or after `since`."""
    newest: dict[tuple[str, str], TaskRow] = {}
    for row in as_rows(without_set_aside(labels, set_aside)):
        if row["annotator"] == config.annotator and config.round in ("", row["round"]):
            newest[row["pair_id"], row["round"]] = row
    since = config.moment
    return [row for _, row in sorted(newest.items()) if since is None or row["annotated_at"] >= since]


def move_set_aside(
    config: SendBackConfig, tasks: pa.Table, labels: pa.Table, set_aside: pa.Table, left: Collection[str] = ()
) -> Reassignment:
    """Give the pairs of this annotator that were set aside, and that they still have, to others. Gold pairs stay.

    `left`: annotators who left.
    """
    excluded = {(pair, round_) for pair, round_, name in keys(set_aside) if name == config.annotator}
    labelled = set(keys(labels))
    seen: dict[str, set[str]] = {}
    for pair, _, name in labelled:
        seen.setdefault(pair, set()).add(name)
    total = Reassignment(tasks, 0, 0, [])
    for round_ in ROUNDS:
        rows = [
            row
            for row in total.tasks.to_pylist()
            if (row["round"], row["annotator"]) == (round_, config.annotator)
            and (row["pair_id"], round_) in excluded
            and not row["is_gold"]
        ]
        receivers = receivers_of(config.others, total.tasks, round_, config.annotator, left)
        one = reassign(total.tasks, rows, receivers, labelled, seen)
        total = Reassignment(one.tasks, total.moved + one.moved, total.dropped + one.dropped, total.stuck + one.stuck)
    return total


def _set_aside_rows(config: SendBackConfig, chosen: Collection[TaskRow]) -> pa.Table:
    names = ("pair_id", "round", "annotator", "label", "annotated_at")
    by = config.by or user_name(os.geteuid())
    why: dict[str, Any] = {"set_aside_at": datetime.now(UTC), "by": by, "why": config.why}
    return table_of(SET_ASIDE, [{name: row[name] for name in names} | why for row in chosen])


def _no_label(config: SendBackConfig, labels: pa.Table) -> str:
    names = sorted(set(labels["annotator"].to_pylist()))
    since = f" since {config.since}" if config.since else ""
    where = f" in the round {config.round!r}" if config.round else ""
    return (
        f"{config.annotator!r} has no label in {config.split!r}{where}{since} that counts; there are labels of: "
        f"{', '.join(names) or 'nobody'}"
    )
