"""The tables of a split's annotation, as they lie in the workspace."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa

from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LABEL_ROWS, TASKS, conform, table_of
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace


def read_tasks(workspace: Workspace, split: str) -> pa.Table:
    """The tasks table of a split; raises NdecError when nothing was pushed."""
    path = workspace.annotation(split) / "tasks.parquet"
    if not path.is_file():
        raise NdecError(
            f"no pair of the split {split!r} was given to anybody yet ({path} does not exist); "
            f"run `ndec annotate push --split {split} --workspace {workspace.root}` first"
        )
    return conform(read_table(path), TASKS)


def read_labels(workspace: Workspace, split: str) -> pa.Table:
    """The labels pulled so far; an empty table before the first pull."""
    path = workspace.annotation(split) / "labels.parquet"
    if not path.is_file():
        return table_of(LABEL_ROWS, [])
    table = read_table(path)
    for name in ("project", "login"):  # tables written before these were kept
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, LABEL_ROWS.field(name).type))
    return conform(table, LABEL_ROWS)


def latest_labels(labels: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Per pair_id the newest row of each (round, annotator): the last in the table, which is append-only."""
    newest = {(row["pair_id"], row["round"], row["annotator"]): row for row in labels.to_pylist()}
    pairs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (pair_id, _, _), row in sorted(newest.items()):
        pairs[pair_id].append(row)
    return dict(pairs)
