"""Twins: images of one role that show the same picture. One of each group represents it; the others are left out.

Annotators then see a picture once, and a dataset does not contain it twice. Twins have the same bytes or are near-exact
duplicates (`duplicates`). The representative has the most pixels (ties: the smallest id); every other image of its
group was compared with it directly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.duplicates import VERSION, can_compare, check_pairs, open_file
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.exact import pairs_above
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.console import say
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.fingerprints import columns_fingerprint, images_fingerprint
from ndec_builder.core.schemas import TWINS, table_of
from ndec_builder.core.storage import fingerprint, read_json, read_table, remove_abandoned, write_json, write_table
from ndec_builder.core.workspace import Workspace

TWIN_SCORE = 0.6  # cosine below which pictures are not compared; halved pictures score .77 and more
_PICTURES = "pictures"  # entry of images/<role>-twins.json
_CLOSEST = 8  # images that each image is compared with
ALL_IMAGES = 200_000  # in larger roles only equal bytes are found: comparing pictures would take hours


def find_twins(workspace: Workspace, images: RoleVectors, engine: Engine) -> dict[str, str]:
    """Return {image_id: representative} of the embedded images that another one represents, and store it.

    images/<role>-twins.parquet (schema TWINS) is kept until the images, the vectors or the definition change, unless a
    picture could not be read. The json file next to it says which pictures were compared, for `read_twins`.
    """
    path = twins_path(workspace, images.role)
    table = workspace.read_images(images.role, ["image_id", "uri", "sha256", "width", "height", "format", "rotation"])
    embedded = columns_fingerprint({"image_id": pa.chunked_array([images.ids])})
    parts: list[object] = [VERSION, TWIN_SCORE, _CLOSEST, ALL_IMAGES, images.space, images_fingerprint(table), embedded]
    # the vectors decide which pictures are compared; twins of bfloat16 keep the fingerprint of earlier versions
    mark = fingerprint(parts + ([images.precision] if images.precision == "float32" else []))
    record = path.with_suffix(".json")
    known = read_json(record) if path.is_file() and record.is_file() else {}
    if known.get("fingerprint") == mark:
        if _PICTURES not in known:  # made by an earlier version
            stored = read_table(path, ["image_id", "representative"])
            write_json(record, known | {_PICTURES: _pictures(table, {*stored[0].to_pylist(), *stored[1].to_pylist()})})
        return read_twins(workspace, images.role)
    preference = _preference(table, images)
    found = _equal_bytes(table, preference)
    equal = set(found)
    complete = True
    if len(images) <= ALL_IMAGES:
        more, complete = _equal_pictures(workspace, images.without(equal), preference, engine)
        found |= more
    # a twin of a twin has the same representative
    found = {image_id: found.get(other, other) for image_id, other in found.items()}
    rows = [
        {"image_id": image_id, "representative": found[image_id], "same_bytes": image_id in equal}
        for image_id in sorted(found)
    ]
    remove_abandoned(path.parent)
    record.unlink(missing_ok=True)  # it describes the table before
    write_table(path, table_of(TWINS, rows))
    counts = {"images": len(images), "twins": len(rows), "equal_bytes": len(equal)}
    pictures = _pictures(table, {*found, *found.values()})
    # without a fingerprint, the next mining compares again
    write_json(record, {"fingerprint": mark if complete else None, **counts, _PICTURES: pictures})
    return found


def read_twins(workspace: Workspace, role: str) -> dict[str, str]:
    """{image_id: representative} as stored; empty for a role that was never mined.

    Left out are rows of images that were replaced or removed since. Tables of earlier versions do not tell.
    """
    path = twins_path(workspace, role)
    if not path.is_file():
        return {}
    table = read_table(path, ["image_id", "representative"])
    found = dict(zip(table["image_id"].to_pylist(), table["representative"].to_pylist(), strict=True))
    record = path.with_suffix(".json")
    known = (read_json(record) if record.is_file() else {}).get(_PICTURES)
    if known is None or not found or not workspace.images(role).is_file():
        return found
    today = _pictures(workspace.read_images(role, ["image_id", "uri", "sha256", "rotation"]), known)
    same = {image_id for image_id, picture in known.items() if today.get(image_id) == picture}
    return {image_id: other for image_id, other in found.items() if image_id in same and other in same}


def _pictures(table: pa.Table, image_ids: Collection[str]) -> dict[str, str]:
    """image_id → what identifies the picture of each of these images: its bytes (uri if unknown) and its rotation."""
    rows = table.filter(pc.is_in(table["image_id"], value_set=pa.array(sorted(image_ids), pa.string())))
    columns = (rows[name].to_pylist() for name in ("image_id", "sha256", "uri", "rotation"))
    return {
        image_id: f"{sha256 or uri} {rotation or 0}" for image_id, sha256, uri, rotation in zip(*columns, strict=True)
    }


def twins_path(workspace: Workspace, role: str) -> Path:
    images = workspace.images(role)
    return images.with_name(f"{role}-twins.parquet")


def left_out(twins: Mapping[str, str], closed: Collection[str]) -> set[str]:
    """The images that a search leaves out: all twins, and representatives of groups with a closed image."""
    return set(twins) | {twins[image_id] for image_id in closed if image_id in twins}


def report_twin_limit(role: str, total: int) -> None:
    if total > ALL_IMAGES:
        say(f"{role} has more than {ALL_IMAGES:,} images: only files with equal bytes count as twins")


def _preference(table: pa.Table, images: RoleVectors) -> dict[str, tuple[int, str]]:
    """image_id → sort key of the embedded images: the best one first."""
    embedded = set(images.ids.to_pylist())
    columns = (table[name].to_pylist() for name in ("image_id", "width", "height"))
    return {
        image_id: (-(width or 0) * (height or 0), image_id)
        for image_id, width, height in zip(*columns, strict=True)
        if image_id in embedded
    }


def _equal_bytes(table: pa.Table, preference: Mapping[str, tuple[int, str]]) -> dict[str, str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for image_id, sha256 in zip(table["image_id"].to_pylist(), table["sha256"].to_pylist(), strict=True):
        if sha256 is not None and image_id in preference:
            groups[sha256].append(image_id)
    found: dict[str, str] = {}
    for group in groups.values():
        best, *others = sorted(group, key=preference.__getitem__)
        found |= dict.fromkeys(others, best)
    return found


def _equal_pictures(
    workspace: Workspace, images: RoleVectors, preference: Mapping[str, tuple[int, str]], engine: Engine
) -> tuple[dict[str, str], bool]:
    """Return ({image_id: representative}, whether all pictures could be read)."""
    near = pairs_above(images.vectors, images.vectors.load(), TWIN_SCORE, closest=_CLOSEST + 1)  # each finds itself
    ends = np.sort(np.stack([near.queries, near.references], axis=1), axis=1)
    ends, places = np.unique(ends, axis=0, return_index=True)
    apart = ends[:, 0] != ends[:, 1]
    ends, scores = ends[apart], near.scores[places[apart]]
    first, second = images.names(ends[:, 0]), images.names(ends[:, 1])
    rows = images.rows({*first, *second})
    pairs = [(rows[a], rows[b], float(score)) for a, b, score in zip(first, second, scores, strict=True)]
    scratch = workspace.root / "candidates" / f"{images.role}-twins"
    links: dict[str, list[str]] = defaultdict(list)
    marks = check_pairs(workspace, scratch, pairs, engine)
    for a, b, same in zip(first, second, marks, strict=True):
        if same:
            links[a].append(b)
            links[b].append(a)
    found: dict[str, str] = {}
    for image_id in sorted(links, key=preference.__getitem__):
        if image_id not in found:
            later = [other for other in links[image_id] if preference[other] > preference[image_id]]
            found |= {other: image_id for other in later if other not in found}
    return found, None not in marks


def can_compare_more(workspace: Workspace, split: str) -> bool:
    """Whether pictures that a finished mining of this split could not compare can be read now; says so."""
    found = any(can_compare(path, workspace.resolve) for path in _not_compared(workspace, split))
    if found:
        say("pictures that were missing, broken or changed can be compared now, so these pairs are mined again")
    return found


def forget_not_compared(workspace: Workspace, split: str) -> None:
    """A mining of this split begins: it notes again which pairs it cannot compare."""
    for path in _not_compared(workspace, split):
        path.unlink(missing_ok=True)


def _not_compared(workspace: Workspace, split: str) -> list[Path]:
    """Where the pairs are that a mining of this split could not compare: as candidates, with used images, as twins."""
    folder = workspace.candidates(split)
    twins = [folder.with_name(f"{role}-twins") for role in ("pool", GALLERY[split])]
    return [open_file(scratch) for scratch in (folder / "duplicates", folder / "skipped", *twins)]
