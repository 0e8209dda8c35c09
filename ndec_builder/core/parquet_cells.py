"""Single values out of parquet files. A row group is read once and kept, since images are asked for in order."""

from __future__ import annotations

import base64
import binascii
import errno
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ndec_builder.core.access.remote import AbsentError
from ndec_builder.core.addresses import Cell

CACHE_BYTES = 256 << 20  # row groups kept in memory, for each process; the newest one is kept whatever its size
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class CellReader:
    """Reads cells; threads can share it. Row groups used last are kept up to `cache_bytes`."""

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self.cache_bytes = cache_bytes
        self._groups: OrderedDict[tuple[object, ...], pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, cell: Cell) -> bytes:
        """Bytes of one image, stored as binary, as a list with the number of each byte, or as base64 text.

        Raises OSError when file, row group, row or column do not exist or the value is null or none of these.
        """
        column, _, inside = cell.column.partition("[")  # `images[2].bytes`: the third image of a list
        values = self._values(cell.container, cell.row_group, column)
        if cell.row >= len(values):
            raise AbsentError(
                f"row group {cell.row_group} of {cell.container} has {len(values)} rows, not row {cell.row}"
            )
        try:
            value = values[cell.row].as_py()
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise AbsentError(f"{cell.column} cannot be read in that row ({error})") from None
        for name, index in _STEP.findall(f"[{inside}") if inside else ():
            try:
                value = value[int(index)] if index else value[name]
            except (KeyError, IndexError, TypeError):
                raise AbsentError(f"{cell.column} does not exist in that row") from None
        return _as_bytes(value, cell.column)

    def clear(self) -> None:
        """Forget everything: a remote file may have been replaced."""
        with self._lock:
            self._groups.clear()

    def _values(self, container: str, row_group: int, column: str) -> pa.ChunkedArray:
        key = (container, *_version(container), row_group, column)
        with self._lock:  # one reader at a time: two threads would read the same row group twice
            if key not in self._groups:
                self._groups[key] = read_column(container, row_group, column)
                while len(self._groups) > 1 and sum(v.nbytes for v in self._groups.values()) > self.cache_bytes:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
            return self._groups[key]


def _as_bytes(value: Any, column: str) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        if isinstance(value, list) and value:
            return bytes(number & 255 for number in value)  # a language without unsigned bytes stores negative ones
        if isinstance(value, str) and value:
            return base64.b64decode(value.partition(";base64,")[2] or value, altchars=b"-_" if "-" in value else None)
    except (TypeError, ValueError, binascii.Error):
        raise AbsentError(f"{column} holds neither bytes nor base64 in that row") from None
    raise AbsentError(f"{column} is {'empty' if value in (None, '', []) else 'not a binary value'} in that row")


def read_column(container: str, row_group: int, column: str) -> pa.ChunkedArray:
    """One column of one row group; `a.b` is the field b of the struct a. Raises OSError."""
    try:
        with _opened(container) as file:
            parquet = pq.ParquetFile(file)
            if row_group >= parquet.num_row_groups:
                raise AbsentError(f"{container} has {parquet.num_row_groups} row groups, not number {row_group}")
            values = parquet.read_row_group(row_group, columns=[column]).column(0)
        for name in column.split(".")[1:] if pa.types.is_struct(values.type) else ():
            values = pc.struct_field(values, name)
    except (pa.ArrowException, KeyError, IndexError, UnicodeDecodeError) as error:
        raise AbsentError(f"no column {column!r} can be read from {container} ({error})") from None
    return values


def _version(container: str) -> tuple[int, ...]:
    """What differs once a local file was replaced; empty for remote files. Raises OSError."""
    if "://" in container:
        return ()
    status = Path(container).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _opened(container: str) -> Any:
    """An open file. A local name is no address of fsspec, which would read more into `::`. Raises OSError."""
    if "://" not in container:
        if not Path(container).is_file():  # opening a pipe would wait for a writer
            raise FileNotFoundError(errno.ENOENT, "no such regular file", container)
        return Path(container).open("rb")
    import fsspec

    return fsspec.open(container, "rb")


def rows_where(path: Path, column: str, number: int, dictionary: list[str]) -> pa.Table:
    """Rows of a parquet file with this number in a column; row groups without any, by their statistics, are not read.

    The filters of pyarrow do the same with more memory, from a pool that keeps it.
    """
    with pq.ParquetFile(path, read_dictionary=dictionary) as file:
        place, parts = file.schema_arrow.get_field_index(column), [file.schema_arrow.empty_table()]
        for index in range(file.num_row_groups):
            known = file.metadata.row_group(index).column(place).statistics
            if known is None or not known.has_min_max or known.min <= number <= known.max:
                group = file.read_row_group(index, use_threads=False)
                parts.append(group.filter(pc.equal(group[column], number)))
        return pa.concat_tables(parts)
