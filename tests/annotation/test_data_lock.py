"""One Label Studio per data folder: a second one is refused, on this host and on others."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ndec_builder.annotation.label_studio import data_lock
from ndec_builder.annotation.label_studio.server import LabelStudioServer, state_file
from ndec_builder.core.access.machines import running_system
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json
from support.needs import free_port
from support.processes import fork, server_of_a_killed_owner

ELSEWHERE = '{"host": "other-host", "user": "someone", "process": 7, "url": "http://o", "system": "x", "since": "then"}'


def test_a_server_whose_process_is_not_visible_is_refused_by_name(env: Path, tmp_path: Path) -> None:
    """As seen from a container: the process number in server.json means nothing there."""
    data = tmp_path / "data"
    with LabelStudioServer(data, free_port(), env=env) as server:
        pid = read_json(state_file(data))["pid"]
        state_file(data).unlink()
        expected = rf"already runs on .*process {pid} of user \S+ on {socket.gethostname()}, at {server.url}"
        with pytest.raises(NdecError, match=expected):
            LabelStudioServer(data, free_port(), env=env).start()
    with LabelStudioServer(data, free_port(), env=env):
        pass


@pytest.mark.slow
def test_the_lock_lasts_as_long_as_the_server_not_as_the_command(env: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "stays").touch()  # as a server of an older version, which does not watch its owner
    with server_of_a_killed_owner(data, free_port(), env) as state, pytest.raises(NdecError) as caught:
        data_lock.acquire(data, wait=0)
    assert f"process {state['pid']} of user" in str(caught.value)
    data_lock.release(data_lock.acquire(data, wait=10))


def test_a_holder_on_another_machine_is_believed_until_it_signs_off(tmp_path: Path) -> None:
    """On some network file systems both machines get the lock."""
    data_lock.data_lock(tmp_path).write_text(ELSEWHERE)
    with pytest.raises(NdecError, match=r"process 7 of user someone on other-host.* did not sign off.* delete .*lock"):
        data_lock.acquire(tmp_path, wait=0)
    data_lock.data_lock(tmp_path).unlink()
    data_lock.release(data_lock.acquire(tmp_path, wait=0))


@pytest.mark.parametrize("same", ["host", "system"])
def test_a_holder_that_ended_with_this_machine_or_its_container_is_replaced(tmp_path: Path, same: str) -> None:
    ours = {"host": socket.gethostname(), "system": running_system()}
    other = {"host": "other-host", "system": "x"}[same]
    data_lock.data_lock(tmp_path).write_text(ELSEWHERE.replace(f'"{same}": "{other}"', f'"{same}": "{ours[same]}"'))
    data_lock.release(data_lock.acquire(tmp_path, wait=0))


def test_signing_off_leaves_no_holder(tmp_path: Path) -> None:
    file = data_lock.acquire(tmp_path)
    data_lock.sign(file, 5, "http://here")
    assert data_lock.holder_of(tmp_path)["process"] == 5
    data_lock.release(file)
    assert data_lock.holder_of(tmp_path) == {}


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(data_lock.fcntl, "flock", no_locks)
    with pytest.raises(NdecError, match=r"cannot be locked \(No locks available\)"):
        data_lock.acquire(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_user_is_refused(tmp_path: Path) -> None:
    data_lock.release(data_lock.acquire(tmp_path))
    tmp_path.chmod(0o755)
    pid = fork()
    if pid == 0:
        os.seteuid(65534)
        try:
            data_lock.acquire(tmp_path)
        except NdecError as error:
            os._exit(0 if "cannot be opened (Permission denied)" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
