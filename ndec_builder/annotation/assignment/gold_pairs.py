"""Gold pairs: pairs of known truth, made of the user's own images, that people label without knowing.

Three kinds, true by construction: an edited copy beside its original; a whole picture beside a crop of it (reverse
crop); two crops of one picture, each with something that the other lacks. Their pictures are files like all others,
listed in images/gold.parquet, which no export, embedding or search reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ndec_builder.annotation.tables import GOLD_ROLE, gold_images, read_gold
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.console import say, track
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import GOLD, IMAGES, LICENCE_COLUMNS, TASKS, pair_id, table_of
from ndec_builder.core.storage import read_table, read_uri, sha256_bytes, write_bytes, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits.operations import Edited, replay
from ndec_builder.edits.recipes import edit_image, edit_json

TRUTH = {"edited_copy": "edited_copy", "reverse_crop": "hard_negative", "two_crops": "no_copy"}
LEAST_CONTENT = 0.1  # share of the original that a gold copy still shows: less is a guess, not a measure of people
LEAST_SIDE = 128  # px, of an image to make gold of
JPEG_QUALITY = 95
Row = dict[str, Any]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Source:
    """An image of the user's that gold is made of, and of which kind."""

    kind: str
    role: str
    row: Row


def make_gold(workspace: Workspace, split: str, count: int, seed: int) -> pa.Table:
    """The split's gold pairs (schema GOLD), `count` at least: those that are there, and new ones after them.

    Half are copies of gallery images, the others negatives made of pool images, those first that no mined pair shows.
    Deterministic; killed anywhere, the next call makes the same. Raises NdecError when the images are too few or small.
    """
    there = read_gold(workspace, split)
    if there.num_rows >= count:
        return there
    pairs: list[Row] = there.to_pylist()
    known, used = ({row[name] for row in pairs} for name in ("pair_id", "source_id"))
    images: list[Row] = []
    for number, source in enumerate(track(list(_sources(workspace, split, 3 * count, seed)), 3 * count, "gold pairs")):
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
            f"only {len(pairs)} gold pairs could be made of {count}: the images of split {split!r} are too few, or "
            f"smaller than {LEAST_SIDE} px; ask for a smaller share with --gold"
        )
    _list_images(workspace, images)  # before the pairs: a pair without its picture would show a placeholder
    table = table_of(GOLD, pairs)
    write_table(workspace.annotation(split) / "gold.parquet", table)
    say(f"{len(pairs) - there.num_rows} gold pairs made for the split {split}")
    return table


def _sources(workspace: Workspace, split: str, count: int, seed: int) -> Iterator[Source]:
    """Copies of the gallery and negatives of the pool in turns, each image once; pool images in mined pairs last."""
    rng = np.random.default_rng([seed, 1])
    gallery, pool = (workspace.read_images(role) for role in (GALLERY[split], "pool"))
    mined = set(read_table(workspace.candidates(split) / "candidates.parquet", ["query_id"])["query_id"].to_pylist())
    copies = rng.permutation(gallery.num_rows)
    order = rng.permutation(pool.num_rows)
    shown = np.array([image in mined for image in pool["image_id"].to_pylist()], bool)
    negatives = np.concatenate([order[~shown[order]], order[shown[order]]])
    for number in range(min(count, 2 * max(len(copies), len(negatives)))):
        place = number // 2
        if number % 2 == 0 and place < len(copies):
            yield Source("edited_copy", GALLERY[split], gallery.slice(int(copies[place]), 1).to_pylist()[0])
        elif number % 2 and place < len(negatives):
            kind = ("reverse_crop", "two_crops")[place % 2]
            yield Source(kind, "pool", pool.slice(int(negatives[place]), 1).to_pylist()[0])


def _make(workspace: Workspace, split: str, source: Source, seed: int, number: int) -> tuple[Row, list[Row]] | None:
    """(row of GOLD, rows of IMAGES of what was made) or None for an image that does not do."""
    rng = np.random.default_rng([seed, 77, number])
    try:
        original = decode(read_uri(workspace.resolve(source.row["uri"])), source.row["rotation"] or 0)
    except (OSError, DecodeError):
        return None
    if min(original.size) < LEAST_SIDE:
        return None
    if source.kind == "edited_copy":
        edited = edit_image(original, "copy", rng)
        if edited.content_share < LEAST_CONTENT:
            return None
        query, sides = _keep(workspace, source, edited), {"reference": (source.role, source.row["image_id"])}
        images, how = [query], edit_json(edited, "copy", seed)
    else:
        left, right = (None, _reverse_box(rng)) if source.kind == "reverse_crop" else _two_boxes(rng)
        # A light edit as well: equal pixels in both pictures would tell these pairs from mined ones.
        shown = edit_image(_cut(original, left).image, "light", rng)
        query, reference = _keep(workspace, source, shown), _keep(workspace, source, _cut(original, right))
        images, sides = [query, reference], {"reference": (GOLD_ROLE, reference["image_id"])}
        how = json.dumps({"query_box": left, "reference_box": right, "query_edits": list(shown.edits)}, sort_keys=True)
    role, reference_id = sides["reference"]
    pair = {
        "pair_id": pair_id(split, query["image_id"], reference_id),
        "query_id": query["image_id"], "query_role": GOLD_ROLE, "reference_id": reference_id, "reference_role": role,
        "truth": TRUTH[source.kind], "kind": source.kind,
        "source_id": source.row["image_id"], "source_role": source.role, "edit": how,
    }  # fmt: skip
    return pair, images


def _cut(image: Image.Image, box: Box | None) -> Edited:
    return replay(image, [] if box is None else [{"operation": "crop", "parameters": {"box": list(box)}}])


def _reverse_box(rng: np.random.Generator) -> Box:
    """A crop with a quarter to six tenths of the area: the whole shows plainly more."""
    side = float(np.sqrt(rng.uniform(0.25, 0.6)))
    left, top = (float(value) for value in rng.uniform(0, 1 - side, 2))
    return (round(left, 4), round(top, 4), round(left + side, 4), round(top + side, 4))


def _two_boxes(rng: np.random.Generator) -> tuple[Box, Box]:
    """Two crops of 0.7 of the sides, shifted by 0.3 along one or both: each has a third that the other lacks."""
    size, shift = 0.7, 0.3
    both = rng.random() < 0.5
    along = rng.integers(2)
    dx, dy = (shift, shift) if both else (shift * along, shift * (1 - along))
    x, y = ((1 - size - d) * float(rng.random()) for d in (dx, dy))
    one = (round(x, 4), round(y, 4), round(x + size, 4), round(y + size, 4))
    two = (round(x + dx, 4), round(y + dy, 4), round(x + dx + size, 4), round(y + dy + size, 4))
    return (one, two) if rng.random() < 0.5 else (two, one)


def _keep(workspace: Workspace, source: Source, edited: Edited) -> Row:
    """Write a made picture under the hash of its pixels; returns its row of IMAGES."""
    buffer = io.BytesIO()
    edited.image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    data = buffer.getvalue()
    name = hashlib.sha256(data).hexdigest()[:16]
    path = write_bytes(workspace.files(GOLD_ROLE) / f"{name}.jpg", data)
    return {
        **{column: source.row[column] for column in (*LICENCE_COLUMNS, "group")},
        "image_id": name, "role": GOLD_ROLE, "uri": workspace.uri_of(path), "sha256": sha256_bytes(data),
        "width": edited.image.width, "height": edited.image.height, "format": "JPEG", "rotation": 0,
    }  # fmt: skip


def _list_images(workspace: Workspace, rows: Sequence[Row]) -> None:
    path = gold_images(workspace)
    there = read_table(path).to_pylist() if path.is_file() else []
    by_id = {row["image_id"]: row for row in [*there, *rows]}
    write_table(path, table_of(IMAGES, [by_id[name] for name in sorted(by_id)]))


def gold_needed(new: pa.Table, tasks: pa.Table, share: float) -> int:
    """How many gold pairs must exist so that everybody gets a `share` of the new pairs as gold, none of them twice."""
    rows, before = new["annotator"].to_pylist(), tasks.filter(tasks["is_gold"])["annotator"].to_pylist()
    return max((before.count(name) + gold_count(rows.count(name), share) for name in set(rows)), default=0)


def gold_count(pairs: int, share: float) -> int:
    """Gold pairs for somebody who gets so many new pairs: the share of all that they then see, rounded up."""
    return math.ceil(pairs * share / (1 - share) - 1e-9)


def mix(new: pa.Table, gold: pa.Table, share: float, tasks: pa.Table, seed: int) -> pa.Table:
    """The rows `new` (of one round) with gold pairs among each annotator's, at random places; positions count anew.

    Nobody gets a gold pair twice, in whatever round. Different people get different ones where there are enough. The
    order of the other rows stays. Deterministic.
    """
    had: dict[str, set[str]] = defaultdict(set)
    for row in tasks.to_pylist():
        had[row["pair_id"]].add(row["annotator"])
    rows = sorted(new.to_pylist(), key=lambda row: (row["annotator"], row["position"]))
    pairs = gold.to_pylist()
    mixed = []
    for number, name in enumerate(sorted({row["annotator"] for row in rows})):
        own = [row for row in rows if row["annotator"] == name]
        digest = hashlib.sha256(f"{seed}/{name}/{own[0]['round']}/{own[0]['batch']}".encode()).digest()
        rng = np.random.default_rng(list(digest))
        free = [pair for pair in pairs if name not in had[pair["pair_id"]]]
        count = min(gold_count(len(own), share), len(free))
        start = number * count % max(len(free), 1)  # another stretch for everybody, while there are enough
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
