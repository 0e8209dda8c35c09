"""Gold pairs: pairs of known truth, made from the user's own images and mixed unnoticed into the annotators' queues.

There are three kinds, true by construction: an original and an edited copy; a complete image and a crop of it (reverse
crop); two crops of one image, each with content that the other lacks. Their images are listed in images/gold.parquet,
which no export, embedding or search reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ndec_builder.annotation.assignment.queues import TaskRow
from ndec_builder.annotation.label_tables import keys
from ndec_builder.annotation.records.gold_truth import GoldOverTime
from ndec_builder.annotation.records.pictures import GOLD_ROLE, gold_images, pictures_tag
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.console import number_of, say, track
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.errors import NdecError
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.schemas import GOLD, IMAGES, LICENCE_COLUMNS, TASKS, pair_id, table_of
from ndec_builder.core.storage import read_table, remove_abandoned, sha256_bytes, write_bytes, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits.operations import Edited, replay
from ndec_builder.edits.recipes import edit_image, edit_json

TRUTH_OF_KIND = {"edited_copy": "edited_copy", "reverse_crop": "hard_negative", "two_crops": "no_copy"}
LEAST_CONTENT = 0.1  # share of the original that a gold copy must show: with less, the label would be a guess
LEAST_SIDE = 128  # px: images with a shorter side are not used
_JPEG_QUALITY = 95
_Row = dict[str, Any]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Source:
    """An image of the user, and the kind of gold pair to make from it."""

    kind: str
    role: str
    row: _Row


def make_gold(tables: AnnotationTables, count: int, seed: int) -> pa.Table:
    """The split's gold pairs (schema GOLD) whose truth holds, at least `count`: the existing ones, then new ones.

    Half are copies of gallery images. The others are negatives made from pool images, first those in no mined pair.
    Deterministic; after a kill, the next call makes the same pairs. Raises NdecError if the images are too few or too
    small.
    """
    existing, workspace, split = tables.gold, tables.workspace, tables.split
    lost = GoldOverTime(workspace, split, existing).lost()
    for folder in (workspace.files(GOLD_ROLE), gold_images(workspace).parent):
        remove_abandoned(folder)
    if existing.num_rows - len(lost) >= count:
        return _without(existing, lost)
    pairs: list[_Row] = existing.to_pylist()
    known, used = {row["pair_id"] for row in pairs}, {row["source_id"] for row in pairs if row["pair_id"] not in lost}
    count += len(lost)
    images: list[_Row] = []
    for number, source in enumerate(track(list(_sources(tables, 3 * count, seed)), 3 * count, "gold pairs")):
        if len(pairs) >= count:
            break
        if source.row["image_id"] in used:
            continue
        made = _make(workspace, split, source, seed, number)
        if made is not None and made[0]["pair_id"] not in known:
            known.add(made[0]["pair_id"])
            pairs.append(made[0])
            images += made[1]
    if len(pairs) < count:
        raise NdecError(
            f"only {len(pairs) - len(lost)} of {count - len(lost)} gold pairs could be made: the images of split "
            f"{split!r} are too few, or smaller than {LEAST_SIDE} px; ask for a smaller share with --gold"
        )
    _list_images(workspace, images)  # before the pairs: a pair without its image would show a placeholder
    tables.write("gold", table_of(GOLD, pairs))
    say(f"{number_of(len(pairs) - existing.num_rows, 'gold pair')} made for the split {split}")
    return _without(tables.gold, lost)


def _without(gold: pa.Table, lost: Collection[str]) -> pa.Table:
    return gold.filter(pa.array([pair not in lost for pair in gold["pair_id"].to_pylist()], pa.bool_()))


def _sources(tables: AnnotationTables, count: int, seed: int) -> Iterator[_Source]:
    """Gallery images for copies and pool images for negatives in turn, each once; pool images in mined pairs last."""
    rng, split = np.random.default_rng([seed, 1]), tables.split
    gallery, pool = (tables.workspace.read_images(role) for role in (GALLERY[split], "pool"))
    mined = {query for table in tables.mined for query in table["query_id"].to_pylist()}
    copies = rng.permutation(gallery.num_rows)
    order = rng.permutation(pool.num_rows)
    shown = np.array([image in mined for image in pool["image_id"].to_pylist()], bool)
    negatives = np.concatenate([order[~shown[order]], order[shown[order]]])
    for number in range(min(count, 2 * max(len(copies), len(negatives)))):
        place = number // 2
        if number % 2 == 0 and place < len(copies):
            yield _Source("edited_copy", GALLERY[split], gallery.slice(int(copies[place]), 1).to_pylist()[0])
        elif number % 2 and place < len(negatives):
            kind = ("reverse_crop", "two_crops")[place % 2]
            yield _Source(kind, "pool", pool.slice(int(negatives[place]), 1).to_pylist()[0])


def _make(workspace: Workspace, split: str, source: _Source, seed: int, number: int) -> tuple[_Row, list[_Row]] | None:
    """(row of GOLD, rows of IMAGES of the images made), or None if the image is unsuitable."""
    rng, row = np.random.default_rng([seed, 77, number]), source.row
    try:
        original = decode(read_image(workspace.resolve(row["uri"]), row["sha256"]), row["rotation"] or 0)
    except (OSError, DecodeError):
        return None
    if min(original.size) < LEAST_SIDE:
        return None
    if source.kind == "edited_copy":
        edited = edit_image(original, "copy", rng)
        if edited.content_share < LEAST_CONTENT:
            return None
        query, sides = _keep(workspace, source, edited), {"reference": (source.role, source.row["image_id"])}
        images, how, shown_with = [query], edit_json(edited, "copy", seed), row["sha256"]
    else:
        left, right = (None, _reverse_box(rng)) if source.kind == "reverse_crop" else _two_boxes(rng)
        # A light edit as well: equal pixels in both images would distinguish these pairs from mined ones.
        shown = edit_image(_cut(original, left).image, "light", rng)
        query, reference = _keep(workspace, source, shown), _keep(workspace, source, _cut(original, right))
        images, sides = [query, reference], {"reference": (GOLD_ROLE, reference["image_id"])}
        shown_with = reference["sha256"]
        how = json.dumps({"query_box": left, "reference_box": right, "query_edits": list(shown.edits)}, sort_keys=True)
    role, reference_id = sides["reference"]
    pair = {
        "pair_id": pair_id(split, query["image_id"], reference_id),
        "query_id": query["image_id"], "query_role": GOLD_ROLE, "reference_id": reference_id, "reference_role": role,
        "truth": TRUTH_OF_KIND[source.kind], "kind": source.kind,
        "source_id": source.row["image_id"], "source_role": source.role, "edit": how,
        "pictures": pictures_tag(query["sha256"], shown_with),
    }  # fmt: skip
    return pair, images


def _cut(image: Image.Image, box: Box | None) -> Edited:
    return replay(image, [] if box is None else [{"operation": "crop", "parameters": {"box": list(box)}}])


def _reverse_box(rng: np.random.Generator) -> Box:
    """A crop with 25 to 60 % of the area: the complete image clearly shows more."""
    side = float(np.sqrt(rng.uniform(0.25, 0.6)))
    left, top = (float(value) for value in rng.uniform(0, 1 - side, 2))
    return (round(left, 4), round(top, 4), round(left + side, 4), round(top + side, 4))


def _two_boxes(rng: np.random.Generator) -> tuple[Box, Box]:
    """Two crops of 0.7 of the sides, shifted by 0.3 along one or both: each has about 30 % that the other lacks."""
    size, shift = 0.7, 0.3
    both = rng.random() < 0.5
    along = rng.integers(2)
    dx, dy = (shift, shift) if both else (shift * along, shift * (1 - along))
    x, y = ((1 - size - d) * float(rng.random()) for d in (dx, dy))
    one = (round(x, 4), round(y, 4), round(x + size, 4), round(y + size, 4))
    two = (round(x + dx, 4), round(y + dy, 4), round(x + dx + size, 4), round(y + dy + size, 4))
    return (one, two) if rng.random() < 0.5 else (two, one)


def _keep(workspace: Workspace, source: _Source, edited: Edited) -> _Row:
    """Write an image under the hash of its file; returns its row of IMAGES."""
    buffer = io.BytesIO()
    edited.image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    data = buffer.getvalue()
    name = hashlib.sha256(data).hexdigest()[:16]
    path = write_bytes(workspace.files(GOLD_ROLE) / f"{name}.jpg", data)
    return {
        **{column: source.row[column] for column in (*LICENCE_COLUMNS, "group")},
        "image_id": name, "role": GOLD_ROLE, "uri": workspace.uri_of(path), "sha256": sha256_bytes(data),
        "width": edited.image.width, "height": edited.image.height, "format": "JPEG", "rotation": 0,
    }  # fmt: skip


def _list_images(workspace: Workspace, rows: Sequence[_Row]) -> None:
    path = gold_images(workspace)
    existing = read_table(path).to_pylist() if path.is_file() else []
    by_id = {row["image_id"]: row for row in [*existing, *rows]}
    write_table(path, table_of(IMAGES, [by_id[name] for name in sorted(by_id)]))


def gold_needed(new: pa.Table, tasks: pa.Table, share: float, lost: Collection[str] = ()) -> int:
    """How many gold pairs whose truth holds must exist so that every annotator gets a `share` of gold, and no gold pair
    twice. lost: gold pairs whose truth does not hold.
    """
    rows = new["annotator"].to_pylist()
    before = [
        name for pair, name, is_gold in keys(tasks, "pair_id", "annotator", "is_gold") if is_gold and pair not in lost
    ]
    return max((before.count(name) + gold_count(rows.count(name), share) for name in set(rows)), default=0)


def gold_count(pairs: int, share: float) -> int:
    """Gold pairs for an annotator with so many new pairs: the share of all pairs that they then label, rounded up."""
    return math.ceil(pairs * share / (1 - share) - 1e-9)


def mix_in_gold(new: pa.Table, gold: pa.Table, share: float, tasks: pa.Table, seed: int) -> pa.Table:
    """The rows `new` (of one round) with gold pairs at random places of each annotator's queue, renumbered.

    No annotator gets a gold pair twice, in any round. Different annotators get different ones if there are enough. The
    order of the other rows stays. Deterministic.
    """
    had: dict[str, set[str]] = defaultdict(set)
    for gold_pair, annotator in keys(tasks, "pair_id", "annotator"):
        had[gold_pair].add(annotator)
    rows = sorted(new.to_pylist(), key=lambda row: (row["annotator"], row["position"]))
    pairs = gold.to_pylist()
    mixed: list[TaskRow] = []
    for number, name in enumerate(sorted({row["annotator"] for row in rows})):
        own = [row for row in rows if row["annotator"] == name]
        digest = hashlib.sha256(f"{seed}/{name}/{own[0]['round']}/{own[0]['batch']}".encode()).digest()
        rng = np.random.default_rng(list(digest))
        free = [pair for pair in pairs if name not in had[pair["pair_id"]]]
        count = min(gold_count(len(own), share), len(free))
        start = number * count % max(len(free), 1)  # a different part for each annotator, if there are enough
        chosen = [(free[start:] + free[:start])[i] for i in range(count)]
        places = set(rng.permutation(len(own) + count)[:count].tolist())
        first, order, left = own[0]["position"], iter(rng.permutation(count).tolist()), iter(own)
        for place in range(len(own) + count):
            if place in places:
                pair = chosen[next(order)]
                ids = {column: pair[column] for column in ("pair_id", "query_id", "reference_id")}
                row = own[0] | ids | {"is_gold": True}
            else:
                row = next(left)
            mixed.append(row | {"position": first + place})
    return table_of(TASKS, mixed)


def in_place_of(rows: Sequence[TaskRow], gold: pa.Table, tasks: pa.Table) -> pa.Table:
    """The rows of gold pairs (schema TASKS), each with another gold pair of `gold` that its annotator never had.

    Rows for which none is left are missing. `tasks`: all tasks. Deterministic.
    """
    had: dict[str, set[str]] = defaultdict(set)
    for pair_id_, annotator in keys(tasks, "pair_id", "annotator"):
        had[annotator].add(pair_id_)
    pairs, found = gold.to_pylist(), []
    for row in sorted(rows, key=lambda row: (row["annotator"], row["round"], row["position"])):
        free = (pair for pair in pairs if pair["pair_id"] not in had[row["annotator"]])
        if (pair := next(free, None)) is not None:
            had[row["annotator"]].add(pair["pair_id"])
            found.append(row | {column: pair[column] for column in ("pair_id", "query_id", "reference_id")})
    return table_of(TASKS, found)
