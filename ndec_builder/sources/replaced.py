"""What a new listing of a role does to the images that the role had.

Ground truth and pairs are about pictures, and an ingest may replace the picture of an id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import IMAGES, LICENCE_COLUMNS
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.inspect_images import FACTS
from ndec_builder.sources.listing import refuse_other_ids

_COLUMNS = ["image_id", "sha256", "rotation", "uri"]


def merge(
    old: pa.Table, new: pa.Table, role: str, stated: pa.Array, unusable: Sequence[str] = ()
) -> tuple[pa.Table, str]:
    """Return (both tables as one, ascending by id; sentences about images that are in both, or an empty text).

    An image at the same uri takes what the new listing says: bytes, rotation, licences that are not null, and the
    group if the id is in `stated`. One whose uri is `unusable` now is left out. One with the same bytes at a different
    uri keeps its old row. Raises NdecError naming ids that would stand for two different pictures, and files that would
    be listed under two ids.
    """
    lost = pc.is_in(old["uri"], value_set=pa.array(unusable, pa.string()))
    count, old = pc.sum(lost).as_py() or 0, old.filter(pc.invert(lost))
    gone = f"{number_of(count, 'image')} of the role removed: the file cannot be used any more" if count else ""
    known = pc.is_in(new["image_id"], value_set=old["image_id"].combine_chunks())
    refuse_other_ids(old, new.filter(pc.invert(known)), role)
    again = new.filter(known)
    if not again.num_rows:
        return _by_id(old, new), gone
    before = old.take(pc.index_in(again["image_id"], value_set=old["image_id"].combine_chunks()))
    same_place = pc.equal(before["uri"], again["uri"])
    same_bytes = pc.fill_null(pc.equal(before["sha256"], again["sha256"]), False)
    if differing := again.filter(pc.invert(pc.or_(same_place, same_bytes)))["image_id"].to_pylist():
        raise NdecError(
            f"{number_of(len(differing), 'id')} would stand for two pictures of the role {role}, e.g. "
            f"{differing[0]!r}: the role has images of that name with other bytes. Rename the files, give --id "
            "path, or leave out --add to replace the role"
        )
    kept = again.num_rows - (pc.sum(same_place).as_py() or 0)
    before, again = before.filter(same_place), again.filter(same_place)
    updated = _updated(before, again, pc.is_in(again["image_id"], value_set=stated))
    rest = old.filter(pc.invert(pc.is_in(old["image_id"], value_set=again["image_id"].combine_chunks())))
    new = new.filter(pc.invert(pc.is_in(new["image_id"], value_set=old["image_id"].combine_chunks())))
    return _by_id(rest, updated, new), ". ".join(filter(None, (gone, _said(before, updated, kept))))


def _by_id(*tables: pa.Table) -> pa.Table:
    table = pa.concat_tables(tables)
    return table.take(pc.sort_indices(table, [("image_id", "ascending")])).cast(IMAGES)


def _updated(before: pa.Table, again: pa.Table, stated: pa.ChunkedArray) -> pa.Table:
    """The rows of images that were listed again at the same uri. Both tables have the same ids in the same order."""
    replaced = pc.fill_null(pc.not_equal(before["sha256"], again["sha256"]), False)
    columns = {name: again[name] for name in IMAGES.names}
    columns |= {name: pc.coalesce(again[name], before[name]) for name in FACTS}
    columns |= {
        name: pc.coalesce(again[name], pc.if_else(replaced, pa.scalar(None, pa.string()), before[name]))
        for name in LICENCE_COLUMNS
    }
    columns["group"] = pc.if_else(stated, again["group"], before["group"])
    return pa.table(columns).cast(IMAGES)


def _said(before: pa.Table, updated: pa.Table, kept: int) -> str:
    def differ(*names: str) -> int:
        keys = [
            pc.binary_join_element_wise(*(table[name] for name in names), "\x1f", null_handling="replace")
            for table in (before, updated)
        ]
        return pc.sum(pc.not_equal(*keys)).as_py() or 0

    replaced = pc.sum(pc.not_equal(before["sha256"], updated["sha256"])).as_py() or 0  # null: unknown before
    turned = pc.sum(pc.not_equal(before["rotation"], updated["rotation"])).as_py() or 0
    counts = {
        "other bytes than before, which count now": replaced,
        "a new group": differ("group"),
        "a new licence, author, title or address": differ(*LICENCE_COLUMNS),
        "a new rotation": turned,
    }
    changes = (
        ", ".join(f"{count:,} with {what}" for what, count in counts.items() if count) or "nothing about them changed"
    )
    parts = [f"{number_of(updated.num_rows, 'image')} of the role, listed again: {changes}"] if updated.num_rows else []
    if kept:
        parts.append(
            f"{number_of(kept, 'image')} with the id and the bytes of one that the role has: the old row stays"
        )
    return ". ".join(parts)


def unusable_ids(rejects: Iterable[dict[str, Any]], images: Path) -> set[str]:
    """Ids of rejected files. An id that another file has in the images table is usable."""
    ids = {row["image_id"] for row in rejects}
    return ids - set(read_table(images, ["image_id"])["image_id"].to_pylist()) if ids else ids


def earlier_rejects(path: Path, uris: list[str]) -> list[dict[str, Any]]:
    """The rows of a rejects table whose uri is not listed again."""
    again = set(uris)
    return [row for row in read_table(path).to_pylist() if row["uri"] not in again] if path.is_file() else []


def differences(workspace: Workspace, role: str, coming: Path) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return (ids that the table `coming` removes, ids that have other bytes in it, ids that it only turns).

    Where a SHA-256 is unknown, the uri decides whether the bytes are the same.
    """
    if not workspace.images(role).is_file():
        return (pa.array([], pa.string()),) * 3
    old, new = (read_table(path, _COLUMNS) for path in (workspace.images(role), coming))
    place = pc.index_in(old["image_id"].combine_chunks(), value_set=new["image_id"].combine_chunks())
    now = new.take(place)
    unequal = pc.coalesce(pc.not_equal(now["sha256"], old["sha256"]), pc.not_equal(now["uri"], old["uri"]))
    turned = pc.not_equal(*(pc.fill_null(table["rotation"], 0) for table in (now, old)))
    masks = pc.is_null(place), pc.fill_null(unequal, False), pc.and_(turned, pc.fill_null(pc.invert(unequal), False))
    gone, other, turned = (old["image_id"].filter(mask).combine_chunks() for mask in masks)
    return gone, other, turned


@dataclass
class Forgotten:
    """What is known about images that an ingest removes or replaces. notes, gaps: sentences about it · tables: path →
    the table without these rows."""

    notes: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    tables: dict[Path, pa.Table] = field(default_factory=dict)

    def drop(self, path: Path, column: str, ids: pa.Array, role: str = "", role_column: str = "role") -> int:
        """Take out the rows that name one of the ids (of images of `role`, where the table has several roles); return
        their number."""
        if not len(ids) or not path.is_file():
            return 0
        table = self.tables[path] if path in self.tables else read_table(path)
        named = pc.is_in(table[column], value_set=ids)
        if role:
            named = pc.and_(named, pc.equal(table[role_column], role))
        count: int = pc.sum(named).as_py() or 0
        if count:
            self.tables[path] = table.filter(pc.invert(named))
        return count


def find_forgotten(workspace: Workspace, role: str, coming: Path, *, add: bool, written_again: bool) -> Forgotten:
    """What has to be forgotten about images that the table `coming` removes or replaces.

    `written_again`: this ingest brings the ground truth (of basic and pool: the pairs of the release) itself, so the
    rows that go are not worth a word. They go all the same: the ingest may be killed before it writes new ones.
    """
    found = Forgotten()
    gone, other, turned = differences(workspace, role, coming)
    changed = pa.concat_arrays([gone, other])
    if not add:  # with --add, the notes about images that are listed again have these numbers
        renamed, note = _renamed(workspace, role, coming, gone)
        if renamed:
            found.notes.append(note)
        if lacking := len(gone) - renamed:
            what = number_of(lacking, "image is", "images are")
            found.notes.append(f"{what} no longer in the role: the source lacks them")
        if len(other):
            found.notes.append(f"{number_of(len(other), 'image has', 'images have')} other bytes under the same id")
        if len(turned):
            found.notes.append(f"{number_of(len(turned), 'image has', 'images have')} another rotation")
    if copies := found.drop(workspace.edits, "image_id", changed, role):
        what = number_of(copies, "edited copy", "edited copies")
        found.notes.append(f"{what} of them: `ndec edit` makes them again")
    if copies := found.drop(workspace.edits, "source_id", changed, role, "source_role"):
        found.gaps.append(
            f"{number_of(copies, 'image is', 'images are')} no longer known as an edited copy, because the {role} "
            "image that it was made from was replaced or removed: run `ndec edit` again"
        )
    ours = {"basic": (workspace.pairs, "former_id"), "pool": (workspace.pairs, "latter_id")}
    path, column = ours.get(role, (workspace.ground_truth, f"{role}_id"))
    count = found.drop(path, column, changed)
    if not count or (written_again and not add):
        return found
    if role == "reference":
        found.gaps.append(
            f"{number_of(count, 'query has', 'queries have')} no ground truth any more, because their reference was "
            "replaced or removed: ingest the queries again with --ground-truth"
        )
    else:
        what = "pair of the release" if role in ours else "row of the ground truth"
        found.notes.append(f"removed with them: {number_of(count, what, what.replace(' of', 's of'))}")
    return found


def _renamed(workspace: Workspace, role: str, coming: Path, gone: pa.Array) -> tuple[int, str]:
    """How many removed ids are of files that the table `coming` has under another id, and a note about them."""
    if not len(gone):
        return 0, ""
    old, new = (read_table(path, ["image_id", "uri"]) for path in (workspace.images(role), coming))
    old = old.filter(pc.is_in(old["image_id"], value_set=gone))
    place = pc.index_in(old["uri"], value_set=new["uri"].combine_chunks())
    old, ids = old.filter(pc.is_valid(place)), new["image_id"].take(pc.drop_null(place))
    if not old.num_rows:
        return 0, ""
    what = number_of(old.num_rows, "file has", "files have")
    return old.num_rows, (
        f"{what} another id than before, e.g. {old['image_id'][0].as_py()!r} is {ids[0].as_py()!r} now: labels and "
        "ground truth of the old ids do not count. To get the old ids back, rename the files whose names repeat, or "
        "give the --id of before, and ingest again"
    )
