"""One writer per output: an advisory lock next to it, which the system releases when the process dies.

`flock` also holds across machines on NFS (Linux maps it to a lock of the server). The holder removes the
lock file, so a process that gets a lock checks that the file with that name is still the locked one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, TypeAlias, TypeVar

from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import remove_abandoned, remove_partials, write_error

_Config = TypeVar("_Config")
Run: TypeAlias = Callable[[_Config], Path]
_PATIENCE = 1.0  # seconds; `ndec status` holds a lock for an instant, and a killed process takes a moment to exit


def lock_path(output: Path) -> Path:
    """The lock file of an output: next to it, never inside, because result folders are shipped as they are."""
    return output.parent / f".{output.name}.lock"


@contextlib.contextmanager
def locked(output: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only writer of a file or folder, and remove partial files that a killed writer left.

    Raises NdecError that names the other writer if there is one; with `wait` it waits instead. Without permission to
    write there, there is no lock and no error: a finished run needs none, and any write will raise.
    """
    path = lock_path(output)
    made = [folder for folder in path.absolute().parents if not os.access(folder, os.F_OK)]
    try:
        file = _acquired(path, output, wait)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise write_error(output, error) from error
        yield
        return
    with file:
        file.truncate(0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": _command(), "since": _now()}
        with contextlib.suppress(OSError):  # on a full disk the lock works without a name in it
            file.write(json.dumps(holder))
            file.flush()
        try:
            remove_partials(output)
            remove_abandoned(output.parent)
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for folder in made:  # leave no empty folders behind
                    folder.rmdir()


def one_writer(output: Callable[[Any], Path]) -> Callable[[Run[_Config]], Run[_Config]]:
    """Decorate a stage's `run(config)`: it is the only writer of `output(config)` while it runs."""

    def decorate(run: Run[_Config]) -> Run[_Config]:
        @functools.wraps(run)
        def alone(config: _Config) -> Path:
            with locked(output(config)):
                return run(config)

        return alone

    return decorate


def is_locked(output: Path) -> bool:
    """Whether a process is writing an output now."""
    try:
        with lock_path(output).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock file, or a file system without locks
        return False
    return False


def _acquired(path: Path, output: Path, wait: bool) -> TextIO:
    """The open lock file, locked."""
    started, told = time.monotonic(), False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")  # "w" would wipe the holder's name
        except FileNotFoundError:  # the holder has just removed the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
            file.close()  # its holder has just removed it
            continue
        except BlockingIOError:
            late = time.monotonic() - started > _PATIENCE
            if late and not wait:
                raise NdecError(_busy(file, output)) from None
            if late and not told:
                say(f"waiting for another process that writes {output}")
                told = True
        except FileNotFoundError:  # removed between the two calls
            file.close()
            continue
        except OSError as error:
            say(f"{output.parent} cannot be locked ({error.strerror}); make sure that only one command writes {output}")
            return file
        file.close()
        time.sleep(0.05)


def _busy(file: Any, output: Path) -> str:
    try:
        file.seek(0)
        holder = json.loads(file.read())
        who = f"`{holder['command']}` (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return f"{who} is writing {output}; wait until it ends, or stop it, then run this again"


def _command() -> str:
    name = Path(sys.argv[0]).name if sys.argv else "python"
    return " ".join(["ndec" if name in ("__main__.py", "ndec") else name, *sys.argv[1:3]])


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
