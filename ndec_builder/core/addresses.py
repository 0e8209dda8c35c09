"""Uris of an image inside a larger file: a fragment after `#` says where, so that one seek and one read fetch it.

    shards/00000.tar#bytes=1536-49746             bytes 1536 to 49746, both included, as in an HTTP Range header
    images.zip#bytes=61-4070&deflate              the same of a compressed zip member
    train.parquet#cell=3/17/image.bytes           row group 3, row 17 of it, that column (.field, or [2] of a list)

The part before `#` is a local path or any fsspec URI. Other uris, also with a `#` in a file name, mean whole files.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from ndec_builder.core.remote import AbsentError

_FRAGMENT = re.compile(r"#(?:bytes=(\d+)-(\d+)(&deflate)?|cell=(\d+)/(\d+)/([^#]+))\Z")
MAX_INFLATED = 1 << 30  # a member that unpacks to more is a bomb, not an image


@dataclass(frozen=True)
class Slice:
    """Bytes [start, stop) of a file."""

    container: str
    start: int
    stop: int
    deflate: bool = False

    @property
    def uri(self) -> str:
        """Empty slices have no uri: the first byte would lie behind the last."""
        return f"{self.container}#bytes={self.start}-{self.stop - 1}{'&deflate' if self.deflate else ''}"


@dataclass(frozen=True)
class Cell:
    """One value of a parquet file."""

    container: str
    row_group: int
    row: int  # within the row group
    column: str

    @property
    def uri(self) -> str:
        return f"{self.container}#cell={self.row_group}/{self.row}/{self.column}"


def parse(uri: str) -> Slice | Cell | None:
    """The address in a uri, or None for a uri that means a whole file."""
    match = _FRAGMENT.search(uri)
    if match is None:
        return None
    first, last, deflate, row_group, row, column = match.groups()
    container = uri[: match.start()]
    if column is not None:
        return Cell(container, int(row_group), int(row), column)
    return Slice(container, int(first), int(last) + 1, deflate is not None)


def container(uri: str) -> str:
    """The file that a uri needs: itself, or the archive that it points into."""
    address = parse(uri)
    return uri if address is None else address.container


def inflate(data: bytes) -> bytes:
    """Unpack a raw deflate stream. Raises OSError when it is damaged or unpacks to more than MAX_INFLATED."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = unpacker.decompress(data, MAX_INFLATED)
    except zlib.error as error:
        raise AbsentError(f"damaged archive member ({error})") from None
    if not unpacker.eof:
        raise AbsentError("the archive member is cut, or unpacks to more than 1 GiB")
    return out
