"""Bounded reads of images: regular files, web addresses, other storage; with a size cap and a deadline."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ndec_builder.core.access.hosts import ALLOW, PrivateAddressError, session
from ndec_builder.core.access.remote import AbsentError

MAX_BYTES = 2 << 30  # of one image: 200 million pixels of 16-bit colour are 1.2 GB
SECONDS = 300.0  # for one remote image
_PIECE = 1 << 20
_TIMEOUT = (20.0, 60.0)  # seconds to connect, and without a byte
_sessions = threading.local()


def read_local(path: str, start: int = 0, stop: int | None = None) -> bytes:
    """Bytes [start, stop) of a regular file, at most to its end. Raises OSError, also for other files."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for a writer
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise AbsentError("not a regular file: a folder, a pipe, a socket or a device")
        end = status.st_size if stop is None else min(stop, status.st_size)
        _check_size(end - start)
        data = bytearray()
        while start + len(data) < end:
            piece = os.pread(handle, min(end - start - len(data), 1 << 30), start + len(data))
            if not piece:
                break
            data += piece
        return bytes(data)
    finally:
        os.close(handle)


def read_web(uri: str, start: int | None = None, stop: int = 0) -> bytes:
    """The body at an http or https address, or bytes [start, stop) of it. Raises OSError and errors of requests."""
    import requests

    wanted = None if start is None else stop - start
    headers = {"Accept-Encoding": "identity"} | ({} if start is None else {"Range": f"bytes={start}-{stop - 1}"})
    deadline = time.monotonic() + SECONDS
    try:
        with _session().get(uri, stream=True, timeout=_TIMEOUT, headers=headers) as answer:
            if answer.status_code == 416:
                return b""
            answer.raise_for_status()
            skipped = start if start is not None and answer.status_code != 206 else 0  # it ignores ranges
            data = _collect(answer.iter_content(_PIECE), deadline, None if wanted is None else skipped + wanted)
            length = answer.headers.get("Content-Length", "")
            if wanted is None and length.isdecimal() and len(data) < int(length[:18]):
                raise ConnectionError(f"{len(data):,} of {length} bytes arrived")
            return data[skipped : None if wanted is None else skipped + wanted]
    except (PrivateAddressError, ValueError, requests.TooManyRedirects) as error:  # ValueError: no usable address
        raise AbsentError(str(error)) from None


def read_storage(read: Callable[[], bytes]) -> bytes:
    """Return `read()`, which a driver of fsspec does. Raises AbsentError after SECONDS; what it raises otherwise."""
    result: list[bytes] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            result.append(read())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)  # one that hangs must not keep the command alive
    thread.start()
    thread.join(SECONDS)
    if failed:
        raise failed[0]
    if not result:
        raise AbsentError(f"reading took more than {SECONDS:g} s")
    return result[0]


def read_file(file: Any) -> bytes:
    """The content of an open file of fsspec. Raises AbsentError when it is larger than MAX_BYTES."""
    _check_size(getattr(file, "size", None) or 0)
    data: bytes = file.read(MAX_BYTES + 1)
    _check_size(len(data))
    return data


def check_range(start: int, stop: int) -> None:
    """Raise AbsentError for a range that no image has."""
    _check_size(stop - start)
    if stop <= start:
        raise AbsentError(f"the range of bytes {start}-{stop - 1} is empty")


def _collect(pieces: Iterable[bytes], deadline: float, enough: int | None) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece
        _check_size(len(data))
        if time.monotonic() > deadline:
            raise AbsentError(f"reading took more than {SECONDS:g} s")
        if enough is not None and len(data) >= enough:
            break
    return bytes(data)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise AbsentError(f"{size:,} bytes; the limit for one image is {MAX_BYTES:,}")


def _session() -> Any:
    """The session of this thread; a new one when the person has named other hosts."""
    named = os.environ.get(ALLOW, "")
    if getattr(_sessions, "named", None) != named:
        _sessions.named, _sessions.session = named, session()
    return _sessions.session
