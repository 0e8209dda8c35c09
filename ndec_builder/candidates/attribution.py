"""Finds pairs of the same photo or the same author in the metadata: Flickr photo ids and users.

OpenImages comes from Flickr, and so does DISC21 (through YFCC100M). The same photo id on both sides is a true
duplicate, whatever the pixels look like, and the same author makes a hard negative likely. The images tables hold the
links of OpenImages. DISC21 is anonymous, so its links come in a csv from the user.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.core.console import say
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError

PHOTO_COLUMNS = ("photo_id", "url", "original_url", "landing_url", "photo_url")
AUTHOR_COLUMNS = ("author_url", "author")
PHOTO_PAGE = re.compile(r"^/photos/[^/]+/(\d+)(?:/|$)")
PHOTO_FILE = re.compile(r"/(\d+)_[0-9a-f]+(?:_\w+)?\.\w+$")  # /<server>/<photo id>_<secret>_o.jpg
USER_PAGE = re.compile(r"^/(?:photos|people)/([^/]+)")

Attribution = dict[str, dict[str, str]]  # image_id → the columns of its row that are not empty


@dataclass(frozen=True)
class PhotoSource:
    """Photo and author of an image; None if unknown."""

    photo: str | None
    author: str | None


def flickr_photo(url: str) -> str | None:
    """The photo id in a Flickr page or file address, else None."""
    host, path = _host_and_path(url)
    if host == "staticflickr.com" or (host == "flickr.com" and not path.startswith("/photos/")):
        match = PHOTO_FILE.search(path)
    else:
        match = PHOTO_PAGE.match(path) if host == "flickr.com" else None
    return match.group(1) if match else None


def flickr_user(url: str) -> str | None:
    """The user in the address of a Flickr page, else None."""
    host, path = _host_and_path(url)
    match = USER_PAGE.match(path) if host == "flickr.com" else None
    return unquote(match.group(1)).lower() if match else None


def source_of(row: Mapping[str, Any], more: Mapping[str, str] | None = None) -> PhotoSource:
    """Photo and author of an image, from its row in the csv (`more`) first, then from its row in the images table.

    An author is a Flickr user, else the address of another page, else a name. Equal names count as one person; a name
    never equals a user.
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
    return PhotoSource(photo, author)


def equal_or_unknown(first: str | None, second: str | None) -> bool | None:
    """Whether both values are equal; None if one is unknown."""
    return None if first is None or second is None else first == second


def read_attribution(path: Path) -> Attribution:
    """Read a csv with the column image_id and at least one of PHOTO_COLUMNS and AUTHOR_COLUMNS; others are ignored.

    Image ids may include the file ending. Raises UsageError for a missing file, missing columns, or two rows for one
    image.
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
                        f"line {reader.line_num} of {path} has {len(cells)} cells, its header {len(header)}; fix it"
                    )
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
                image_id = _image_id(row.get("image_id", ""))
                values = {name: value for name, value in row.items() if name in known}
                if found.setdefault(image_id, values) != values:
                    raise UsageError(
                        f"line {reader.line_num} of {path} is a second, different row of image {image_id!r}"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"the attribution table {path} cannot be read ({error}); it must be a csv in UTF-8") from None
    if not found:
        raise NdecError(f"the attribution table {path} has no rows")
    return found


def check_attribution(path: Path | None, attribution: Attribution, sides: tuple[RoleVectors, RoleVectors]) -> None:
    """Say how many images of the table take part. Raises UsageError if none does."""
    if not attribution:
        return
    gallery = sides[1]
    known = sum(len(side.only(attribution)) for side in sides)
    say(f"{path}: {known} of its {len(attribution)} images take part in this search")
    if not known:
        raise UsageError(
            f"none of the {len(attribution)} images of {path}, {min(attribution)!r} first, is a pool or "
            f"{gallery.role} image (there, {gallery.ids[0].as_py()!r} is the first); an image id is a file name "
            "without its ending"
        )


def _image_id(text: str) -> str:
    name = PurePosixPath(text).name
    return name[: -len(suffix)] if (suffix := PurePosixPath(name).suffix) and suffix.lower() in SUFFIXES else name


def _host_and_path(url: str) -> tuple[str, str]:
    """Registered host and path of an address; ('', '') if the text is no address."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return "", ""
    labels = (parts.hostname or "").split(".")
    return ".".join(labels[-2:]), parts.path
