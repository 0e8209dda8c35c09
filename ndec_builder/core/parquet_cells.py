"""Single values out of parquet files: the row group is read once and kept, since images are asked for in order."""

from __future__ import annotations

import threading
from collections import OrderedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ndec_builder.core.addresses import Cell
from ndec_builder.core.remote import AbsentError

CACHE_BYTES = 256 << 20  # row groups kept in memory, for each process; the newest one stays whatever its size


class CellReader:
    """Reads cells; safe to share between threads. Row groups used last are kept up to `cache_bytes`."""

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self.cache_bytes = cache_bytes
        self._groups: OrderedDict[tuple[str, int, str], pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, cell: Cell) -> bytes:
        """Raises OSError when file, row group, row or column are not there or the value is null or no bytes."""
        values = self._values(cell)
        if cell.row >= len(values):
            raise AbsentError(
                f"row group {cell.row_group} of {cell.container} has {len(values)} rows, not row {cell.row}"
            )
        value = values[cell.row].as_py()
        if not isinstance(value, bytes):
            raise AbsentError(f"{cell.column} is {'empty' if value is None else 'no binary value'} in that row")
        return value

    def _values(self, cell: Cell) -> pa.ChunkedArray:
        key = (cell.container, cell.row_group, cell.column)
        with self._lock:  # one reader at a time: two threads would read the same row group twice
            if key not in self._groups:
                self._groups[key] = read_column(cell.container, cell.row_group, cell.column)
                while len(self._groups) > 1 and sum(v.nbytes for v in self._groups.values()) > self.cache_bytes:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
            return self._groups[key]


def read_column(container: str, row_group: int, column: str) -> pa.ChunkedArray:
    """One column of one row group; `a.b` is the field b of the struct a. Raises OSError."""
    import fsspec

    try:
        with fsspec.open(container, "rb") as file:
            parquet = pq.ParquetFile(file)
            if row_group >= parquet.num_row_groups:
                raise AbsentError(f"{container} has {parquet.num_row_groups} row groups, not number {row_group}")
            values = parquet.read_row_group(row_group, columns=[column]).column(0)
        for name in column.split(".")[1:] if pa.types.is_struct(values.type) else ():
            values = pc.struct_field(values, name)
    except (pa.ArrowException, KeyError, IndexError, UnicodeDecodeError) as error:
        raise AbsentError(f"no column {column!r} can be read from {container} ({error})") from None
    return values
