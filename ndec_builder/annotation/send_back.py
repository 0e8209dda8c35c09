"""`ndec annotate send-back`: somebody's labels do not count any more, and their pairs go to other people."""

from __future__ import annotations

import getpass
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.assignment.reassign import Key, Row, Spread, spread, takers_of
from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.hints import suggestions
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_studio.task_sync import sync_tasks
from ndec_builder.annotation.settings import SendBackConfig
from ndec_builder.annotation.tables import read_labels, read_set_aside, read_tasks, without_set_aside
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import ROUNDS, SET_ASIDE, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1


def run(config: SendBackConfig) -> Path:
    """Set the labels of `config.annotator` aside, whole or since a time; returns the path of set_aside.parquet.

    labels.parquet stays as it is: set_aside.parquet says which rows count no more, who sent them back, when and why.
    The pairs go to others of the same round who have not seen them; a pair that somebody else labelled too keeps that
    look. Open pairs stay (`leave` moves those). Killed anywhere, the same command finishes the work. Raises NdecError,
    with nothing changed, when there is no such label, or when nobody else may look at a pair.
    """
    record = RunRecord("annotate send-back", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    connection = connect_label_studio(workspace, config.url, config.token_file, config.image_url)
    with locked(directory):
        tasks = read_tasks(workspace, config.split)
        pull_labels(workspace, config.split, connection)
        labels, before = read_labels(workspace, config.split), read_set_aside(workspace, config.split)
        fresh = chosen_labels(config, labels, before)
        aside = pa.concat_tables([before, _rows(config, fresh)])
        moved = move(config, tasks, labels, aside)
        if not fresh and moved.tasks.equals(tasks):
            raise NdecError(_nothing(config, labels))
        if moved.stuck:
            raise NdecError(
                f"nothing is sent back: everybody named has seen {len(moved.stuck)} of the pairs (the first: "
                f"{moved.stuck[0]['pair_id']}); name one more person with --to"
            )
        path = write_table(directory / "set_aside.parquet", aside)  # first: a label never counts beside its successor
        write_table(directory / "tasks.parquet", moved.tasks)
        for round_ in [name for name in ROUNDS if name in moved.tasks["round"].to_pylist()]:
            shown = suggestions(workspace, config.split, round_)
            sync_tasks(workspace, config.split, round_, connection, moved.tasks, labels, config.chunk, shown)
    say(
        f"{len(fresh)} labels of {config.annotator} are set aside; {moved.moved} pairs go to others, {moved.dropped} "
        f"keep another look. Run `ndec annotate resolve --split {config.split}` again where decisions were made"
    )
    counts = {"set_aside": len(fresh), "moved": moved.moved, "dropped": moved.dropped}
    record.write(directory, counts=counts, name="send-back.run.json")
    return path


def chosen_labels(config: SendBackConfig, labels: pa.Table, set_aside: pa.Table) -> list[Row]:
    """The newest label of each pair and round of this person that still counts and was given at or after `since`."""
    newest: dict[tuple[str, str], Row] = {}
    for row in without_set_aside(labels, set_aside).to_pylist():
        if row["annotator"] == config.annotator and config.round in ("", row["round"]):
            newest[row["pair_id"], row["round"]] = row
    since = config.moment
    return [row for _, row in sorted(newest.items()) if since is None or row["annotated_at"] >= since]


def move(config: SendBackConfig, tasks: pa.Table, labels: pa.Table, set_aside: pa.Table) -> Spread:
    """Give the pairs of this person that were set aside, and are still with them, to others. Gold pairs stay."""
    gone = {(row["pair_id"], row["round"]) for row in set_aside.to_pylist() if row["annotator"] == config.annotator}
    seen: dict[str, set[str]] = {}
    for row in labels.to_pylist():
        seen.setdefault(row["pair_id"], set()).add(row["annotator"])
    labelled: set[Key] = {(row["pair_id"], row["round"], row["annotator"]) for row in labels.to_pylist()}
    total = Spread(tasks, 0, 0, [])
    for round_ in ROUNDS:
        rows = [
            row
            for row in total.tasks.to_pylist()
            if (row["round"], row["annotator"]) == (round_, config.annotator)
            and (row["pair_id"], round_) in gone
            and not row["is_gold"]
        ]
        takers = takers_of(config.others, total.tasks, round_, config.annotator)
        one = spread(total.tasks, rows, takers, labelled, seen)
        total = Spread(one.tasks, total.moved + one.moved, total.dropped + one.dropped, total.stuck + one.stuck)
    return total


def _rows(config: SendBackConfig, chosen: Collection[Row]) -> pa.Table:
    names = ("pair_id", "round", "annotator", "label", "annotated_at")
    told: dict[str, Any] = {"set_aside_at": datetime.now(UTC), "by": config.by or getpass.getuser(), "why": config.why}
    return table_of(SET_ASIDE, [{name: row[name] for name in names} | told for row in chosen])


def _nothing(config: SendBackConfig, labels: pa.Table) -> str:
    names = sorted(set(labels["annotator"].to_pylist()))
    since = f" since {config.since}" if config.since else ""
    where = f" in the round {config.round!r}" if config.round else ""
    return (
        f"{config.annotator!r} has no label in {config.split!r}{where}{since} that counts; labels are there of: "
        f"{', '.join(names) or 'nobody'}"
    )
