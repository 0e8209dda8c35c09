"""One Label Studio on a data folder, across users, containers and machines: a lock that the server's process holds.

The lock (`flock`) is inherited by the server, so it ends with the server even if the `ndec` that started it was killed.
Some network file systems keep such locks on each machine. The file therefore also names its holder, and a holder on
another running system is believed until it signs off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from ndec_builder.core.access.machines import is_elsewhere, running_system, user_name
from ndec_builder.core.errors import NdecError


def data_lock(data: Path) -> Path:
    return data / "server.lock"


def acquire(data: Path, wait: float = 1.0) -> TextIO:
    """Lock the data folder; returns the open file, which holds the lock. Write the holder with `sign`.

    Waits `wait` seconds for a server that is exiting. Raises NdecError naming host, user and process of the holder, or
    when the folder cannot be locked: two servers on one database lose labels.
    """
    path = data_lock(data)
    deadline = time.monotonic() + wait
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8")
    except OSError as error:
        raise NdecError(
            f"{path} cannot be opened ({error.strerror}), so ndec cannot know whether another Label Studio runs on "
            f"{data}; run this as the user who owns that folder"
        ) from None
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            holder = holder_of(data)
            file.close()
            raise NdecError(
                f"a Label Studio already runs on {data}: {describe(holder)}; use that one, or stop it there with `ndec "
                "annotate stop`"
            ) from None
        except OSError as error:
            file.close()
            raise NdecError(
                f"{path} cannot be locked ({error.strerror}), so ndec cannot keep a second Label Studio off {data}; "
                "put the workspace on a file system with locks, or use PostgreSQL"
            ) from None
    holder = holder_of(data)
    if holder and is_elsewhere(holder):
        file.close()
        raise NdecError(
            f"a Label Studio may still run on {data}: {describe(holder)} did not sign off, and locks may not reach "
            f"from there to here; stop it there with `ndec annotate stop`, or, if it no longer runs, delete {path}"
        )
    return file


def sign(file: TextIO, process: int, url: str) -> None:
    """Write into the lock file who holds it."""
    holder = {
        "host": socket.gethostname(), "user": user_name(os.geteuid()), "process": process, "url": url,
        "system": running_system(), "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }  # fmt: skip
    _write(file, json.dumps(holder))


def release(file: TextIO) -> None:
    """Sign off and unlock."""
    with contextlib.suppress(OSError):  # a full disk
        _write(file, "")
    file.close()


def holder_of(data: Path) -> dict[str, Any]:
    """Who holds, or held, the lock; empty after signing off."""
    try:
        found = json.loads(data_lock(data).read_text("utf-8") or "{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def describe(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return (
        f"process {holder.get('process')} of user {holder.get('user')} on {holder.get('host')}, at "
        f"{holder.get('url')}, since {holder.get('since')}"
    )


def _write(file: TextIO, text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
