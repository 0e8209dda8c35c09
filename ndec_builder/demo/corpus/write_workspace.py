"""Write a workspace from assigned roles: image files, images tables, edits table."""

from __future__ import annotations

import concurrent.futures
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ndec_builder.core.console import track
from ndec_builder.core.schemas import EDITS, IMAGES, table_of
from ndec_builder.core.storage import read_table, remove_abandoned, sha256_bytes, write_bytes, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus.planted_copies import copy_of, crop_of
from ndec_builder.demo.corpus.prepare import PreparedPicture
from ndec_builder.demo.corpus.role_assignment import Roles

_Row = dict[str, Any]
BACKGROUND_FOLDER = "background"  # files/background holds pictures that edits may paste; no images table contains them
_ROLES = ("reference", "basic", "pool")


@dataclass(frozen=True)
class _Job:
    """One image to write: the picture itself, or (with `kind`) an image made from it."""

    role: str
    picture: PreparedPicture
    kind: str | None = None  # edited_copy: a copy for the pool; reverse_crop: a crop for the gallery
    gallery: str = ""


def fill(
    workspace: Workspace,
    pictures: Mapping[str, PreparedPicture],
    group_of: Mapping[str, str],
    roles: Roles,
    seed: int,
    workers: int,
) -> tuple[dict[str, list[_Row]], list[_Row]]:
    """Write files and tables; return the rows of each images table and of the edits table, ascending by image_id.

    Files of an earlier corpus without a row are removed. Edits of the role query (`ndec edit`) are kept.
    """
    backgrounds = [Image.open(io.BytesIO(pictures[i].jpeg)).convert("RGB") for i in roles.backgrounds]
    images: dict[str, list[_Row]] = {role: [] for role in _ROLES}
    edits: list[_Row] = []

    def work(job: _Job) -> tuple[_Row, _Row | None]:
        source = job.picture
        if job.kind is None:
            return _write(workspace, job.role, source.image_id, source.jpeg, source.size, source, group_of), None
        made = crop_of(source, seed) if job.kind == "reverse_crop" else copy_of(source, seed, backgrounds)
        row = _write(workspace, job.role, made.image_id, made.jpeg, made.size, source, group_of)
        # the edits row names the query: the copy, or the uncropped picture whose crop is in the gallery
        query, other = made.image_id, source.image_id
        if job.kind == "reverse_crop":
            query, other = other, query
        edit = {"image_id": query, "role": "pool", "source_id": other, "source_role": job.gallery, "kind": job.kind}
        return row, {**edit, "edit": made.edit}

    for folder in (workspace.files(""), workspace.edits.parent):
        remove_abandoned(folder, below=True)
    jobs = list(_jobs(pictures, roles))
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for row, edit in track(pool.map(work, jobs), len(jobs), "write images"):
            images[row["role"]].append(row)
            edits += [edit] if edit else []
    for i in roles.backgrounds:
        _put(workspace.files(BACKGROUND_FOLDER) / f"{i}.jpg", pictures[i].jpeg)
    for rows in (*images.values(), edits):
        rows.sort(key=lambda row: row["image_id"])
    _write_tables(workspace, images, edits)
    keep = {role: {row["image_id"] for row in rows} for role, rows in images.items()} | {
        BACKGROUND_FOLDER: set(roles.backgrounds)
    }
    _remove_stale(workspace, keep)
    return images, edits


def _jobs(pictures: Mapping[str, PreparedPicture], roles: Roles) -> Iterator[_Job]:
    for gallery, cast in (("reference", roles.test), ("basic", roles.train)):
        yield from (_Job(gallery, pictures[i]) for i in cast.gallery)
        yield from (_Job("pool", pictures[i]) for i in (*cast.natural, *cast.crops, *cast.distractors))
        yield from (_Job(gallery, pictures[i], "reverse_crop", gallery) for i in cast.crops)
        yield from (_Job("pool", pictures[i], "edited_copy", gallery) for i in cast.copied)


def _write(
    workspace: Workspace,
    role: str,
    image_id: str,
    jpeg: bytes,
    size: tuple[int, int],
    source: PreparedPicture,
    group_of: Mapping[str, str],
) -> _Row:
    path = workspace.files(role) / f"{image_id}.jpg"
    _put(path, jpeg)
    return {
        **source.licence,
        "image_id": image_id,
        "role": role,
        "uri": workspace.uri_of(path),
        "sha256": sha256_bytes(jpeg),
        "width": size[0],
        "height": size[1],
        "format": "JPEG",
        "rotation": 0,
        "group": group_of[source.image_id],
    }


def _put(path: Path, data: bytes) -> None:
    """Write unless the file exists with these bytes: a second run changes nothing."""
    if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
        write_bytes(path, data)


def _write_tables(workspace: Workspace, images: Mapping[str, list[_Row]], edits: list[_Row]) -> None:
    others: list[_Row] = []
    if workspace.edits.is_file():
        others = [row for row in read_table(workspace.edits).to_pylist() if row["role"] == "query"]
    ordered = sorted(edits + others, key=lambda row: (row["role"], row["image_id"], row["source_id"]))
    write_table(workspace.edits, table_of(EDITS, ordered))
    for role, rows in images.items():
        write_table(workspace.images(role), table_of(IMAGES, rows))


def _remove_stale(workspace: Workspace, keep: Mapping[str, set[str]]) -> None:
    for folder, image_ids in keep.items():
        for path in workspace.files(folder).glob("*.jpg"):
            if path.stem not in image_ids:
                path.unlink()
