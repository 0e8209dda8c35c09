"""Locks between machines: two simulated machines whose `flock` does not reach from one to the other."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core import locks
from ndec_builder.core.access import machines
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import is_locked, lock_path, locked

MOUNTS = "21 1 0:2 / / rw - ext4 /dev/vda rw\n22 21 0:3 / {place} rw,relatime - {kind} {device} {options}\n"


class Machines:
    """Switches between machines: each has a name and a boot id, and sees no locks of another."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch, self.name = folder, monkeypatch, ""
        monkeypatch.setattr(locks, "_PATIENCE", 0.0)
        monkeypatch.setattr(locks, "_SETTLE", 0.0)
        monkeypatch.setattr(socket, "gethostname", lambda: self.name)
        monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # nobody else on that machine locks
        self.mount("fuse.sshfs")
        self.be("one")

    def be(self, name: str) -> None:
        self.name = name
        (self.folder / name).write_text(f"boot-{name}\n")
        self.patch.setattr(machines, "BOOT_ID", self.folder / name)

    def mount(self, kind: str, device: str = "server:/x", options: str = "rw") -> None:
        text = MOUNTS.format(place=self.folder / "shared", kind=kind, device=device, options=options)
        (self.folder / "mounts").write_text(text)
        self.patch.setattr(machines, "MOUNTS", self.folder / "mounts")


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    (tmp_path / "shared").mkdir()
    yield Machines(tmp_path, monkeypatch)


@contextmanager
def refused() -> Iterator[list[str]]:
    found: list[str] = []
    with pytest.raises(NdecError) as error:
        yield found
    found.append(str(error.value))


def test_a_writer_on_another_machine_is_believed_where_locks_do_not_reach(two: Machines) -> None:
    output = two.folder / "shared" / "out"
    with locked(output):
        two.be("two")
        assert is_locked(output)
        with refused() as said, locked(output):
            pass
        two.be("one")
    assert f"process {os.getpid()} of {machines.user_name(os.geteuid())} on one, since " in said[0]
    assert f"if it no longer runs, delete {lock_path(output)}" in said[0]
    two.be("two")
    assert not is_locked(output)
    with locked(output):
        pass


def test_a_writer_that_was_killed_on_another_machine_is_replaced_by_hand(two: Machines) -> None:
    output = two.folder / "shared" / "out"
    holder = {"pid": 7, "host": "one", "system": "boot-one", "user": "ann", "command": "ndec mine", "since": "today"}
    lock_path(output).write_text(json.dumps(holder))
    two.be("two")
    with refused() as said, locked(output):
        pass
    assert "`ndec mine` (process 7 of ann on one, since today) may still be writing" in said[0]
    two.be("one")  # its own locks are known here: they end with the process
    with locked(output):
        pass
    assert not lock_path(output).exists()


def test_two_machines_that_write_their_names_at_once_are_not_both_writers(
    two: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = two.folder / "shared" / "out"

    def other_machine(_: float) -> None:
        lock_path(output).write_text(json.dumps({"pid": 7, "host": "two", "system": "boot-two"}))

    monkeypatch.setattr(locks.time, "sleep", other_machine)
    with refused() as said, locked(output):
        pass
    assert "another process may still be writing" in said[0]


@pytest.mark.parametrize(
    ("kind", "device", "options", "reaches"),
    [
        ("ext4", "/dev/vdb", "rw", True),
        ("tmpfs", "tmpfs", "rw", True),
        ("overlay", "overlay", "rw,lowerdir=/x", True),
        ("nfs4", "server:/x", "rw,vers=4.2,local_lock=none", True),
        ("nfs", "server:/x", "rw,vers=3,local_lock=flock", False),
        ("nfs", "server:/x", "rw,vers=3,nolock,local_lock=all", False),
        ("lustre", "10.0.0.1@tcp:/x", "rw,flock", True),
        ("lustre", "10.0.0.1@tcp:/x", "rw,localflock", False),
        ("ceph", "1.2.3.4:/", "rw", True),
        ("fuse.sshfs", "server:/x", "rw", False),
        ("cifs", "//server/x", "rw", False),
        ("9p", "share", "rw", False),
        ("virtiofs", "share", "rw", False),
        ("fuseblk", "/dev/sdb", "rw", False),
    ],
)
def test_where_locks_reach(two: Machines, kind: str, device: str, options: str, reaches: bool) -> None:
    two.mount(kind, device, options)
    assert machines.locks_reach(two.folder / "shared" / "x" / ".out.lock") is reaches
    assert machines.locks_reach(two.folder / "elsewhere")  # the disk that holds the mount point


def test_where_locks_reach_is_not_assumed_without_a_list_of_mounts(
    two: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "MOUNTS", two.folder / "missing")
    assert not machines.locks_reach(two.folder / "shared")


def test_a_killed_writer_on_another_machine_is_replaced_where_locks_reach(two: Machines) -> None:
    two.mount("nfs4", options="rw,local_lock=none")
    holder: dict[str, Any] = {"pid": 7, "host": "one", "system": "boot-one"}
    output = two.folder / "shared" / "out"
    lock_path(output).write_text(json.dumps(holder))
    two.be("two")
    assert not is_locked(output)
    with locked(output):
        pass


def test_the_user_is_not_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody")
    assert machines.user_name(0) == "root"
    assert machines.user_name(4_000_001) == "uid 4000001"
