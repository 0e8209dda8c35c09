"""Tables outside memory, and parquet files that are written in pieces."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.annotation.records import table_store
from ndec_builder.annotation.records.table_store import TableStore, write_tables
from ndec_builder.core import storage
from ndec_builder.core.storage import WriteError, read_table, write_table

PLAIN = pa.schema([("name", pa.string()), ("value", pa.int32())], metadata={"ndec_table": "x"})
ENCODED = PLAIN.set(0, PLAIN.field(0).with_type(pa.dictionary(pa.int32(), pa.string())))
_PARTS = st.lists(st.lists(st.tuples(st.sampled_from(["a", "bb", None]), st.integers(0, 9)), max_size=9), max_size=4)
_Parts = list[list[tuple[str | None, int]]]


def tables_of(parts: _Parts) -> list[pa.Table]:
    rows = ([{"name": name, "value": value} for name, value in part] for part in parts)
    return [pa.Table.from_pylist(part, schema=PLAIN) for part in rows]


@pytest.mark.slow
@given(_PARTS, st.integers(1, 7), st.booleans())
def test_pieces_give_the_bytes_of_one_plain_table(parts: _Parts, group: int, encoded: bool) -> None:
    tables = tables_of(parts)
    schema = ENCODED if encoded else PLAIN
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for module in (storage, table_store):
            patch.setattr(module, "GROUP_ROWS", group)
        whole = pa.concat_tables([PLAIN.empty_table(), *tables])
        one = write_table(Path(folder) / "one.parquet", whole)
        many = write_tables(Path(folder) / "many.parquet", schema, (table.cast(schema) for table in tables))
        assert one.read_bytes() == many.read_bytes()
        assert read_table(many, dictionary=["name"]).cast(PLAIN).equals(whole)


@pytest.mark.slow
@given(_PARTS, st.sampled_from([1, 300, 10**6]))
def test_a_stored_table_comes_back_whatever_was_stored_in_between(parts: _Parts, in_memory: int) -> None:
    tables = [table.cast(ENCODED) for table in tables_of(parts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_store, "_IN_MEMORY", in_memory)
        store = TableStore()
        stored = [store.put(table) for table in tables]
        assert [one.rows for one in stored] == [table.num_rows for table in tables]
        for one, table in reversed([*zip(stored, tables, strict=True)]):
            found = store.get(one)
            assert found.schema.equals(ENCODED, check_metadata=True)
            assert found.to_pylist() == table.to_pylist()


def test_a_full_disk_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TableStore()

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._file, "write", full)
    with pytest.raises(WriteError, match=r"No space left on device.*free some space"):
        store.put(tables_of([[("a", 1)]])[0])
