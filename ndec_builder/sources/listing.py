"""List a source before any image is opened: rows of the images table without hash and size."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import IMAGES, LICENCE_COLUMNS
from ndec_builder.sources.ground_truth import Match

_FLUSH = 50_000  # rows kept as Python objects before they become a record batch
_BATCHES_PER_LINE = 10  # batches between two progress lines
_NAMED = 50  # at most this many missing things are named in a message; the rejects table has all
_IDS = 5  # forms of an id, from short to long
Stamp = tuple[object, ...]  # of a file: differs when its content was replaced, as far as its storage says
_DECIDING = ("rotation", "license", "author", "author_url", "group")  # columns in which rows of one file should agree
_COLUMNS = [*(f"id{form}" for form in range(_IDS)), "uri", "rotation", *LICENCE_COLUMNS, "group", "place"]


@dataclass(frozen=True)
class Listing:
    """Images of one role. images: schema IMAGES, ascending unique image_id; null where only opening an image tells,
    and group null where the source names none (`places.with_groups` fills it)."""

    images: pa.Table
    rejects: list[dict[str, Any]]
    stamp: str  # changes with the size, time or version of a remote file, as far as the storage says
    local: bool  # some images are on this machine, so that opening them downloads nothing
    note: str = ""  # what a person should know of this listing
    places: pa.ChunkedArray | None = None  # path of each image below the source or in its container, null if unknown
    grouped: pa.Array | None = None  # ids whose group the source names or a chosen rule gives (`places.with_groups`)


@dataclass(frozen=True)
class SourceContents:
    """What a source holds: a listing for each of its roles, and facts about the source."""

    listings: Mapping[str, Listing]
    gaps: tuple[str, ...] = ()  # what is missing, a phrase each; the run ends with exit code 3
    truth: list[Match] | None = None
    pairs: pa.Table | None = None  # schema PAIRS
    md5: Mapping[str, str] = field(default_factory=dict)  # image_id → hex digest that the bytes must have
    inputs: Mapping[str, str] = field(default_factory=dict)  # sha256 of lists and csvs, for the run record
    notes: tuple[str, ...] = ()  # what is skipped or assumed; printed and kept in the run record


class Lister:
    """Collects the rows of one role, in any order, in little memory. Usage: `add`, `reject`, then `finish`."""

    def __init__(self, role: str, license: str | None = None) -> None:
        self.role, self.license, self.local = role, license or None, False
        self._rejects: list[tuple[tuple[str, ...], str, str]] = []
        self._rows: list[tuple[Any, ...]] = []
        self._batches: list[pa.Table] = []
        self._stamp = hashlib.sha256()

    @property
    def reject_count(self) -> int:
        return len(self._rejects)

    def add(
        self,
        image_id: str,
        uri: str,
        *,
        longer: Sequence[str] = (),
        group: str | None = None,
        place: str | None = None,
        rotation: int = 0,
        stamp: Any = (),
        **licence: Any,
    ) -> None:
        """Add one image. `longer`: ids to use when short ones repeat in the source · `group`: None if the
        source names none · `place`: its path below the source or in its container · `stamp`: of a remote file.

        Ids and uris that are not valid Unicode become rejects: a table cannot hold them.
        """
        ids = (image_id, *longer)[:_IDS]
        place = place and str(PurePosixPath(place))  # `./a/x.jpg` is in the folder `a`
        if any(printable(text) != text for text in (uri, ids[-1], place or "")):
            return self.reject(image_id, uri, "the file name is not UTF-8; rename the file", longer=longer)
        self.local |= "://" not in uri
        licence["license"] = licence.get("license") or self.license
        padded = (*ids, *[None] * (_IDS - len(ids)))
        self._rows.append((*padded, uri, rotation, *(licence.get(name) for name in LICENCE_COLUMNS), group, place))
        if stamp:
            self._stamp.update(f"{uri}\x1f{stamp}\x1e".encode())
        if len(self._rows) >= _FLUSH:
            self._flush()
        return None

    def reject(self, image_id: str, uri: str, reason: str, *, longer: Sequence[str] = ()) -> None:
        ids = tuple(printable(name) for name in (image_id, *longer)[:_IDS])
        self._rejects.append((ids, printable(uri), printable(reason)))

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(_COLUMNS)
        kinds = [IMAGES.field(name).type if name in IMAGES.names else pa.string() for name in _COLUMNS]
        arrays = [pa.array(list(values), kind) for values, kind in zip(columns, kinds, strict=True)]
        self._batches.append(pa.table(arrays, names=_COLUMNS))
        if len(self._batches) % _BATCHES_PER_LINE == 0:
            say(f"{len(self._batches) * _FLUSH:,} {self.role} images listed so far")
        self._rows = []

    def finish(self) -> Listing:
        """Choose the ids, sort by id and complete the columns.

        A file that several rows name is one image. The ids are the shortest form in which each is unique. Raises
        UsageError when no form is, naming two places.
        """
        self._flush()
        table, again = _one_row_per_file(pa.concat_tables(self._batches))
        ids, form, note, cut = _choose_ids(table)
        table = table.append_column("image_id", ids)
        table = table.take(pc.sort_indices(table, [("image_id", "ascending"), ("uri", "ascending")]))
        refuse_twice(table, _ADVICE)
        rejects = [
            {"image_id": names[min(form, len(names) - 1)].removeprefix(cut), "uri": uri, "reason": reason}
            for names, uri, reason in self._rejects
        ]
        images, note = complete(table, self.role), "; ".join(filter(None, (again, note)))
        return Listing(images, rejects, self._stamp.hexdigest(), self.local, note, table["place"])


def _one_row_per_file(table: pa.Table) -> tuple[pa.Table, str]:
    """The first row of each uri, and a note about the others: a table may have a row for each caption or object."""
    if pc.count_distinct(table["uri"]).as_py() == table.num_rows:
        return table, ""
    codes = np.concatenate([np.asarray(chunk.indices) for chunk in table["uri"].dictionary_encode().chunks])
    _, first, code = np.unique(codes, return_index=True, return_inverse=True)
    later = np.flatnonzero(first[code] != np.arange(len(codes)))
    left_out, used = table.take(pa.array(later)), table.take(pa.array(first[code][later]))
    same = [pc.fill_null(pc.equal(left_out[name], used[name]), False) for name in _DECIDING]
    same = [
        pc.or_(equal, pc.and_(pc.is_null(left_out[n]), pc.is_null(used[n])))
        for n, equal in zip(_DECIDING, same, strict=True)
    ]
    other = len(later) - (pc.sum(functools.reduce(pc.and_, same)).as_py() or 0)
    note = (
        f"{number_of(len(later), 'row names', 'rows name')} a file that an earlier row of the source names "
        f"({left_out['uri'][0].as_py()} first): left out, because a file is one image"
    )
    if other:
        note += f". {other:,} of them state another licence, author, group or rotation; the first row of a file counts"
    return table.take(pa.array(np.sort(first))), note


def _choose_ids(table: pa.Table) -> tuple[pa.ChunkedArray, int, str, str]:
    """Return (ids of the shortest form that is unique, or else the short ones; number of the form; a note; what was cut
    off their start)."""
    ids = short = table["id0"]
    if not table.num_rows:
        return ids, 0, "", ""
    repeated = table.num_rows - pc.count_distinct(short).as_py()
    for form in range(_IDS):
        ids = pc.coalesce(table[f"id{form}"], ids)
        if pc.count_distinct(ids).as_py() == table.num_rows:
            place = pc.index(ids, pc.min(ids)).as_py()
            cut = _folder_of_all(ids) if form else ""
            if cut:  # of absolute paths only what tells them apart
                ids = pc.utf8_slice_codeunits(ids, len(cut))
            note = (
                f"{repeated:,} of {table.num_rows:,} names repeat in this source, so the ids are longer, e.g. "
                f"{ids[place].as_py()!r} instead of {short[place].as_py()!r} (--id chooses the ids)"
            )
            return ids, form, note if form else "", cut
    return short, 0, "", ""


def _folder_of_all(paths: pa.ChunkedArray) -> str:
    """The folder that all absolute paths share, with its slash; empty when one of them is relative."""
    first, last = pc.min(paths).as_py(), pc.max(paths).as_py()
    if first[:1] != "/" or last[:1] != "/":
        return ""
    return os.path.commonpath([PurePosixPath(first).parent, PurePosixPath(last).parent]).rstrip("/") + "/"


def complete(table: pa.Table, role: str) -> pa.Table:
    """The table with all columns of the images table; those that it lacks are null, the role is set."""
    columns = []
    for column in IMAGES:
        if column.name == "role":
            columns.append(pa.array([role]).take(pa.array(np.zeros(table.num_rows, np.int64))))
        elif column.name in table.column_names:
            columns.append(table[column.name].cast(column.type))
        else:
            columns.append(pa.nulls(table.num_rows, column.type))
    return pa.table(columns, schema=IMAGES)


_ADVICE = "give --id path, or --id column:NAME with a column whose values appear once, or rename the files"


def refuse_twice(table: pa.Table, advice: str) -> None:
    """Raise UsageError when an id of the table (ascending) appears twice. `advice`: what to do then."""
    if table.num_rows < 2:
        return
    ids = table["image_id"]
    places = np.flatnonzero(pc.equal(ids.slice(1), ids.slice(0, table.num_rows - 1)).to_numpy(zero_copy_only=False))
    if not len(places):
        return
    place = int(places[0])
    first, second = table["uri"].slice(place, 2).to_pylist()
    count = len(set(ids.take(pa.array(places)).to_pylist()))
    raise UsageError(
        f"{first} and {second} would both be image {ids[place].as_py()!r}; {count} ids appear more than once: {advice}"
    )


def refuse_other_ids(old: pa.Table, new: pa.Table, role: str) -> None:
    """Raise NdecError if the images `old` of a role have a file of `new` under another id. The two share no id."""
    here = new.filter(pc.is_in(new["uri"], value_set=old["uri"].combine_chunks()))
    if not here.num_rows:
        return
    uri, image_id = here["uri"][0].as_py(), here["image_id"][0].as_py()
    before = old["image_id"][pc.index(old["uri"], uri).as_py()].as_py()
    raise NdecError(
        f"{number_of(here.num_rows, 'file')} would be in the role {role} twice, under two ids: {uri} is {before!r} "
        f"there and {image_id!r} in this source. Add only the folder or table of the new files, give the --id of the "
        "first ingest, or leave out --add to replace the role"
    )


def printable(name: str) -> str:
    """A file name as valid Unicode: a table cannot hold bytes that are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def stem(name: str) -> str:
    """The short id of a posix path: the file name without its ending."""
    return PurePosixPath(name).stem


def without_ending(name: str) -> str:
    """A posix path without the ending of its file name; `./` at its start is removed."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    return f"{folder}{slash}{PurePosixPath(file).stem}"


def name_all(names: Iterable[str], one: str, many: str) -> str:
    """`3 files are missing: a, b, c`, in one phrase; after 50 names only the number of the rest.

    one, many: `file is missing`, `files are missing`.
    """
    found = sorted(set(names))
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{number_of(len(found), one, many)}: {', '.join(found[:_NAMED])}{more}"
