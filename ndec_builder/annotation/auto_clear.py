"""`ndec annotate auto-clear`: remove what the pre-label calls edited copies from the queues, if a check proves it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ndec_builder.annotation.decisions.clearing import (
    Clearing,
    check_slice,
    clearable,
    slice_pairs,
    votes_without_audit,
)
from ndec_builder.annotation.label_studio import server_snapshot
from ndec_builder.annotation.label_studio.connection import connect_label_studio
from ndec_builder.annotation.label_studio.handover import withdraw_tasks
from ndec_builder.annotation.label_studio.label_sync import pull_labels
from ndec_builder.annotation.label_tables import copy_probabilities, keys
from ndec_builder.annotation.records.given_labels import take_given_labels
from ndec_builder.annotation.records.pair_values import write_pair_values
from ndec_builder.annotation.settings import AutoClearConfig
from ndec_builder.annotation.tables import CLEAR_RECORD, CLEARED_BY_FILE, AnnotationTables
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import CLEARED, table_of
from ndec_builder.core.workspace import Workspace

# 2: one label per pair of the slice, and one more for contradicted pairs; 3: enlarging the slice costs confidence
RESULT_VERSION = 3


def run(config: AutoClearConfig) -> Path:
    """Write cleared.parquet and remove the cleared pairs from the open queues; returns the annotation directory.

    Labelled pairs and the pairs of the slice stay in the queues. First the tasks are deleted in Label Studio, then the
    tables are written: after a kill, the next `push` or `auto-clear` works as usual. Raises NdecError with the reason,
    and changes nothing, if the slice is too small or contradicts.
    """
    record = RunRecord("annotate auto-clear", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    with locked(directory):
        if config.undo:
            for name in ("cleared.parquet", CLEARED_BY_FILE):
                (directory / name).unlink(missing_ok=True)
            say(f"nothing is auto-cleared now; `ndec annotate push --split {config.split}` gives the pairs back")
            record.write(directory, name=CLEAR_RECORD, counts={"pairs": 0})
            return directory
        tables = AnnotationTables(workspace, config.split)
        take_given_labels(tables)
        clearing, chosen = _choose_pairs(config, tables)
        left = _remove_from_queues(config, tables, chosen)
        labelled = set(tables.valid_labels["pair_id"].to_pylist())
        rows = [
            {"pair_id": pair, "probability": value, "above": config.above, "allowed": config.allowed}
            for pair, value in chosen.items()
            if pair not in labelled
        ]
        tables.write("tasks", left)
        server_snapshot.end_handover(directory)
        tables.cleared_by = dict(sorted(copy_probabilities(tables.candidates).items()))  # relearning changes them later
        write_pair_values(tables.directory / CLEARED_BY_FILE, "probability", tables.cleared_by)
        tables.write("cleared", table_of(CLEARED, rows))
        pictures = {pair: tag for table in tables.mined for pair, tag in tables.shown.tags_to_keep(table).items()}
        counts = {"pairs": len(rows), **clearing.as_json()}
        record.write(directory, name=CLEAR_RECORD, counts=counts, pictures=pictures)
    say(
        f"{number_of(len(rows), 'pair')} with P(edited copy) ≥ {clearing.threshold:.4f} are cleared as "
        "edited copies; of "
        f"{number_of(clearing.checked, 'random pair')} among them that annotators labelled, "
        f"{clearing.wrong} are no copies: at most "
        f"{clearing.bound:.2%} are wrong (one-sided 95 %)"
    )
    return directory


def _choose_pairs(config: AutoClearConfig, tables: AnnotationTables) -> tuple[Clearing, dict[str, float]]:
    """The check, and pair_id → P(edited copy) of the pairs it clears. Raises NdecError if it refuses."""
    tables.require_tasks()
    votes, count = votes_without_audit(tables.counting_labels), tables.options.check_pairs
    probabilities = copy_probabilities(tables.candidates)
    clearing = check_slice(probabilities, config.above, count, votes, config.allowed, tables.options.check_sizes)
    if clearing.refused:
        raise NdecError(f"nothing is cleared: {clearing.refused}")
    labelled = set(tables.valid_labels["pair_id"].to_pylist())
    return clearing, clearable(probabilities, clearing, labelled | set(slice_pairs(probabilities, config.above, count)))


def _remove_from_queues(config: AutoClearConfig, tables: AnnotationTables, chosen: dict[str, float]) -> pa.Table:
    """Delete the open tasks of the chosen pairs in Label Studio; returns the tasks table without them.

    Pairs that were labelled up to the last moment stay.
    """
    tasks = tables.tasks.to_pylist()
    rows = [row for row in tasks if row["pair_id"] in chosen and row["round"] == "first"]
    if not rows:
        return tables.tasks
    connection = connect_label_studio(tables.workspace, config.url, config.token_file)
    deleted: set[tuple[str, str]] = set()
    for name in sorted({row["annotator"] for row in rows}):
        own = [row for row in rows if row["annotator"] == name]
        free = withdraw_tasks(tables, connection, ("first", name), own)
        deleted |= {(row["pair_id"], name) for row in free}
    pull_labels(tables, connection)
    labelled = set(tables.valid_labels["pair_id"].to_pylist())
    stays = [key[1] != "first" or (key[0], key[2]) not in deleted or key[0] in labelled for key in keys(tables.tasks)]
    return tables.tasks.filter(pa.array(stays, pa.bool_()))
