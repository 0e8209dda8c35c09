from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import (
    atomic_path,
    fingerprint,
    read_json,
    read_table,
    read_uri,
    sha256_file,
    write_json,
    write_table,
)


def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_killed_while_writing_the_old_file_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "big.json"
    write_json(target, {"version": 0})
    script = (
        "import sys; from pathlib import Path; from ndec_builder.core.storage import write_json\n"
        "n = 0\nwhile True:\n    n += 1; write_json(Path(sys.argv[1]), {'version': n, 'load': 'x' * 200000})\n"
    )
    for delay in (0.30, 0.37, 0.45):
        child = subprocess.Popen([sys.executable, "-c", script, str(target)])
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert "version" in json.loads(target.read_text())


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.none() | st.lists(st.text(max_size=3)), max_size=5))
def test_fingerprint_ignores_the_order_of_keys_and_nothing_else(value: dict[str, object]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(list(value.items()))))
    assert fingerprint(value) != fingerprint({**value, "one more": 1})


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2, None], "b": ["x", None, "z"]})
    write_table(tmp_path / "1.parquet", table)
    write_table(tmp_path / "2.parquet", table)
    assert sha256_file(tmp_path / "1.parquet") == sha256_file(tmp_path / "2.parquet")
    assert read_table(tmp_path / "1.parquet").equals(table)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NdecError, match="does not exist"):
        read_table(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(NdecError, match=r"bad\.parquet cannot be read"):
        read_table(tmp_path / "bad.parquet")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(NdecError, match=r"bad\.json is not JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "nan.json", float("nan"))


def test_uris_are_read_locally_and_through_fsspec(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"123")
    assert read_uri(str(tmp_path / "a.bin")) == read_uri(f"file://{tmp_path}/a.bin") == b"123"
