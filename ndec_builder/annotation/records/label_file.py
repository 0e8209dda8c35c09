"""labels.parquet in parts: the table of a large split is never in memory as one piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.annotation.label_tables import compact_schema
from ndec_builder.annotation.records import ledger
from ndec_builder.annotation.records.table_store import dictionary_columns, read_groups
from ndec_builder.core.schemas import LABEL_ROWS, conform

LABELS_IN_MEMORY = compact_schema(LABEL_ROWS)
ADDED = ("project", "login", "pictures")  # columns that older versions lack


def label_parts(directory: Path, start: int = 0) -> Iterator[pa.Table]:
    """The labels of a split from row `start` on (schema LABELS_IN_MEMORY), one row group at a time."""
    ledger.check_present(directory, "labels")
    if (path := directory / "labels.parquet").is_file():
        for part in read_groups(path, dictionary_columns(LABELS_IN_MEMORY), start):
            yield with_columns(part, LABELS_IN_MEMORY, ADDED)


def label_count(directory: Path) -> int:
    """How many rows the labels of a split have."""
    path = directory / "labels.parquet"
    return int(pq.read_metadata(path).num_rows) if path.is_file() else 0


def with_columns(table: pa.Table, schema: pa.Schema, added: tuple[str, ...]) -> pa.Table:
    """The table in this schema. `added`: columns that it may lack; they become null."""
    for column in added:
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows, schema.field(column).type))
    return conform(table, schema)
