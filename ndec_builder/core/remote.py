"""Reads over a network: tried again with exponential backoff when the fault may pass, never when it cannot."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import TypeVar

from ndec_builder.core.errors import NdecError

Value = TypeVar("Value")
TRIES = 5
FIRST_WAIT = 0.5  # seconds; doubled after every try: 0.5, 1, 2, 4
_PASSING_STATUS = {408, 425, 429}  # timeout, too early, too many requests; and every 5xx
_NETWORK_LIBRARIES = {"aiohttp", "botocore", "gcsfs", "requests", "urllib3", "google", "azure"}


class RemoteReadError(NdecError):
    """A remote read failed in every try. What was being done may be tried again later: it says nothing of the data."""


class AbsentError(OSError):
    """The source answered, and what the uri names is not in it: trying again cannot help."""


def is_remote(uri: str) -> bool:
    return "://" in uri and not uri.startswith(("file://", "local://"))


def retried(
    read: Callable[[], Value], uri: str, *, tries: int = TRIES, sleep: Callable[[float], None] = time.sleep
) -> Value:
    """Return `read()`, tried up to `tries` times while it fails with something that may pass.

    Raises OSError at once for what is not there (FileNotFoundError, AbsentError, an HTTP 4xx), NdecError at once for
    missing rights or a missing driver, which a person must mend, and RemoteReadError after the last try.
    """
    for number in range(1, tries + 1):
        try:
            return read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, AbsentError):
            raise
        except PermissionError as error:
            raise NdecError(
                f"{uri}: permission denied ({error}); check the credentials of that storage, then run the same command "
                "again: what is finished is kept"
            ) from error
        except ImportError as error:
            raise NdecError(f"{uri} cannot be opened: {error}") from None
        except Exception as error:
            if "Protocol not known" in str(error):  # fsspec's ValueError
                raise NdecError(f"{uri} cannot be opened: {error}; fsspec knows s3, gs, az, https and others") from None
            status = _status(error)
            if status is not None and 400 <= status < 500 and status not in _PASSING_STATUS:
                raise AbsentError(f"HTTP status {status}") from error
            if not _may_pass(error, status):
                raise
            if number == tries:
                raise RemoteReadError(
                    f"{uri} could not be read in {tries} tries ({type(error).__name__}: {error}); is the network or "
                    "that storage down? Run the same command again later: what is finished is kept"
                ) from error
            sleep(FIRST_WAIT * 2 ** (number - 1))
    raise AssertionError("unreachable: tries is at least 1")


def _status(error: Exception) -> int | None:
    """The HTTP status that an error of aiohttp, gcsfs, requests or urllib carries."""
    response = getattr(error, "response", None)
    for holder, name in ((error, "status"), (error, "code"), (response, "status_code")):
        value = getattr(holder, name, None)
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return None


def _may_pass(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status in _PASSING_STATUS or status >= 500
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, (OSError, EOFError, http.client.HTTPException)) or library in _NETWORK_LIBRARIES
