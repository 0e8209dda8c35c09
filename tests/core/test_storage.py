from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import (
    atomic_path,
    fingerprint,
    read_json,
    read_rows,
    read_table,
    read_uri,
    remove_abandoned,
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


@pytest.mark.slow
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


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9))
def test_rows_of_a_table_without_the_rest(
    tmp_path_factory: pytest.TempPathFactory, start: int, length: int, group: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "t.parquet"
    pq.write_table(pa.table({"a": range(25)}), path, row_group_size=group)
    assert read_rows(path, start, start + length)["a"].to_pylist() == list(range(25))[start : start + length]


def test_no_room_is_one_paragraph_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the same system calls fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(
            NdecError, match=r"cannot write .*a\.json: File too large.*free some space and run the same"
        ):
            write_json(tmp_path / "a.json", "x" * 20_000)
        with (
            pytest.raises(NdecError, match=r"cannot write .*b\.npy: .*free some space"),
            atomic_path(tmp_path / "b.npy") as b,
        ):
            np.save(b, np.zeros(20_000))
        table = pa.table({"a": np.random.default_rng(0).random(20_000)})
        with pytest.raises(NdecError, match=r"cannot write .*c\.parquet: .*free some space"):
            write_table(tmp_path / "c.parquet", table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NdecError, match=r"cannot write .*file/a\.json: .*run the same command again"):
        write_json(tmp_path / "file" / "a.json", 1)


@pytest.mark.slow
def test_what_dead_processes_left_is_removed_and_what_living_ones_write_stays(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from ndec_builder.core.storage import atomic_path\n"
    code += "with atomic_path(Path(sys.argv[1])) as path: print(path, flush=True); os.kill(os.getpid(), 9)"
    dead = [tmp_path / "table.parquet", tmp_path / "deep" / "table.parquet"]
    left = [
        Path(subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True).stdout.strip())
        for path in dead
    ]
    foreign = tmp_path / ".table-00000000-1-abcdefgh.partial.parquet"  # of another machine that shares the folder
    foreign.touch()
    assert all(path.is_file() for path in left)
    with atomic_path(tmp_path / "table.parquet") as own:
        remove_abandoned(tmp_path)
        assert not left[0].exists() and left[1].exists() and own.exists() and foreign.exists()
        remove_abandoned(tmp_path, below=True)
        assert not left[1].exists() and own.exists() and foreign.exists()
    remove_abandoned(tmp_path / "nothing")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660), (0o027, 0o640)])
def test_the_umask_says_who_may_read_a_result(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "labels.json", 1)
        write_table(tmp_path / "labels.parquet", pa.table({"a": [1]}))
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in sorted(tmp_path.iterdir())] == [mode, mode]
