"""Read a picture of an images table, whose bytes must be those that were ingested."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.core.pictures.errors import DecodeError
from ndec_builder.core.storage import read_uri, sha256_bytes

# reasons in rejects tables, the second one with the error behind it
CHANGED, CANNOT_READ = "the file changed since it was ingested; run `ndec ingest` again", "cannot read: "


def read_image(uri: str | Path, sha256: str | None) -> bytes:
    """`read_uri`, for bytes that must be those that were ingested. `sha256`: of them, None if it is unknown.

    Raises DecodeError, whose text is the reason for rejecting the image, if the bytes are different.
    """
    data = read_uri(uri)
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise DecodeError(CHANGED)
    return data
