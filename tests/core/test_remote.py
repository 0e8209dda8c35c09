"""Retries of remote reads: only what may pass, with exponential waits, and a clear end."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from ndec_builder.core.access.remote import AbsentError, RemoteReadError, is_remote, retried
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_uri


class Answer(Exception):
    """As the errors of aiohttp and gcsfs carry it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def failing(*errors: Exception) -> Callable[[], bytes]:
    left = list(errors)

    def read() -> bytes:
        if left:
            raise left.pop(0)
        return b"there"

    return read


@pytest.mark.parametrize(
    "error",
    [OSError("reset"), ConnectionResetError(), TimeoutError(), OSError(errno.EIO, "io"), Answer(503), Answer(429)],
    ids=repr,
)
def test_what_may_pass_is_tried_again_with_growing_waits(error: Exception) -> None:
    waits: list[float] = []
    assert retried(failing(error, error), "s3://a/b", sleep=waits.append) == b"there"
    assert waits == [0.5, 1.0]
    waits.clear()
    with pytest.raises(RemoteReadError, match=r"s3://a/b could not be read in 5 tries"):
        retried(failing(*[error] * 9), "s3://a/b", sleep=waits.append)
    assert waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (FileNotFoundError("gone"), FileNotFoundError),
        (AbsentError("cut"), AbsentError),
        (Answer(404), AbsentError),
        (Answer(403), AbsentError),
        (PermissionError("expired token"), NdecError),
        (ImportError("install s3fs"), NdecError),
        (KeyError("a bug"), KeyError),
    ],
    ids=repr,
)
def test_what_cannot_pass_is_not(error: Exception, raised: type[Exception]) -> None:
    waits: list[float] = []
    with pytest.raises(raised) as caught:
        retried(failing(error), "s3://a/b", sleep=waits.append)
    assert waits == [] and not isinstance(caught.value, RemoteReadError)


def test_remote_uris() -> None:
    assert is_remote("s3://bucket/a.jpg") and is_remote("simplecache::https://host/a.jpg")
    assert not is_remote("/data/a.jpg") and not is_remote("file:///data/a.jpg") and not is_remote("a#b.jpg")


def test_reading_through_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """memory://, zip:// and a cache in front, whole and by range; what is not there is an OSError at once."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/remote-test/a.bin", b"0123456789")
    assert read_uri("memory://remote-test/a.bin") == b"0123456789"
    assert read_uri("memory://remote-test/a.bin#bytes=2-4") == b"234"
    assert read_uri("simplecache::memory://remote-test/a.bin") == b"0123456789"
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.bin", b"zipped")
    assert read_uri(f"zip://in/a.bin::{tmp_path / 'a.zip'}") == b"zipped"
    monkeypatch.setattr("ndec_builder.core.access.remote.FIRST_WAIT", 1e9)  # a wait would hang the test
    for uri in ("memory://remote-test/b.bin", "memory://remote-test/a.bin#bytes=8-20"):
        with pytest.raises(OSError):
            read_uri(uri)
    with pytest.raises(NdecError, match="Protocol not known: nosuch"):
        read_uri("nosuch://a/b")
