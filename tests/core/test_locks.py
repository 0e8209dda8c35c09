"""One writer for each output: the second is told who the first is, and a kill frees the lock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ndec_builder.core import locks
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import is_locked, lock_path, locked

HOLD = """
import sys, time
from pathlib import Path
from ndec_builder.core.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_the_first_is_and_a_kill_frees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "stage" / "out"
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        assert is_locked(output) and not is_locked(tmp_path / "stage" / "other")
        told = rf"process {child.pid} on .*is writing .*stage/out at this moment"
        with pytest.raises(NdecError, match=told), locked(output):
            pass
        with locked(tmp_path / "stage" / "other"):
            pass
        child.kill()
    assert not is_locked(output)
    with locked(output):
        assert is_locked(output)
    assert not output.exists() and lock_path(output).parent == output.parent  # the result folder holds results only


def test_waiting_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "out", wait=True):
            order.append("second")

    with locked(tmp_path / "out"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_what_a_killed_writer_left_half_done_is_removed(tmp_path: Path) -> None:
    (tmp_path / "out" / "shards").mkdir(parents=True)
    stale = [tmp_path / "out" / ".run-x1.partial.json", tmp_path / "out" / "shards" / ".shard-1-x2.partial.npy"]
    stale += [tmp_path / ".table-x3.partial.parquet"]
    kept = [tmp_path / "out" / "run.json", tmp_path / ".other-x4.partial.parquet", tmp_path / "out" / ".partial-notes"]
    for path in [*stale, *kept]:
        path.touch()
    with locked(tmp_path / "out"), locked(tmp_path / "table.parquet"):
        assert not any(path.exists() for path in stale)
        assert all(path.exists() for path in kept[:2])


def test_a_read_only_folder_is_one_paragraph(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write everywhere, nobody may not
    try:
        with pytest.raises(NdecError, match=r"cannot write .*give yourself the right"), locked(tmp_path / "out"):
            pass
    finally:
        os.seteuid(user)
