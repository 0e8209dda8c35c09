"""Which pictures a task or a label is about, and whether they are still those of the pair.

An image id can get other bytes or another rotation by a later ingest. Each task carries a tag of the pictures that it
was made for, and each label the tag of its task: so it does not matter when a label was given, or when the page was
opened. Tasks and labels of older versions have no tag. Their labels are about the pictures that the two ids had at the
time, by two clocks that must agree: Label Studio's for the label, and the workspace's for the ingest.

What an annotator is asked is a *question*: a pair with the bytes of its pictures. Its name is the pair's id if they are
today's, else the pair's id, `~` and the tag.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.rows import as_values
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace, rows_by_id
from ndec_builder.sources.pictures_over_time import PicturesOverTime, picture_of

GOLD_ROLE = "gold"  # role of the images made for gold pairs; no other stage reads this role
_MARK = "~"  # pair ids are hex digits
_DIGITS = 8  # each takes a byte of three copies of a million labels while a pull sorts them
_PAIR = ["pair_id", "query_id", "reference_id"]
Images = tuple[str, str]  # ids of query and reference


def pictures_tag(query: str | None, reference: str | None) -> str | None:
    """8 hex digits that stand for the pictures of a pair (sources/pictures_over_time.py); None if one is unknown."""
    if query is None or reference is None:
        return None
    return hashlib.sha256(f"{query} {reference}".encode()).hexdigest()[:_DIGITS]


def tag_of(data: Mapping[str, Any]) -> str | None:
    """The tag in the data of a task; None in tasks of an older version, and in those that somebody edited."""
    found = data.get("pictures")
    return found if isinstance(found, str) and len(found) == _DIGITS else None


def pair_of(question: str) -> str:
    """The pair that a question is about."""
    return question.partition(_MARK)[0]


def is_former(question: str | None) -> bool:
    """Whether a question is about pictures that were replaced since."""
    return question is not None and _MARK in question


def has_tag(question: str | None) -> bool:
    """Whether the task of this question, which is_former, has a tag: those of older versions have none."""
    return question is not None and not question.endswith(_MARK)


class ShownPictures:
    """The pictures of a split's pairs today. Looks up only the pairs of which a picture was ever replaced.

    tasks: those of the split; None reads the file, if any picture was replaced.
    """

    def __init__(self, workspace: Workspace, split: str, tasks: pa.Table | None = None) -> None:
        self._roles = ("pool", GALLERY[split])
        self._over_time = [PicturesOverTime(workspace, role) for role in self._roles]
        self._given, self._path = tasks, workspace.annotation(split) / "tasks.parquet"

    @cached_property
    def touched(self) -> dict[str, Images]:
        """The pairs of which a picture was ever replaced or removed, with its images. Gold pairs are never touched."""
        tasks = self._given
        if not any(len(pictures.replaced) for pictures in self._over_time) or (
            tasks is None and not self._path.is_file()
        ):
            return {}
        tasks = read_table(self._path, [*_PAIR, "is_gold"]) if tasks is None else tasks
        return _images_of(
            tasks.filter(pc.and_(self._replaced(tasks), pc.invert(pc.fill_null(tasks["is_gold"], False))))
        )

    def _replaced(self, pairs: pa.Table) -> pa.ChunkedArray:
        """(pairs,) bool: whether a picture of the pair was ever replaced or removed."""
        sides = zip(_PAIR[1:], self._over_time, strict=True)
        return pc.or_(*(pc.is_in(pairs[name], value_set=pictures.replaced) for name, pictures in sides))

    def tags_to_keep(self, pairs: pa.Table) -> dict[str, str | None]:
        """What to keep with values of pairs (pair_id, query_id, reference_id): tags that `others_since` compares with.

        Only of pairs with a picture that was replaced before: the first pictures of the others are known.
        """
        return self.tags(_images_of(pairs.filter(self._replaced(pairs))))

    def others_since(self, pairs: pa.Table, kept: Mapping[str, str | None]) -> set[str]:
        """The pairs that show other pictures now than when `tags_to_keep` was called. Unknown pictures equal all."""
        images = _images_of(pairs.filter(self._replaced(pairs)))
        if not images:
            return set()
        then = self._tags(images, [pictures.first for pictures in self._over_time]) | dict(kept)
        return {pair for pair, tag in self.tags(images).items() if None not in (tag, then[pair]) and tag != then[pair]}

    @cached_property
    def removed(self) -> set[str]:
        """The pairs of which an image was removed from the workspace."""
        present = [
            pictures.present({images[side] for images in self.touched.values()})
            for side, pictures in enumerate(self._over_time)
        ]
        return {pair for pair, ids in self.touched.items() if any(ids[side] not in present[side] for side in (0, 1))}

    @cached_property
    def _now(self) -> dict[str, str | None]:
        return self.tags(self.touched) if self.touched else {}

    def tags(self, pairs: Mapping[str, Images]) -> dict[str, str | None]:
        """pair_id → tag of its pictures today; None where one is unknown or was removed."""
        return self._tags(pairs, [pictures.present for pictures in self._over_time])

    @staticmethod
    def _tags(
        pairs: Mapping[str, Images], look_up: Sequence[Callable[[set[str]], Mapping[str, str | None]]]
    ) -> dict[str, str | None]:
        sides = [find({images[side] for images in pairs.values()}) for side, find in enumerate(look_up)]
        return {
            pair: pictures_tag(sides[0].get(query), sides[1].get(reference))
            for pair, (query, reference) in pairs.items()
        }

    def question(self, pair: str, tag: str | None) -> str:
        """The name of what a task or a label of this pair with this tag asks. Unknown pictures equal everything."""
        return pair if pair not in self.touched or self._now[pair] in (None, tag) else f"{pair}{_MARK}{tag or ''}"

    def former_labels(self, labels: pa.Table) -> np.ndarray:
        """(labels,) bool: which rows (schema LABEL_ROWS) are about a picture that was replaced since.

        Unknown hashes equal everything. Images that the workspace no longer has count as not replaced; callers leave
        their labels out. Gold pairs decide nothing and are never replaced.
        """
        mask = np.zeros(labels.num_rows, dtype=bool)
        if not self.touched:
            return mask
        rows = np.flatnonzero(pc.is_in(labels["pair_id"], pa.array(sorted(self.touched), pa.string())).to_numpy())
        columns = (as_values(labels[name].take(rows)) for name in ("pair_id", "annotated_at", "pictures"))
        present = [
            pictures.present({self.touched[pair][side] for pair in self.touched})
            for side, pictures in enumerate(self._over_time)
        ]
        for row, pair, moment, tag in zip(rows, *columns, strict=True):
            if tag is not None:
                mask[row] = self._now[pair] not in (None, tag)
                continue
            for image, pictures, today in zip(self.touched[pair], self._over_time, present, strict=True):
                then, now = pictures.earlier(image, moment), today.get(image)
                mask[row] |= then is not None and now not in (None, then)
        return mask


def _images_of(pairs: pa.Table) -> dict[str, Images]:
    columns = (pairs[name].to_pylist() for name in _PAIR)
    return {pair: (query, reference) for pair, query, reference in zip(*columns, strict=True)}


def of_these_pictures(values: pa.Table, shown: ShownPictures, pairs: Sequence[pa.Table], record: Path) -> pa.Table:
    """The rows of a table of values of pairs whose pictures are those that the values were made from.

    pairs: tables with pair_id, query_id and reference_id · record: the run record of the command that made the values.
    """
    kept = read_json(record).get("pictures", {}) if values.num_rows and record.is_file() else {}
    others = {pair for table in (pairs if values.num_rows else ()) for pair in shown.others_since(table, kept)}
    return values.filter(pc.invert(pc.is_in(values["pair_id"], pa.array(sorted(others), pa.string()))))


def gold_images(workspace: Workspace) -> Path:
    """Table (schema IMAGES) of the images made for gold pairs."""
    return workspace.root / "images" / "gold.parquet"


def gold_tags(workspace: Workspace, rows: Sequence[Mapping[str, Any]]) -> dict[str, str | None]:
    """pair_id → tag of these gold pairs (rows of schema GOLD)."""
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        for side in ("query", "reference"):
            wanted[row[f"{side}_role"]].add(row[f"{side}_id"])
    found = {}
    for role, ids in wanted.items():
        path = gold_images(workspace) if role == GOLD_ROLE else workspace.images(role)
        for name, image in rows_by_id(path, ids, ["sha256", "rotation"]).items() if path.is_file() else ():
            found[role, name] = picture_of(image["sha256"], image["rotation"])
    sides = ("query", "reference")
    return {
        row["pair_id"]: pictures_tag(*(found.get((row[f"{side}_role"], row[f"{side}_id"])) for side in sides))
        for row in rows
    }


def lost_pictures(
    workspace: Workspace, split: str, tasks: pa.Table, labels: pa.Table
) -> list[tuple[int, str | None, str | None]]:
    """Labels about a picture that its id does not have any more: (row in labels, the pool's picture, the other one),
    ascending by row; None where one is unknown.

    tasks: schema TASKS · labels: schema LABEL_ROWS. Labels of ids that the tasks do not name are left out.
    """
    pictures, others = PicturesOverTime(workspace, "pool"), PicturesOverTime(workspace, GALLERY[split])
    touched = pc.or_(
        pc.is_in(tasks["query_id"], pictures.replaced), pc.is_in(tasks["reference_id"], value_set=others.replaced)
    )
    images = _images_of(tasks.filter(touched))
    rows = np.flatnonzero(pc.is_in(labels["pair_id"], pa.array(sorted(images), pa.string())).to_numpy())
    now = [side.present({pair[at] for pair in images.values()}) for at, side in enumerate((pictures, others))]
    found = []
    columns = (as_values(labels[name].take(rows)) for name in ("pair_id", "annotated_at", "pictures"))
    for row, pair, moment, tag in zip(rows.tolist(), *columns, strict=True):
        query, reference = images[pair]
        today = now[0].get(query), now[1].get(reference)
        if tag is None:
            seen = {(pictures.earlier(query, moment) or today[0], others.earlier(reference, moment) or today[1])}
        else:
            sides = [*pictures.former(query), today[0]], [*others.former(reference), today[1]]
            seen = {both for both in product(*sides) if pictures_tag(*both) == tag}
        found += [(row, *both) for both in sorted(seen - {today}, key=str)]
    return found
