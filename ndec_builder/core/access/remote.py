"""Network reads: retried with exponential backoff after temporary errors, never after permanent ones."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from typing import TypeVar

from ndec_builder.core.errors import NdecError

_Value = TypeVar("_Value")
_TRIES = 5
FIRST_WAIT = 0.5  # seconds; doubled after every try: 0.5, 1, 2, 4
_IPV6 = re.compile(r"://\[[0-9A-Fa-f:.]+\]")
_TEMPORARY_STATUS = {408, 425, 429}  # timeout, too early, too many requests; every 5xx too
_NETWORK_LIBRARIES = {"aiohttp", "botocore", "gcsfs", "requests", "urllib3", "google", "azure"}


class RemoteReadError(NdecError):
    """A remote read failed in every try. A later retry may succeed; the error says nothing about the data."""


class AbsentError(OSError):
    """The source answered that the uri does not exist: a retry cannot help."""


def is_remote(uri: str) -> bool:
    return "://" in uri and not uri.startswith(("file://", "local://"))


def is_web(uri: str) -> bool:
    """Whether it is an http or https address, not one chained to another file system."""
    return uri.lower().startswith(("http://", "https://")) and not is_chained(uri)


def is_chained(uri: str) -> bool:
    """Whether a uri names several file systems of fsspec, as in `zip://a.jpg::https://host/a.zip`."""
    return "://" in uri and "::" in _IPV6.sub("://host", uri)


def retried(
    read: Callable[[], _Value], uri: str, *, tries: int = _TRIES, sleep: Callable[[float], None] = time.sleep
) -> _Value:
    """Return `read()`, called up to `tries` times while it fails with a temporary error.

    Raises OSError at once if the file does not exist (FileNotFoundError, AbsentError, an HTTP 4xx), NdecError at once
    for missing permissions or a missing driver, and RemoteReadError after the last try.
    """
    for number in range(1, tries + 1):
        try:
            return read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, AbsentError):
            raise
        except PermissionError as error:
            raise NdecError(
                f"{uri}: permission denied ({error}); check the credentials of that storage, then run the same command "
                "again: finished work is kept"
            ) from error
        except ImportError as error:
            raise NdecError(f"{uri} cannot be opened: {error}") from None
        except Exception as error:
            if "Protocol not known" in str(error):  # fsspec's ValueError
                raise NdecError(f"{uri} cannot be opened: {error}; fsspec knows s3, gs, az, https and others") from None
            status = _status(error)
            if status is not None and 400 <= status < 500 and status not in _TEMPORARY_STATUS:
                raise AbsentError(f"HTTP status {status}") from error
            if not _is_temporary(error, status):
                raise
            if number == tries:
                raise RemoteReadError(
                    f"{uri} could not be read in {tries} tries ({type(error).__name__}: {error}); is the network or "
                    "that storage down? Run the same command again later: finished work is kept"
                ) from error
            sleep(FIRST_WAIT * 2 ** (number - 1))
    raise AssertionError("unreachable: tries is at least 1")


def _status(error: Exception) -> int | None:
    """The HTTP status in an error of aiohttp, gcsfs, requests or urllib."""
    response = getattr(error, "response", None)
    for holder, name in ((error, "status"), (error, "code"), (response, "status_code")):
        value = getattr(holder, name, None)
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return None


def _is_temporary(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status in _TEMPORARY_STATUS or status >= 500
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, (OSError, EOFError, http.client.HTTPException)) or library in _NETWORK_LIBRARIES
