"""One writer for each output: an advisory lock beside it, which the system frees when the process dies.

`flock` also holds across machines on NFS (Linux maps it to a lock of the server). Lock files stay where they are:
removing one would let two processes lock two files of one name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import remove_partials, write_error

PATIENCE = 1.0  # seconds: `ndec status` holds a lock for an instant, and a killed process needs one to be gone


def lock_path(output: Path) -> Path:
    """Beside the output, never in it: a result folder is shipped as it is."""
    return output.parent / f".{output.name}.lock"


@contextlib.contextmanager
def locked(output: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only writer of a file or folder, and remove what a killed writer left half done there.

    Raises NdecError, naming the process, when another one is; with `wait` waits for its end instead.
    """
    path = lock_path(output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")  # "w" would wipe the holder's name
    except OSError as error:
        raise write_error(output, error) from error
    with file:
        _acquire(file, output, wait)
        file.truncate(0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": _command(), "since": _now()}
        with contextlib.suppress(OSError):  # a full disk: the lock holds without its name
            file.write(json.dumps(holder))
            file.flush()
        remove_partials(output)
        yield


def is_locked(output: Path) -> bool:
    """Whether some process is writing an output now."""
    try:
        with lock_path(output).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock file, or a file system without locks
        return False
    return False


def _acquire(file: Any, output: Path, wait: bool) -> None:
    started, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not wait and time.monotonic() - started > PATIENCE:
                raise NdecError(_busy(file, output)) from None
        except OSError as error:
            say(f"{output.parent} cannot be locked ({error.strerror}); see to it that only one command writes {output}")
            return
        if wait and not told and time.monotonic() - started > PATIENCE:
            say(f"waiting for another process that makes {output}")
            told = True
        time.sleep(0.05)


def _busy(file: Any, output: Path) -> str:
    try:
        file.seek(0)
        holder = json.loads(file.read())
        who = f"`{holder['command']}` (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return f"{who} is writing {output} at this moment; wait for its end, or stop it, then run this again"


def _command() -> str:
    name = Path(sys.argv[0]).name if sys.argv else "python"
    return " ".join(["ndec" if name in ("__main__.py", "ndec") else name, *sys.argv[1:3]])


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
