"""Uris of images inside larger files: the fragment after `#` is the position, so one seek and one read fetch the image.

    shards/00000.tar#bytes=1536-49746             bytes 1536 to 49746, both included, as in an HTTP Range header
    images.zip#bytes=61-4070&deflate              the same for a compressed zip member
    train.parquet#cell=3/17/image.bytes           row 17 of row group 3, in that column (.field, or [2] of a list)

The part before `#` is a local path or any fsspec URI. Any other uri is a complete
file, even with a `#` in its name.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from urllib.parse import unquote

from ndec_builder.core.access.remote import AbsentError

_FRAGMENT = re.compile(r"#(?:bytes=(\d{1,18})-(\d{1,18})(&deflate)?|cell=(\d{1,9})/(\d{1,9})/([^#]+))\Z", re.ASCII)
MAX_INFLATED = 1 << 30  # a member that unpacks to more is a zip bomb


@dataclass(frozen=True)
class Slice:
    """Bytes [start, stop) of a file."""

    container: str
    start: int
    stop: int
    deflate: bool = False

    @property
    def uri(self) -> str:
        """An empty slice has no valid uri: its first byte would come after its last."""
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


def parse_address(uri: str) -> Slice | Cell | None:
    """The address in a uri, or None for the uri of a complete file."""
    match = _FRAGMENT.search(uri)
    if match is None:
        return None
    first, last, deflate, row_group, row, column = match.groups()
    container = uri[: match.start()]
    if column is not None:
        return Cell(container, int(row_group), int(row), column)
    return Slice(container, int(first), int(last) + 1, deflate is not None)


def container(uri: str) -> str:
    """The file that a uri reads from: the file itself, or the archive that contains it."""
    address = parse_address(uri)
    return uri if address is None else address.container


def inflate(data: bytes) -> bytes:
    """Unpack a raw deflate stream. Raises OSError when it is damaged or unpacks to more than 1 GiB."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = unpacker.decompress(data, MAX_INFLATED)
    except zlib.error as error:
        raise AbsentError(f"damaged archive member ({error})") from None
    if not unpacker.eof:
        raise AbsentError("the archive member is cut, or unpacks to more than 1 GiB")
    return out


# Query parameters that prove a right to read: of AWS, Google, Azure, Alibaba and CloudFront signatures, and tokens.
_SECRET = re.compile(
    r"x-(amz|goog|oss|obs|cos)-(signature|credential|security-token)|sig|signature|(q-)?sign|hmac|"
    r"(aws|oss)?access-?key-?id|googleaccessid|key-pair-id|(access|api|auth|id|refresh|security|session|sas)?[-_]?token|"
    r"api[-_]?key|app[-_]?key|subscription-key|access[-_]?key|client[-_]?secret|secret|password|passwd|pwd|jwt|hdnea|hdnts"
)
# They only make sense next to a signature.
_SIGNED = re.compile(
    r"x-(amz|goog|oss|obs|cos|ms)-.*|expires|policy|se|sp|sv|sr|st|ss|srt|spr|sip|si|sks|skt|ske|skv|skoid|sktid|q-.*"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_USERINFO = re.compile(r"(?<=://)[^/?#]*@")


def without_credentials(text: str) -> str:
    """Text with the user names, passwords, tokens and signatures taken out of every URL in it; other text is kept.

    >>> without_credentials("https://me:secret@host/a.jpg?w=9&X-Amz-Signature=ab&X-Amz-Date=cd")
    'https://host/a.jpg?w=9'
    """
    return _URL.sub(lambda found: _clean(found[0]), text) if "://" in text else text


def _clean(url: str) -> str:
    url, mark, fragment = _USERINFO.sub("", url).partition("#")
    base, question, query = url.partition("?")
    query, fragment = _unsigned(query), _unsigned(fragment) if "token" in fragment.lower() else fragment
    return base + (question + query if query else "") + (mark + fragment if fragment else "")


def _unsigned(query: str) -> str:
    parts = query.split("&")
    names = [unquote(part.partition("=")[0]).lower() for part in parts]
    if not any(_SECRET.fullmatch(name) for name in names):
        return query
    kept = zip(names, parts, strict=True)
    return "&".join(part for name, part in kept if not _SECRET.fullmatch(name) and not _SIGNED.fullmatch(name))
