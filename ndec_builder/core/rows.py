"""Tables as Python objects, row by row."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pyarrow as pa


def as_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values as `to_pylist` gives them, in order. Times in UTC are read many times as fast.

    For each time with a zone pyarrow 24 imports pytz again, and Python looks through all folders of packages if it is
    not installed; pandas 3 no longer installs it. pyarrow 26 does not.
    """
    if not (pa.types.is_timestamp(column.type) and column.type.tz == "UTC"):
        return column.to_pylist()
    local = column.cast(pa.timestamp(column.type.unit)).to_pylist()
    return [moment and moment.replace(tzinfo=UTC) for moment in local]


def as_rows(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows as dicts by column, in order: `to_pylist` with `as_values`. Not for columns of the same name."""
    if not table.num_columns:
        return [{} for _ in range(table.num_rows)]
    columns = [as_values(column) for column in table.columns]
    return [dict(zip(table.schema.names, cells, strict=True)) for cells in zip(*columns, strict=True)]
