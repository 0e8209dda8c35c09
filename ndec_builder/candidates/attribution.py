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
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.pictures.formats import without_picture_ending
from ndec_builder.core.vocabulary import ROLES
from ndec_builder.core.workspace import rows_by_id

PHOTO_COLUMNS = ("photo_id", "url", "original_url", "landing_url", "photo_url")
AUTHOR_COLUMNS = ("author_url", "author")
PHOTO_PAGE = re.compile(r"^/photos/[^/]+/(\d+)(?:/|$)")
PHOTO_FILE = re.compile(r"/(\d+)_[0-9a-f]+(?:_\w+)?\.\w+$")  # /<server>/<photo id>_<secret>_o.jpg
USER_PAGE = re.compile(r"^/(?:photos|people)/([^/]+)")

# (role, image_id) → the columns of its row that are not empty; the role is "" in a table without that column
Attribution = dict[tuple[str, str], dict[str, str]]


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

    Image ids may include the file ending. A column `role` says which role the image of a row has; empty means any.
    Raises UsageError for a missing file, missing columns, an unknown role, or two rows for one image.
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
                if (role := row.get("role", "")) not in ("", *ROLES):
                    raise UsageError(
                        f"line {reader.line_num} of {path} has the role {role!r}; it is one of {', '.join(ROLES)}"
                    )
                if found.setdefault((role, image_id), values) != values:
                    raise UsageError(
                        f"line {reader.line_num} of {path} is a second, different row of image {image_id!r}"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"the attribution table {path} cannot be read ({error}); it must be a csv in UTF-8") from None
    if not found:
        raise NdecError(f"the attribution table {path} has no rows")
    return found


def row_of(attribution: Attribution, role: str, image_id: str) -> dict[str, str] | None:
    """The row about an image of a role: that of its role first, else that without a role."""
    return attribution.get((role, image_id)) or attribution.get(("", image_id))


def only_clear_rows(path: Path | None, attribution: Attribution, sides: tuple[RoleVectors, RoleVectors]) -> Attribution:
    """Leave out rows without a role whose id both roles have, for different or unopened pictures; says how many."""
    ids = [image_id for role, image_id in attribution if not role]
    pool, gallery = (rows_by_id(side.table, ids, ["sha256"]) for side in sides)
    unclear = {
        image_id
        for image_id in pool.keys() & gallery.keys()
        if pool[image_id]["sha256"] is None or pool[image_id]["sha256"] != gallery[image_id]["sha256"]
    }
    if unclear:
        roles = [side.role for side in sides]
        say(
            f"{path}: {number_of(len(unclear), 'row is', 'rows are')} not used, {min(unclear)!r} first, because two "
            f"different images have this id, one of the {roles[0]} and one of the {roles[1]} images; add a column role "
            f"({' or '.join(roles)}) to say which one a row is about"
        )
    return {key: row for key, row in attribution.items() if key[0] or key[1] not in unclear}


def check_attribution(path: Path | None, attribution: Attribution, sides: tuple[RoleVectors, RoleVectors]) -> None:
    """Say how many of the images take part in the search. Raises UsageError if none does."""
    if not attribution:
        return
    known = set()
    for side in sides:
        rows = [key for key in attribution if key[0] in ("", side.role)]
        searched = set(side.only({image_id for _, image_id in rows}).ids.to_pylist())
        known |= {key for key in rows if key[1] in searched}
    names = " or ".join(side.role for side in sides)
    say(f"{len(known)} of the {number_of(len(attribution), 'image')} of {path} are {names} images")
    if not known:
        raise UsageError(
            f"none of the {len(attribution)} images of {path}, {min(attribution)[1]!r} first, is a pool or "
            f"{sides[1].role} image (there, {sides[1].ids[0].as_py()!r} is the first); an image id is a file name "
            "without its ending"
        )


def _image_id(text: str) -> str:
    return without_picture_ending(PurePosixPath(text).name)


def _host_and_path(url: str) -> tuple[str, str]:
    """Registered host and path of an address; ('', '') if the text is no address."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return "", ""
    labels = (parts.hostname or "").split(".")
    return ".".join(labels[-2:]), parts.path
