"""One writer for each output: the second is told who the first is, and a kill frees the lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndec_builder.core import locks
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import is_locked, lock_path, locked
from ndec_builder.core.storage import _here, write_json

HOLD = """
import sys, time
from pathlib import Path
from ndec_builder.core.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_second_process_is_told_who_the_first_is_and_a_kill_frees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "stage" / "out"
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        assert is_locked(output) and not is_locked(tmp_path / "stage" / "other")
        told = rf"process {child.pid} of .* on .*is writing .*stage/out; wait until it ends"
        with pytest.raises(NdecError, match=told), locked(output):
            pass
        with locked(tmp_path / "stage" / "other"):
            pass
        child.kill()
    assert not is_locked(output)
    with locked(output):
        assert is_locked(output)
    assert lock_path(output).parent == output.parent and not lock_path(output).exists()
    with locked(tmp_path / "new" / "stage" / "out"):
        pass
    assert not (tmp_path / "new").exists()  # nothing is left of a run that made nothing


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


def test_a_file_that_a_running_command_writes_without_the_lock_stays(tmp_path: Path) -> None:
    """`resolve` writes its decisions next to the mined pairs, while `export` takes the lock of `mine` there."""
    (tmp_path / "out").mkdir()
    live = tmp_path / "out" / f".decisions-{_here()}-{os.getppid()}-0a1b2c3d.partial.js"
    live.touch()
    with locked(tmp_path / "out"):
        assert live.exists()


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


def test_a_crowd_is_one_at_a_time(tmp_path: Path) -> None:
    """Lock files come and go, and never do two hold the lock of one output."""
    inside: list[int] = []
    most: list[int] = []

    def enter() -> None:
        for _ in range(5):
            with locked(tmp_path / "out", wait=True):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 30 and max(most) == 1 and list(tmp_path.iterdir()) == []


def test_without_the_right_to_write_a_finished_run_passes_and_a_write_says_so() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        if user == 0:
            os.seteuid(65534)  # root may write everywhere, nobody may not
        try:
            with locked(folder / "out"):
                pass
            with pytest.raises(NdecError, match=r"cannot write .*get permission"), locked(folder / "out"):
                write_json(folder / "out" / "a.json", 1)
        finally:
            os.seteuid(user)


# As another user, after the imports: try to lock an output, and print what happened.
AS_USER = """
import os, sys
from pathlib import Path
from ndec_builder.core import locks
from ndec_builder.core.errors import NdecError
import rich.console
locks._PATIENCE = 0.2
os.umask(int(sys.argv[3], 8))
os.setgroups([]), os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
try:
    with locks.locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
except NdecError as error:
    print(error, flush=True)
"""


def as_user(output: Path, uid: int, umask: str = "022") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", AS_USER, str(output), str(uid), umask],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may write in."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a second user")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize("umask", ["022", "077"])
def test_two_users_of_a_shared_folder_exclude_each_other(shared: Path, umask: str) -> None:
    with as_user(shared / "out", 65534, umask) as first:
        assert said(first) == "held"
        with as_user(shared / "out", 65533, umask) as second:
            told = said(second)
            second.communicate()
        assert f"process {first.pid} of " in told and "is writing" in told
        first.communicate()
    with as_user(shared / "out", 65533, umask) as second:
        assert said(second) == "held"
        second.communicate()
    assert list(shared.iterdir()) == []


@pytest.mark.slow
def test_a_lock_file_of_somebody_else_that_cannot_be_opened_stops_the_command(shared: Path) -> None:
    lock_path(shared / "out").touch(0o600)
    with as_user(shared / "out", 65534) as child:
        told = said(child)
        child.communicate()
    assert "cannot be locked" in told and "a file of user root with the mode 600" in told and "--no-lock" in told


@pytest.mark.slow
def test_a_parent_that_cannot_be_written_does_not_unlock_a_folder_that_can(shared: Path) -> None:
    (shared / "parent" / "out").mkdir(parents=True)
    (shared / "parent" / "out").chmod(0o777)
    with as_user(shared / "parent" / "out", 65534) as child:
        told = said(child)
        child.communicate()
    assert "cannot be locked" in told and "Permission denied" in told


def test_no_lock_is_taken_on_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(NdecError, match=r"out cannot be locked: .*No locks available.*--no-lock"),
        locked(tmp_path / "out"),
    ):
        pass
    monkeypatch.setenv(locks.NO_LOCK, "1")
    with locked(tmp_path / "other"):
        assert not lock_path(tmp_path / "other").exists()


@pytest.mark.parametrize("call", ["open", "flock"])
def test_a_stale_handle_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """On NFS a handle is stale when another machine has removed the file."""
    module = os if call == "open" else fcntl
    real, failures = getattr(module, call), [1, 1]

    def sometimes(*arguments: object, **named: object) -> object:
        if failures and (call == "flock" or str(arguments[0]).endswith(".lock")):
            failures.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(*arguments, **named)

    monkeypatch.setattr(module, call, sometimes)
    with locked(tmp_path / "out"):
        assert not failures and lock_path(tmp_path / "out").exists()


def test_a_handle_that_stays_stale_stops_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(fcntl, "flock", stale)
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    with pytest.raises(NdecError, match=r"cannot be locked: .*Stale file handle"), locked(tmp_path / "out"):
        pass


def test_the_message_names_host_user_and_the_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)
    monkeypatch.setattr(locks.socket, "gethostname", lambda: "first-host")
    monkeypatch.setattr(locks, "user_name", lambda _: "ann")
    words = ["ndec", "mine", "--split", "test", "--top", "50", "--model", "postgresql://ann:secret@db/x"]
    monkeypatch.setattr(sys, "argv", words)
    with locked(tmp_path / "out"):
        monkeypatch.setattr(locks.socket, "gethostname", lambda: "second-host")
        with pytest.raises(NdecError) as refused, locked(tmp_path / "out"):
            pass
        assert json.loads(lock_path(tmp_path / "out").read_text())["host"] == "first-host"
    command = "`ndec mine --split test --top 50 --model postgresql://***@db/x`"
    assert str(refused.value).startswith(f"{command} (process {os.getpid()} of ann on first-host, since ")


def test_a_lock_that_cannot_be_opened_counts_as_held(shared: Path) -> None:
    lock_path(shared / "out").touch(0o600)
    os.seteuid(65534)
    try:
        assert is_locked(shared / "out")
    finally:
        os.seteuid(0)
