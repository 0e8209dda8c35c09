"""The tables of a split's annotation, as they lie in the workspace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import (
    CANDIDATES,
    CLEARED,
    GOLD,
    LABEL_ROWS,
    PRELABELS,
    SET_ASIDE,
    TASKS,
    conform,
    table_of,
)
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace

GOLD_ROLE = "gold"  # of the pictures made for gold pairs: no role of the workspace, so that nothing else takes them

FILE = "prelabels.parquet"
Three = tuple[float, float, float]  # of posterior.CLASSES

AUDIT_ROUND = "audit"

CLEARED_BY = "cleared-by.parquet"

Pair = tuple[str, str, str]  # pair_id, query_id, reference_id


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


def read_relearnt(workspace: Workspace, split: str) -> dict[str, Three]:
    """What `ndec annotate relearn` wrote, by pair; empty where it was never run."""
    path = workspace.annotation(split) / FILE
    if not path.is_file():
        return {}
    columns = conform(read_table(path), PRELABELS).to_pydict()
    return {row[0]: row[1:] for row in zip(*columns.values(), strict=True)}


def with_relearnt(table: pa.Table, relearnt: Mapping[str, Three]) -> pa.Table:
    """A candidates table whose prelabel and prelabel_confidence say copy or not as it was relearnt."""
    if not relearnt:
        return table
    labels, confidences = (table[name].to_pylist() for name in ("prelabel", "prelabel_confidence"))
    for row, pair in enumerate(table["pair_id"].to_pylist()):
        if pair in relearnt:
            copy = relearnt[pair][0]
            labels[row], confidences[row] = "edited_copy" if copy >= 0.5 else "hard_negative", max(copy, 1 - copy)
    for name, values in (("prelabel", labels), ("prelabel_confidence", confidences)):
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table


def newest(labels: pa.Table) -> pa.Table:
    """The newest label of each (pair, round, annotator), in the table's order. Gold pairs are left out."""
    labels = labels.filter(pa.array([not gold for gold in labels["is_gold"].to_pylist()], pa.bool_()))
    keys = zip(*(labels[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True)
    last = {key: row for row, key in enumerate(keys)}
    return labels.take(pa.array(sorted(last.values()), pa.int64()))


def copy_probabilities(candidates: Iterable[pa.Table]) -> dict[str, float]:
    """P(edited copy) of the pre-label by pair; pairs without one are left out."""
    found = {}
    for table in candidates:
        columns = (table[name].to_pylist() for name in ("pair_id", "prelabel", "prelabel_confidence"))
        for pair, label, confidence in zip(*columns, strict=True):
            if label is not None and confidence is not None:
                found[pair] = confidence if label == "edited_copy" else 1 - confidence
    return found


def read_cleared(workspace: Workspace, split: str) -> pa.Table:
    """What `ndec annotate auto-clear` discarded (schema CLEARED); empty where it was never run."""
    path = workspace.annotation(split) / "cleared.parquet"
    return conform(read_table(path), CLEARED) if path.is_file() else table_of(CLEARED, [])


def write_cleared_by(directory: Path, probabilities: Mapping[str, float]) -> None:
    """Keep P(edited copy) of all pairs as they were cleared by: relearning later changes what is believed of pairs."""
    columns = {"pair_id": list(probabilities), "probability": list(probabilities.values())}
    write_table(directory / CLEARED_BY, pa.table(columns).sort_by("pair_id"))


def cleared_by(workspace: Workspace, split: str, candidates: Iterable[pa.Table]) -> dict[str, float]:
    """P(edited copy) that the cleared pairs were cleared by; that of today where none were kept."""
    path = workspace.annotation(split) / CLEARED_BY
    if not path.is_file():
        return copy_probabilities(candidates)
    table = read_table(path)
    return dict(zip(table["pair_id"].to_pylist(), table["probability"].to_pylist(), strict=True))


def missing_file(workspace: Workspace) -> Path:
    """Pictures that the page could not show: {"role/image_id": {"reason", "since"}}. Absent while there was none."""
    return workspace.root / "annotation" / "missing_images.json"


def missing_images(workspace: Workspace) -> dict[str, dict[str, str]]:
    path = missing_file(workspace)
    return read_json(path) if path.is_file() else {}
