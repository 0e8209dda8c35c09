"""Which picture an id had at an earlier time, from a record of what ingests replaced, removed or turned.

Labels are about what people saw. A *picture* is here the bytes of an image and its rotation, as one text: the SHA-256,
followed by the clockwise degrees if there are any.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from operator import methodcaller
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.schemas import REPLACED, conform
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace

_COLUMNS = ["image_id", "sha256", "rotation"]
_EPOCH, _MICROSECOND = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)


def picture_of(sha256: str | None, rotation: int | None) -> str | None:
    """The picture of one image; None if its bytes are unknown.

    >>> picture_of("5f0c", None), picture_of("5f0c", 0), picture_of("5f0c", 90), picture_of(None, 90)
    ('5f0c', '5f0c', '5f0c 90', None)
    """
    return f"{sha256} {rotation}" if sha256 and rotation else sha256


def picture_column(images: pa.Table) -> pa.ChunkedArray:
    """The picture of each image of a table with sha256 and rotation; null if its bytes are unknown."""
    turns = pc.fill_null(images["rotation"], 0)
    if not pc.any(pc.not_equal(turns, 0)).as_py():
        return images["sha256"]
    turned = pc.binary_join_element_wise(images["sha256"], turns.cast(pa.string()), " ")
    return pc.if_else(pc.equal(turns, 0), images["sha256"], turned)


def bytes_of(picture: str) -> str:
    """The SHA-256 of a picture.

    >>> bytes_of("5f0c 90"), bytes_of("5f0c")
    ('5f0c', '5f0c')
    """
    return picture.partition(" ")[0]


def record_replaced(workspace: Workspace, role: str, coming: Path) -> None:
    """Append what the table `coming` replaces, removes or turns to the record; call it before that becomes the table.

    An unknown hash (an image that was never opened) ends what is known of the picture before. A removed image with one
    is recorded as well: people may have labelled it. If the process is killed in between, the record has rows about
    pictures that are still present; these change nothing.
    """
    if not workspace.images(role).is_file():
        return
    old, new = read_table(workspace.images(role), _COLUMNS), read_table(coming, _COLUMNS)
    place = pc.index_in(old["image_id"], value_set=new["image_id"].combine_chunks())
    now = picture_column(new).take(place)  # null: removed or unknown
    other = pc.and_(pc.is_valid(old["sha256"]), pc.fill_null(pc.not_equal(now, picture_column(old)), True))
    gone = old.filter(pc.or_(other, pc.is_null(place)))
    if gone.num_rows:
        until = pa.array([datetime.now(UTC)] * gone.num_rows, REPLACED.field("until").type)
        rows = gone.append_column("until", until).cast(REPLACED)
        write_table(workspace.replaced_images(role), pa.concat_tables([_record(workspace, role), rows]))


class PicturesOverTime:
    """The pictures of a role's images at any time since the workspace records them.

    The record may be as long as a pool that was replaced: it stays an Arrow table, sorted by (image_id, until).
    """

    def __init__(self, workspace: Workspace, role: str) -> None:
        self._workspace, self._role = workspace, role
        rows = _record(workspace, role)
        self._touched = rows["image_id"].combine_chunks()
        rows = rows.filter(pc.is_valid(rows["sha256"]))  # others may be a whole pool that was only listed
        rows = rows.sort_by([("image_id", "ascending"), ("until", "ascending")])
        self._ids, self._pictures = rows["image_id"].combine_chunks(), picture_column(rows).combine_chunks()
        self._until = rows["until"].cast(pa.int64()).to_numpy()

    @cached_property
    def replaced(self) -> pa.Array:
        """Ids that had another picture before or were removed, each once."""
        return self._touched.unique()

    def _rows(self, image_id: str) -> slice:
        """The rows about an image among those whose picture is known."""
        return slice(*(find(self._ids, image_id, key=methodcaller("as_py")) for find in (bisect_left, bisect_right)))

    def present(self, ids: Iterable[str]) -> dict[str, str | None]:
        """id → picture now; None if it is unknown. Ids without an image are left out."""
        if not self._workspace.images(self._role).is_file():
            return {}
        rows = self._workspace.image_rows(self._role, ids, ["sha256", "rotation"])
        return {name: picture_of(row["sha256"], row["rotation"]) for name, row in rows.items()}

    def first(self, ids: Iterable[str]) -> dict[str, str | None]:
        """id → the first picture that is known of it; None if none is. Ids that never had an image are left out."""
        wanted = list(ids)
        return self.present(wanted) | {name: found[0] for name in wanted if (found := self.former(name))}

    def earlier(self, image_id: str, moment: datetime) -> str | None:
        """The picture that an id had at a time and lost later; None if it has the same picture since.

        A picture whose hash was unknown then is taken for the one that was known next.
        """
        rows = self._rows(image_id)
        later = np.searchsorted(self._until[rows], (moment - _EPOCH) // _MICROSECOND, side="right")
        return next(iter(self._pictures[rows][later:].to_pylist()), None)

    def former(self, image_id: str) -> list[str]:
        """All known pictures that an id had and lost, oldest first."""
        return list(self._pictures[self._rows(image_id)].to_pylist())


def _record(workspace: Workspace, role: str) -> pa.Table:
    path = workspace.replaced_images(role)
    if not path.is_file():
        return REPLACED.empty_table()
    table = read_table(path)
    if "rotation" not in table.column_names:  # of an earlier version, which recorded only other bytes
        table = table.append_column(REPLACED.field("rotation"), pa.nulls(table.num_rows, pa.int32()))
    return conform(table, REPLACED)
