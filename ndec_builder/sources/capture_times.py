"""When a photo was taken, and by which camera: from its EXIF, else from a file name such as IMG_20240131_120005."""

from __future__ import annotations

import datetime
import io
import re
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import pixel_limit
from ndec_builder.core.pictures.formats import open_start
from ndec_builder.core.pictures.quiet import without_pillow_warnings
from ndec_builder.core.storage import read_uri

_EXIF, _MAKE, _MODEL, _SERIAL = 0x8769, 0x010F, 0x0110, 0xA431
# tags of (moment, fraction of a second, offset from UTC): taken, then digitised. Editors change the third, DateTime.
_MOMENTS = ((0x9003, 0x9291, 0x9011), (0x9004, 0x9292, 0x9012))
_WRITTEN = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)\Z")
_NAMED = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?([01]\d)[-_.]?([0-3]\d)[-_. T]*"  # year, month, day
    r"([0-2]\d)[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(\d{3})?(?!\d)",
    re.ASCII,
)
_EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True)
class CaptureTime:
    """A moment. wall: seconds since 1970 on the camera's clock · offset: seconds that this clock is ahead of UTC, None
    where nothing says it · camera: make, model and serial number, empty if unknown · named: read from the file name."""

    wall: float
    offset: float | None = None
    camera: str = ""
    named: bool = False

    @property
    def utc(self) -> float | None:
        return None if self.offset is None else self.wall - self.offset


def capture_time(uri: str, name: str, *, read: bool = True) -> CaptureTime | None:
    """The capture time in the EXIF of an image (`uri` as `storage.read_uri` opens it), else in its file name.

    None if neither has one. `read=False` does not open the image. Never raises: other stages report broken images.
    """
    return (time_in_exif(uri) if read else None) or time_in_name(name)


def time_in_exif(uri: str) -> CaptureTime | None:
    try:
        plain = "://" not in uri and "#" not in uri
        with (
            without_pillow_warnings(),
            Path(uri).open("rb") if plain else io.BytesIO(read_uri(uri)) as file,
            open_start(file, pixel_limit()) as image,  # of most formats only the start is read
        ):
            main = image.getexif()
            details = main.get_ifd(_EXIF)
            camera = " ".join(_text(tags.get(tag)) for tags, tag in ((main, _MAKE), (main, _MODEL), (details, _SERIAL)))
        for moment, fraction, offset in _MOMENTS:
            wall = _wall(_text(details.get(moment)))
            if wall is not None:
                digits = _text(details.get(fraction))
                part = float(f"0.{digits}") if digits.isascii() and digits.isdigit() else 0.0
                return CaptureTime(wall + part, _seconds(_text(details.get(offset))), camera.strip())
    except Exception:  # whatever is wrong with one image, the others go on
        return None
    return None


def time_in_name(name: str) -> CaptureTime | None:
    """The moment in a file name: year to second, with or without separators, perhaps with milliseconds."""
    for found in _NAMED.finditer(name):
        *parts, milliseconds = found.groups()
        if (wall := _moment(parts)) is not None:
            return CaptureTime(wall + int(milliseconds or 0) / 1000, named=True)
    return None


def _wall(text: str) -> float | None:
    found = _WRITTEN.match(text)
    return _moment(found.groups()) if found else None


def _moment(parts: object) -> float | None:
    try:
        return (datetime.datetime(*map(int, parts)) - _EPOCH).total_seconds()  # type: ignore[call-overload]
    except ValueError:  # cameras without a clock write 0000:00:00
        return None


def _seconds(offset: str) -> float | None:
    found = _OFFSET.match(offset)
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    return (-1 if sign == "-" else 1) * (int(hours) * 3600 + int(minutes) * 60.0)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value.strip(" \0") if isinstance(value, str) else ""
