"""Metadata of a source → licence columns, group and rotation. Sources use different names for the same thing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ndec_builder.core.errors import NdecError
from ndec_builder.sources.image_ids import is_missing

NAMES = {
    # column: names that sources use for it; the first one with text counts
    "license": ("license", "License", "licence"),
    "author": ("author", "Author", "creator"),
    "author_url": ("author_url", "AuthorProfileURL"),
    "title": ("title", "Title", "caption", "text"),
    "original_url": ("original_url", "OriginalURL", "url", "URL"),
    "landing_url": ("landing_url", "OriginalLandingURL"),
}
QUARTER_TURNS = (0, 90, 180, 270)


def licence_columns(metadata: Mapping[str, Any]) -> dict[str, str | None]:
    """The licence columns that the metadata fills. Values that are not text are ignored."""
    found: dict[str, str | None] = {}
    for column, names in NAMES.items():
        values = (metadata.get(name) for name in names)
        if value := next((value for value in values if isinstance(value, str) and value), None):
            found[column] = value
    return found


def metadata_group(metadata: Mapping[str, Any], group_by: str) -> str | None:
    """`author`, or auto: the `group` in the metadata. None where the metadata does not say it, and for other rules."""
    if group_by == "author":
        columns = licence_columns(metadata)
        return columns.get("author_url") or columns.get("author")
    given = metadata.get("group") if group_by == "auto" else None
    return None if is_missing(given) else str(given)


def metadata_rotation(metadata: Mapping[str, Any]) -> int:
    """Clockwise degrees from `rotation` (ours: clockwise). Raises NdecError unless it is a multiple of 90."""
    value = metadata.get("rotation")
    if is_missing(value):
        return 0
    try:
        degrees = float(str(value)) % 360
    except ValueError:
        degrees = math.nan
    if degrees not in QUARTER_TURNS:
        raise NdecError(f"the rotation {value!r} is not one of {QUARTER_TURNS}; fix the metadata")
    return int(degrees)


ORIENTATIONS = {
    # as exifread names EXIF's orientations, which is how img2dataset stores them
    "Rotated 90 CW": 90, "Rotated 180": 180, "Rotated 90 CCW": 270,
    "Mirrored horizontal": None, "Mirrored vertical": None,
    "Mirrored horizontal then rotated 90 CCW": None, "Mirrored horizontal then rotated 90 CW": None,
}  # fmt: skip


def described_orientation(metadata: Mapping[str, Any]) -> str | None:
    """The orientation in the `exif` that img2dataset stores, if it is not the normal one: a key of ORIENTATIONS.

    img2dataset encodes photos as they are stored and drops their orientation tag; then only its metadata has it. Where
    the file still has a tag, that one counts (`core.decode.read_orientation`).
    """
    exif = metadata.get("exif")
    if isinstance(exif, str) and "Image Orientation" in exif:
        try:
            exif = json.loads(exif)
        except (ValueError, RecursionError):
            return None
    name = exif.get("Image Orientation") if isinstance(exif, Mapping) else None
    return name if name in ORIENTATIONS else None
