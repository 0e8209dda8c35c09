"""The tables of a split's annotation, as they lie in the workspace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.prior import read_relearnt, with_relearnt
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, GOLD, LABEL_ROWS, SET_ASIDE, TASKS, conform, table_of
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace

GOLD_ROLE = "gold"  # of the pictures made for gold pairs: no role of the workspace, so that nothing else takes them


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


def read_set_aside(workspace: Workspace, split: str) -> pa.Table:
    """Labels that were sent back (schema SET_ASIDE), oldest first; empty while none was."""
    path = workspace.annotation(split) / "set_aside.parquet"
    return conform(read_table(path), SET_ASIDE) if path.is_file() else table_of(SET_ASIDE, [])


def counting_labels(workspace: Workspace, split: str) -> pa.Table:
    """The labels that count: all but those of (pair, round, annotator) that were set aside."""
    return without_set_aside(read_labels(workspace, split), read_set_aside(workspace, split))


def without_set_aside(labels: pa.Table, set_aside: pa.Table) -> pa.Table:
    """Labels less every row of a (pair, round, annotator) that was set aside: later changes by them count neither."""
    if not set_aside.num_rows:
        return labels
    gone = set(_keys(set_aside))
    return labels.filter(pa.array([key not in gone for key in _keys(labels)], pa.bool_()))


def _keys(table: pa.Table) -> Iterator[tuple[str, str, str]]:
    return zip(*(table[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True)


def gold_images(workspace: Workspace) -> Path:
    """Table (schema IMAGES) of the pictures made for gold pairs."""
    return workspace.root / "images" / "gold.parquet"


def read_gold(workspace: Workspace, split: str) -> pa.Table:
    """Pairs of known truth (schema GOLD); empty while none was made."""
    path = workspace.annotation(split) / "gold.parquet"
    return conform(read_table(path), GOLD) if path.is_file() else table_of(GOLD, [])


def gold_truth(workspace: Workspace, split: str) -> dict[str, str]:
    """The truth of each gold pair by pair_id."""
    gold = read_gold(workspace, split)
    return dict(zip(gold["pair_id"].to_pylist(), gold["truth"].to_pylist(), strict=True))


def no_gold(table: pa.Table) -> pa.Table:
    """Tasks or labels without those of gold pairs: they measure people and decide nothing."""
    if not pc.any(table["is_gold"]).as_py():
        return table
    return table.filter(pc.invert(table["is_gold"]))


def candidate_tables(workspace: Workspace, split: str) -> list[pa.Table]:
    """The mined pairs and those of the second search (schema CANDIDATES); none before mining.

    Their pre-labels are the relearnt ones where there are any.
    """
    tables = [conform(read_table(path), CANDIDATES) for path in workspace.candidate_files(split)]
    if not tables:
        return []
    relearnt = read_relearnt(workspace, split)
    return [with_relearnt(table, relearnt) for table in tables]


def latest_labels(labels: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Per pair_id the newest row of each (round, annotator): the last in the table, which is append-only."""
    newest = {(row["pair_id"], row["round"], row["annotator"]): row for row in labels.to_pylist()}
    pairs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (pair_id, _, _), row in sorted(newest.items()):
        pairs[pair_id].append(row)
    return dict(pairs)
