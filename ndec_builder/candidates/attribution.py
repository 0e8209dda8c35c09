"""Same photo and same author, by what the metadata say: Flickr photo ids and users.

OpenImages comes from Flickr, DISC21 from YFCC100M, which is Flickr too: the same photo id on both sides is a true
duplicate whatever the pixels look like, and the same author a strong prior for a hard negative. The images tables hold
the links of OpenImages; those of DISC21 come as a csv from the user, since the set itself is anonymous.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError

PHOTO_COLUMNS = ("photo_id", "url", "original_url", "landing_url", "photo_url")
AUTHOR_COLUMNS = ("author_url", "author")
PHOTO_PAGE = re.compile(r"^/photos/[^/]+/(\d+)(?:/|$)")
PHOTO_FILE = re.compile(r"/(\d+)_[0-9a-f]+(?:_\w+)?\.\w+$")  # /<server>/<photo id>_<secret>_o.jpg
USER_PAGE = re.compile(r"^/(?:photos|people)/([^/]+)")

Attribution = dict[str, dict[str, str]]  # image_id → the columns of its row that are not empty


@dataclass(frozen=True)
class Source:
    """Where an image came from; None where nothing says."""

    photo: str | None
    author: str | None


def flickr_photo(url: str) -> str | None:
    """The photo id in a Flickr page or file address, else None."""
    host, path = _split(url)
    if host == "staticflickr.com" or (host == "flickr.com" and not path.startswith("/photos/")):
        match = PHOTO_FILE.search(path)
    else:
        match = PHOTO_PAGE.match(path) if host == "flickr.com" else None
    return match.group(1) if match else None


def flickr_user(url: str) -> str | None:
    """The user in the address of a Flickr page of theirs, else None."""
    host, path = _split(url)
    match = USER_PAGE.match(path) if host == "flickr.com" else None
    return unquote(match.group(1)).lower() if match else None


def source_of(row: Mapping[str, Any], more: Mapping[str, str] | None = None) -> Source:
    """Where an image came from, by its row of the images table and its row of the csv, which goes first.

    An author is a Flickr user, else the address of another page, else a name: two names that are equal count as one
    person, a name and a user never do.
    """
    photo = author = None
    for values in (more or {}, row):
        for name in PHOTO_COLUMNS:
            if photo is None and (value := values.get(name)):
                photo = value if name == "photo_id" and value.isdigit() else flickr_photo(value)
        for name in ("author_url", "landing_url", "url", "photo_url"):
            if author is None and (value := values.get(name)) and (user := flickr_user(value)):
                author = f"flickr:{user}"
        for name in AUTHOR_COLUMNS:
            if author is None and (value := values.get(name)):
                author = f"{name}:{value.strip().rstrip('/').lower()}"
    return Source(photo, author)


def same(first: str | None, second: str | None) -> bool | None:
    """Whether two sides are equal; None where one is unknown."""
    return None if first is None or second is None else first == second


def read_attribution(path: Path) -> Attribution:
    """Read a csv with the column image_id and at least one of PHOTO_COLUMNS and AUTHOR_COLUMNS; others are ignored.

    An image id may have its ending. Raises UsageError for a missing file, other columns, or an image with two rows.
    """
    known = {*PHOTO_COLUMNS, *AUTHOR_COLUMNS}
    found: Attribution = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            if "image_id" not in header or not known & set(header):
                raise UsageError(
                    f"{path} has the columns {header}; expected image_id and at least one of "
                    f"{', '.join((*PHOTO_COLUMNS, *AUTHOR_COLUMNS))}"
                )
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise UsageError(
                        f"line {reader.line_num} of {path} has {len(cells)} cells, its header {len(header)}; mend it"
                    )
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
                image_id = _image_id(row.get("image_id", ""))
                values = {name: value for name, value in row.items() if name in known}
                if found.setdefault(image_id, values) != values:
                    raise UsageError(f"line {reader.line_num} of {path} is a second, other row of image {image_id!r}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"the attribution table {path} cannot be read ({error}); it must be a csv in UTF-8") from None
    if not found:
        raise NdecError(f"the attribution table {path} has no rows")
    return found


def _image_id(text: str) -> str:
    name = PurePosixPath(text).name
    return name[: -len(suffix)] if (suffix := PurePosixPath(name).suffix) and suffix.lower() in SUFFIXES else name


def _split(url: str) -> tuple[str, str]:
    """Registered host and path of an address; ('', '') for what is none."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return "", ""
    labels = (parts.hostname or "").split(".")
    return ".".join(labels[-2:]), parts.path
