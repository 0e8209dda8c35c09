"""`ndec annotate auto-clear`: what the pre-label calls edited copies leaves people's queues, where that is proven."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ndec_builder.annotation.decisions.clearing import Clearing, check, clearable, slice_pairs, votes_in
from ndec_builder.annotation.label_studio import server_snapshot
from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.handover import withdraw_tasks
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.push_options import read_told
from ndec_builder.annotation.settings import AutoClearConfig
from ndec_builder.annotation.tables import (
    CLEARED_BY,
    candidate_tables,
    copy_probabilities,
    counting_labels,
    read_labels,
    read_tasks,
    write_cleared_by,
)
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import CLEARED, TASKS, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 2  # 2: one judge a pair of the slice, contradictions are asked after


def run(config: AutoClearConfig) -> Path:
    """Write cleared.parquet and take the cleared pairs out of the open queues; returns the annotation directory.

    Pairs that somebody has labelled and the pairs of the slice stay with people. Their tasks leave Label Studio first,
    then the tables are written: killed anywhere, the next `push` or `auto-clear` finds all in order. Raises NdecError
    with the reason when the slice is too small or contradicts; then nothing is changed.
    """
    record = RunRecord("annotate auto-clear", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    with locked(directory):
        if config.undo:
            for name in ("cleared.parquet", CLEARED_BY):
                (directory / name).unlink(missing_ok=True)
            say(f"nothing is auto-cleared now; `ndec annotate push --split {config.split}` gives the pairs to people")
            record.write(directory, name="auto-clear.run.json", counts={"pairs": 0})
            return directory
        clearing, chosen = _choose(config, workspace)
        tasks = _take_out(config, workspace, chosen)
        labelled = set(read_labels(workspace, config.split)["pair_id"].to_pylist())
        rows = [
            {"pair_id": pair, "probability": value, "above": config.above, "allowed": config.allowed}
            for pair, value in chosen.items()
            if pair not in labelled
        ]
        write_table(directory / "tasks.parquet", tasks)
        server_snapshot.end_handover(directory)
        write_cleared_by(directory, copy_probabilities(candidate_tables(workspace, config.split)))
        write_table(directory / "cleared.parquet", table_of(CLEARED, rows))
    say(
        f"{len(rows)} pairs with P(edited copy) ≥ {clearing.threshold:.4f} are cleared as edited copies; of "
        f"{clearing.checked} random pairs there that people judged {clearing.wrong} are none: at most "
        f"{clearing.bound:.2%} are wrong (one-sided 95 %)"
    )
    record.write(directory, name="auto-clear.run.json", counts={"pairs": len(rows), **clearing.as_json()})
    return directory


def _choose(config: AutoClearConfig, workspace: Workspace) -> tuple[Clearing, dict[str, float]]:
    """The check and the pairs it clears. Raises NdecError when it refuses."""
    read_tasks(workspace, config.split)  # says what to do where there are none
    votes = votes_in(counting_labels(workspace, config.split))
    count = read_told(workspace.annotation(config.split)).check_pairs
    probabilities = copy_probabilities(candidate_tables(workspace, config.split))
    clearing = check(probabilities, config.above, count, votes, config.allowed)
    if clearing.refused:
        raise NdecError(f"nothing is cleared: {clearing.refused}")
    stay = set(read_labels(workspace, config.split)["pair_id"].to_pylist())
    return clearing, clearable(probabilities, clearing, stay | set(slice_pairs(probabilities, config.above, count)))


def _take_out(config: AutoClearConfig, workspace: Workspace, chosen: dict[str, float]) -> pa.Table:
    """Take the chosen pairs' open tasks out of Label Studio; returns the tasks table without them.

    What was labelled up to the last moment stays.
    """
    tasks = read_tasks(workspace, config.split)
    rows = [row for row in tasks.to_pylist() if row["pair_id"] in chosen and row["round"] == "first"]
    if not rows:
        return tasks
    connection = connect_label_studio(workspace, config.url, config.token_file)
    gone: set[tuple[str, str]] = set()
    for name in sorted({row["annotator"] for row in rows}):
        own = [row for row in rows if row["annotator"] == name]
        free = withdraw_tasks(workspace, config.split, connection, ("first", name), own)
        gone |= {(row["pair_id"], name) for row in free}
    pull_labels(workspace, config.split, connection)
    labelled = set(read_labels(workspace, config.split)["pair_id"].to_pylist())
    left = [
        row
        for row in tasks.to_pylist()
        if (row["pair_id"], row["annotator"]) not in gone or row["round"] != "first" or row["pair_id"] in labelled
    ]
    return table_of(TASKS, left)
