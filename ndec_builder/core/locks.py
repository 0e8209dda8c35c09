"""One writer per output: an advisory lock next to it, which the system releases when the process dies.

`flock` also holds across machines on NFS (Linux maps it to a lock of the server). Where it does not, the holder
named in the file counts as holding the lock until it removes the file. Every holder removes it, and a process that gets
a lock checks that the file with that name is still the locked one.
Everyone who may write in a folder may open its lock files, so the users of a shared folder exclude each other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import re
import shlex
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, TypeAlias, TypeVar

from ndec_builder.core.access.machines import is_elsewhere, locks_reach, running_system, user_name
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import remove_abandoned, remove_partials, write_error
from ndec_builder.core.workspace import given_as_uri

_Config = TypeVar("_Config")
Run: TypeAlias = Callable[[_Config], Path]
NO_LOCK = "NDEC_NO_LOCK"  # environment variable that `ndec --no-lock` sets: run without locks
_PATIENCE = 1.0  # seconds; `ndec status` holds a lock for an instant, and a killed process takes a moment to exit
_SETTLE = 0.3  # seconds; where locks do not reach, two machines may write their names at once
_REFUSED = (errno.EACCES, errno.EPERM)
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def lock_path(output: Path) -> Path:
    """The lock file of an output: next to it, never inside, because result folders are shipped as they are."""
    return output.parent / f".{output.name}.lock"


@contextlib.contextmanager
def locked(output: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only writer of a file or folder, and remove partial files that a killed writer left.

    Raises NdecError that names the other writer if there is one; with `wait` it waits instead. Also raises NdecError
    when a lock cannot be had, unless NO_LOCK is set. If this user cannot write there at all, there is no lock and no
    error: a finished run needs none, and any write will raise. Raises UsageError for a URI: an object store has neither
    locks nor atomic renames.
    """
    if given_as_uri(output):
        raise UsageError(
            f"the output {output} is a URI; ndec locks and renames what it writes, which an object store cannot do. "
            "Write to a folder on a disk or a shared file system, and copy it to the store when the command has ended"
        )
    if os.environ.get(NO_LOCK):
        say(f"no lock is taken (--no-lock): make sure that only one command writes {output}")
        yield
        return
    path = lock_path(output)
    made = [folder for folder in path.absolute().parents if not os.access(folder, os.F_OK)]
    try:
        file = _acquired(path, output, wait)
    except OSError as error:
        if error.errno != errno.EROFS and not (error.errno in _REFUSED and not _is_writable(output)):
            raise _no_lock(path, output, error) from error
        yield
        return
    with file:
        try:
            remove_partials(output)
            remove_abandoned(output.parent)
            yield
        finally:
            with contextlib.suppress(OSError):  # in a folder like /tmp only its owner may remove it; it is free anyway
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
    """Whether a process is writing an output now. A lock file that this user may not open counts as locked."""
    try:
        with lock_path(output).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return _is_held_elsewhere(_holder(file.fileno()), lock_path(output))
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # no lock file, or a file system without locks
        return False


def _acquired(path: Path, output: Path, wait: bool) -> TextIO:
    """The open lock file, locked, with this process in it.

    Raises NdecError for another holder, OSError when it cannot be opened or locked.
    """
    started, told = time.monotonic(), False
    while True:
        late = time.monotonic() - started > _PATIENCE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _opened(path)
        except FileNotFoundError:  # the holder has just removed the file or the folder
            continue
        except OSError as error:
            # its maker may be about to set the mode; a stale handle on NFS is gone at the next try
            if late or error.errno not in (*_REFUSED, errno.ESTALE) or not _is_writable(output):
                raise
            time.sleep(0.05)
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino and _is_ours(file, path)
            holder = _holder(file.fileno()) if current else {}
            if current and not _is_held_elsewhere(holder, path) and _write_holder(file, path):
                return file
            if not current:  # its holder has just removed it
                file.close()
                continue
            message = _busy_elsewhere(_holder(file.fileno()), output, path)
        except BlockingIOError:
            message = f"{_who(_holder(file.fileno()))} is writing {output}; wait until it ends, or stop it"
            message += ", then run this again"
        except OSError as error:
            file.close()
            if isinstance(error, FileNotFoundError):  # removed between the two calls
                continue
            if late or error.errno != errno.ESTALE:
                raise
            time.sleep(0.05)
            continue
        file.close()
        if late and not wait:
            raise NdecError(message)
        if late and not told:
            say(f"waiting: {message}")
            told = True
        time.sleep(0.05)


def _opened(path: Path) -> TextIO:
    """The lock file, made if needed, for everyone who may write in its folder. Raises OSError."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW  # without O_CREAT: in a folder like /tmp that fails for the file of another
    try:
        handle = os.open(path, os.O_RDWR | flags)
    except FileNotFoundError:
        try:
            folder = path.parent.stat()  # the mode at once: a process that dies here must not leave a private file
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, folder.st_mode & 0o666)
        except FileExistsError:
            return _opened(path)
        with contextlib.suppress(OSError):  # not a member of the folder's group
            os.fchown(handle, -1, folder.st_gid)
        os.fchmod(handle, folder.st_mode & 0o666)
    except PermissionError:  # made by a version that did not share it: enough to lock on a local file system
        handle = os.open(path, os.O_RDONLY | flags)
        return os.fdopen(handle, "r", encoding="utf-8")
    return os.fdopen(handle, "r+", encoding="utf-8")


def _is_ours(file: TextIO, path: Path) -> bool:
    """Whether the holder's name can be written into the file. If not, it is removed and made again where possible."""
    if file.writable():
        return True
    try:
        path.unlink()
    except OSError:
        return True
    return False


def _write_holder(file: TextIO, path: Path) -> bool:
    """Write who holds the lock; False if a process on another machine did so at the same time."""
    if not file.writable():
        return True
    holder = {
        "pid": os.getpid(), "host": socket.gethostname(), "system": running_system(), "user": user_name(os.geteuid()),
        "command": _command(), "since": _now(),
    }  # fmt: skip
    try:
        os.ftruncate(file.fileno(), 0)
        os.pwrite(file.fileno(), json.dumps(holder).encode(), 0)  # a buffer would be written, and fail, at close
    except OSError:  # on a full disk the lock works without a name in it
        return True
    if locks_reach(path):
        return True
    time.sleep(_SETTLE)
    return _holder(file.fileno()) == holder


def _holder(handle: int) -> dict[str, Any]:
    """Who is named in a lock file; empty if nobody is."""
    try:
        found = json.loads(os.pread(handle, 1 << 20, 0) or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_held_elsewhere(holder: dict[str, Any], path: Path) -> bool:
    return bool(holder) and is_elsewhere(holder) and not locks_reach(path)


def _is_writable(output: Path) -> bool:
    """Whether this user could write an output: its folder, or an existing folder in it."""
    existing = next(folder for folder in output.absolute().parents if os.access(folder, os.F_OK))
    folders = [existing, *([output, *output.glob("**/")] if output.is_dir() else [])]
    return any(os.access(folder, os.W_OK, effective_ids=True) for folder in folders)


def _no_lock(path: Path, output: Path, error: OSError) -> NdecError:
    """The error when a lock cannot be had."""
    if error.errno not in (*_REFUSED, errno.ESTALE, errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
        return write_error(output, error)
    whose = ""
    with contextlib.suppress(OSError):
        found = path.lstat()
        whose = f", a file of user {user_name(found.st_uid)} with the mode {stat.S_IMODE(found.st_mode):o}"
    return NdecError(
        f"{output} cannot be locked: {path}{whose}: {error.strerror}. Another command may be writing there. Make the "
        "folder and its lock file writable for you (a shared folder: chmod g+ws), or, if you are sure that no other "
        "command writes it, run `ndec --no-lock …`"
    )


def _who(holder: dict[str, Any]) -> str:
    if not {"pid", "host", "command", "since"} <= holder.keys():
        return "another process"
    user = holder.get("user", "an unknown user")
    where = f"process {holder['pid']} of {user} on {holder['host']}, since {holder['since']}"
    return f"`{holder['command']}` ({where})"


def _busy_elsewhere(holder: dict[str, Any], output: Path, path: Path) -> str:
    return (
        f"{_who(holder)} may still be writing {output}: locks of this file system may not reach from there to here. "
        f"Wait until it ends, or stop it there; if it no longer runs, delete {path}; then run this again"
    )


def _command() -> str:
    """The command line of this process, in full, without passwords in addresses."""
    name = Path(sys.argv[0]).name if sys.argv else "python"
    words = ["ndec" if name in ("__main__.py", "ndec") else name, *sys.argv[1:]]
    return _PASSWORD.sub("***@", shlex.join(words))


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
