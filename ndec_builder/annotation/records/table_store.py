"""Large tables: kept outside memory until they are needed again, and written in pieces."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.core.executor.memory import return_large_blocks, use_few_arenas
from ndec_builder.core.storage import GROUP_ROWS, atomic_path, refuse_newer, unreadable_table, write_error

_IN_MEMORY = 2**20  # bytes; small tables need no file


@dataclass(frozen=True, slots=True)
class StoredTable:
    """Where a table is in its TableStore."""

    start: int
    size: int
    rows: int


class TableStore:
    """Tables in one temporary file without a name, so that a killed process leaves nothing; in memory up to 1 MiB.

    The space of a table that is no longer needed is not used again. Raises WriteError if TMPDIR is full.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115

    def put(self, table: pa.Table) -> StoredTable:
        """Store a table of any schema."""
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(unify_dictionaries=True, compression="lz4")
        with pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        data = sink.getvalue()
        try:
            start = self._file.seek(0, 2)
            self._file.write(data)
        except OSError as error:
            raise write_error(Path(tempfile.gettempdir()) / "tables", error) from error
        return StoredTable(start, data.size, table.num_rows)

    def get(self, stored: StoredTable) -> pa.Table:
        """Read a table that was stored here; it has the same schema and rows."""
        self._file.seek(stored.start)
        return pa.ipc.open_file(pa.py_buffer(self._file.read(stored.size))).read_all()


@contextlib.contextmanager
def memory_returned() -> Iterator[None]:
    """Inside, Arrow's memory comes from the C library, which returns what is freed. Arrow's pool keeps much.

    Few arenas: a pull of a million labels had 459 MiB with those of every thread, and 430 with two.
    """
    before = pa.default_memory_pool()
    return_large_blocks()
    use_few_arenas()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def dictionary_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns that are dictionary-encoded."""
    return [field.name for field in schema if pa.types.is_dictionary(field.type)]


def read_groups(path: Path, dictionary: Sequence[str] = (), start: int = 0) -> Iterator[pa.Table]:
    """The rows of a parquet file from `start` on, one row group at a time. Raises NdecError like `read_table`.

    dictionary: text columns that stay dictionary-encoded in memory, if the file has them.
    """
    try:
        present = set(pq.read_schema(path).names)  # of a column that is absent, read_dictionary makes a KeyError
        with pq.ParquetFile(path, read_dictionary=[name for name in dictionary if name in present]) as file:
            refuse_newer(file.schema_arrow, path)
            for index in range(file.num_row_groups):
                rows = file.metadata.row_group(index).num_rows
                if start < rows:
                    yield file.read_row_group(index, use_threads=False).slice(max(start, 0))
                start -= rows
    except (pa.ArrowException, OSError) as error:
        raise unreadable_table(path, error) from None


def write_tables(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> Path:
    """Write tables as one parquet file, with the bytes that `write_table` gives; one row group at a time is encoded.

    Dictionary-encoded columns are written as plain ones.
    """
    plain = pa.schema([_plain(field) for field in schema], schema.metadata)
    rows, waiting = 0, schema.empty_table()
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, plain, compression="zstd") as writer:

        def write(table: pa.Table) -> None:
            writer.write_table(table.cast(plain), row_group_size=GROUP_ROWS)

        for table in tables:
            rows, waiting = rows + table.num_rows, pa.concat_tables([waiting, table])
            full = waiting.num_rows // GROUP_ROWS * GROUP_ROWS
            for start in range(0, full, GROUP_ROWS):
                write(waiting.slice(start, GROUP_ROWS))
            waiting = waiting.slice(full)
        if waiting.num_rows or not rows:
            write(waiting)
    return path


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
