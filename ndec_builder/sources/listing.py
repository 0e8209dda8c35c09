"""What a source names, before any image is opened: rows of the images table without hash and size."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import say
from ndec_builder.core.errors import UsageError
from ndec_builder.core.schemas import IMAGES, LICENCE_COLUMNS
from ndec_builder.sources.ground_truth import Match

_FLUSH = 50_000  # rows kept as Python objects before they become a record batch
_SAID = 10  # batches between two lines that say how far the listing is
_NAMED = 50  # so many missing things are named in a message; the rejects table has all
_COLUMNS = ["image_id", "uri", "rotation", *LICENCE_COLUMNS, "group"]


@dataclass(frozen=True)
class Listing:
    """Images of one role. images: schema IMAGES, ascending unique image_id, what only opening tells is null."""

    images: pa.Table
    rejects: list[dict[str, Any]]
    stamp: str  # changes when a file's size or time does: a broken-off run goes on only with the same files
    local: bool  # some are on this machine, so that opening them downloads nothing


@dataclass(frozen=True)
class SourceContents:
    """What a source holds: a listing for each role it fills, and what it says beside."""

    listings: Mapping[str, Listing]
    gaps: tuple[str, ...] = ()  # what is missing, a phrase each; the run ends with exit code 3
    truth: list[Match] | None = None
    pairs: pa.Table | None = None  # schema PAIRS
    md5: Mapping[str, str] = field(default_factory=dict)  # image_id → hex digest that the bytes must have
    inputs: Mapping[str, str] = field(default_factory=dict)  # sha256 of lists and csvs, for the run record


class Lister:
    """Collects the rows of one role, in any order, in little memory. Usage: `add`, `reject`, then `finish`."""

    def __init__(self, role: str, license: str | None = None) -> None:
        self.role, self.license, self.local = role, license or None, False
        self.rejects: list[dict[str, Any]] = []
        self._rows: list[tuple[Any, ...]] = []
        self._batches: list[pa.Table] = []
        self._stamp = hashlib.sha256()

    def add(
        self,
        image_id: str,
        uri: str,
        *,
        group: str | None = None,
        rotation: int = 0,
        stamp: object = None,
        **licence: Any,
    ) -> None:
        """One image. Ids and uris that are no valid Unicode become rejects: they cannot stand in a table."""
        if printable(uri) != uri or printable(image_id) != image_id:
            return self.reject(image_id, uri, "the file name is not UTF-8; rename the file")
        self.local |= "://" not in uri
        licence["license"] = licence.get("license") or self.license
        self._rows.append((image_id, uri, rotation, *(licence.get(name) for name in LICENCE_COLUMNS), group))
        self._stamp.update(f"{uri}\x1f{stamp}\x1e".encode())
        if len(self._rows) >= _FLUSH:
            self._flush()
        return None

    def reject(self, image_id: str, uri: str, reason: str) -> None:
        self.rejects.append({"image_id": printable(image_id), "uri": printable(uri), "reason": printable(reason)})

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(_COLUMNS)
        arrays = [
            pa.array(list(values), IMAGES.field(name).type) for name, values in zip(_COLUMNS, columns, strict=True)
        ]
        self._batches.append(pa.table(arrays, names=_COLUMNS))
        if len(self._batches) % _SAID == 0:
            say(f"{len(self._batches) * _FLUSH:,} {self.role} images listed so far")
        self._rows = []

    def finish(self) -> Listing:
        """Sort by id and complete the columns. Raises UsageError when an id comes twice, naming both places."""
        self._flush()
        table = pa.concat_tables(self._batches)
        table = table.take(pc.sort_indices(table, [("image_id", "ascending"), ("uri", "ascending")]))
        refuse_twice(table)
        return Listing(complete(table, self.role), self.rejects, self._stamp.hexdigest(), self.local)


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


def refuse_twice(table: pa.Table) -> None:
    """Raise UsageError when an id of the table (ascending) comes twice."""
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
        f"{first} and {second} would both be image {ids[place].as_py()!r}, since an image id is the file name without "
        f"its ending unless the source names one ({count} ids come more than once); rename one of the two, remove it, "
        "or give --kind imagefolder, which puts the names of folders into the ids of their images"
    )


def printable(name: str) -> str:
    """A file name as valid Unicode: bytes that are no UTF-8 cannot stand in a table."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def stem(name: str) -> str:
    """An image id from a posix path: the file name without its ending."""
    return PurePosixPath(name).stem


def name_all(what: str, names: Iterable[str]) -> str:
    """`3 files are missing: a, b, c`, in one phrase; beyond 50 the number says the rest."""
    found = sorted(set(names))
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"{len(found)} {what}: {', '.join(found[:_NAMED])}{more}"


def top_reasons(rejects: Iterable[Mapping[str, Any]]) -> str:
    reasons = collections.Counter(row["reason"] for row in rejects).most_common(3)
    return "; ".join(f"{count} × {reason}" for reason, count in reasons)
