"""What is believed of a pair before people look at it: the relearnt pre-labels, else those of `ndec prelabel`."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from ndec_builder.core.schemas import PRELABELS, conform
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace

FILE = "prelabels.parquet"
Three = tuple[float, float, float]  # of posterior.CLASSES


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
