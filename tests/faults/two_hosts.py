"""Simulated people on simulated machines: a forked command becomes a user on a host, with that host's clock and locks.

A host is a name, a boot id and a wall clock. Name and boot id are those of Linux namespaces; the clock is what Python
reports. `separate`: the shared folder looks like a network file system whose locks do not reach from one host to the
other. Needs root and the right to make namespaces.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

GROUP = 40_000  # of the shared folder
_NEW_MOUNTS, _NEW_NAME = 0x0002_0000, 0x0400_0000
_BIND, _PRIVATE = 4096, 0x4000 | 0x40000
_SET_DUMPABLE, _OPEN_FILE_LOCK = 4, 37


@dataclass
class Actor:
    """Somebody who runs commands: a uid on a host. `late`: seconds by which the host's clock is wrong."""

    name: str
    uid: int
    host: str
    place: int  # of the host, for its locks
    late: float = 0.0

    @property
    def shown(self) -> str:
        """As refusals name the actor."""
        return f"uid {self.uid} on {self.host}"

    def become(self, folder: Path, separate: bool) -> None:
        """Called in the forked process, before the command. `folder`: for the files that describe the host."""
        _call("unshare", _NEW_MOUNTS | _NEW_NAME)
        _call("mount", b"none", b"/", None, _PRIVATE, None)
        socket.sethostname(self.host)
        boot = folder / f"boot-{self.host}"
        boot.write_text(f"{self.host}\n")
        _call("mount", bytes(boot), b"/proc/sys/kernel/random/boot_id", None, _BIND, None)
        _let_everyone_read(Path(sys.base_prefix))
        if separate:
            _separate(folder, self.place)
        if self.late:
            set_clock(self.late)
        os.setgroups([GROUP])
        os.setgid(GROUP)
        os.setuid(self.uid)
        os.umask(0o002)
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # a new user may not read /proc/self otherwise


def available() -> str:
    """Empty if users and hosts can be simulated here, else the reason why not."""
    if os.geteuid() != 0:
        return "only root can become two users"
    child = os.fork()
    if child == 0:
        os._exit(ctypes.CDLL(None).unshare(_NEW_MOUNTS | _NEW_NAME) and 1)
    return "" if os.waitpid(child, 0)[1] == 0 else "namespaces cannot be made here"


def set_clock(late: float) -> None:
    """The wall clock of Python's datetime, in ndec's modules, is wrong by so many seconds."""
    import datetime as module

    class Late(module.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return module.datetime.now(tz) + timedelta(seconds=late)

    for name, loaded in list(sys.modules.items()):
        if name.startswith("ndec_builder") and getattr(loaded, "datetime", None) is module.datetime:
            loaded.datetime = Late  # type: ignore[attr-defined]


def _call(name: str, *arguments: Any) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name} {arguments}")


def _let_everyone_read(folder: Path) -> None:
    """Python may be in the home of root: hide that home, in this process, behind a folder that has only Python."""
    closed = next((p for p in reversed(folder.parents) if not p.stat().st_mode & 1), None)
    if closed is None:
        return
    handle = os.open(folder, os.O_PATH)
    _call("mount", b"none", bytes(closed), b"tmpfs", 0, b"mode=755")
    folder.mkdir(parents=True)
    _call("mount", f"/proc/self/fd/{handle}".encode(), bytes(folder), None, _BIND, None)
    os.close(handle)


def _separate(folder: Path, place: int) -> None:
    """`flock` locks one byte of the file for each host, and /proc says that the folder comes from another machine."""
    from ndec_builder.core.access import machines

    machines.MOUNTS = folder / "mounts"
    machines.MOUNTS.write_text(f"21 1 0:2 / {folder} rw - fuse.sshfs server:/x rw\n")

    def flock(handle: Any, how: int) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        kind = fcntl.F_RDLCK if how & fcntl.LOCK_SH else fcntl.F_WRLCK
        fcntl.fcntl(number, _OPEN_FILE_LOCK, struct.pack("hhqqi4x", kind, 0, place, 1, 0))

    fcntl.flock = flock  # type: ignore[assignment]
