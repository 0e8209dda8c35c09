"""`ndec edit`: edited copies of a role's images as queries, every parameter recorded."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from ndec_builder.core.config import limit_of, result_fields
from ndec_builder.core.console import counted_reasons, number_of, say
from ndec_builder.core.decode import SUFFIXES, DecodeError, decode
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.executor.base import Engine, engine_of, task_threads
from ndec_builder.core.executor.plan import Plan, Shard, check_files, finished, marker, open_plan
from ndec_builder.core.executor.runner import Outcome, on_engine, run_shards
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.locks import locked, one_writer
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import EDITS, IMAGES, LICENCE_COLUMNS, REJECTS, table_of
from ndec_builder.core.storage import (
    fingerprint,
    read_json,
    read_rows,
    read_table,
    remove_abandoned,
    sha256_bytes,
    sync_folder,
    write_bytes,
    write_json,
    write_table,
)
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits import sources as originals
from ndec_builder.edits.copy_files import make_copy
from ndec_builder.edits.recipes import edit_json, find_recipe
from ndec_builder.edits.settings import EditConfig
from ndec_builder.edits.sources import choose_sources, copies_of_replaced, files_of_copies, refuse_changed_sources

RESULT_VERSION = 1  # raise it when the same seed gives different copies
BACKGROUND_SIDE = 512  # px, longest side kept in memory
COPIES_PER_SHARD = 256  # about 10 s of work on one core


@dataclass(frozen=True)
class _Made:
    """One copy, or the reason why there is none."""

    query_id: str
    image: dict[str, Any] | None = None
    edit: str = ""
    reason: str = ""


@on_engine
@one_writer(lambda config: Workspace(config.workspace).images("query"))
def run(config: EditConfig) -> Path:
    """Write `count` edited copies as queries and return the path of the query table.

    Copy i is made from image i of a seeded shuffle of the role (shuffled again once all images are used) and has its
    own random stream. Rows with this prefix are replaced; all other queries are kept. A source that cannot be decoded
    becomes a row of images/query-rejects.parquet and its number stays unused. Raises UsageError for a count
    below 1, an unknown recipe or an id that is taken, GapsError after writing when too many sources were unusable, and
    NdecError before writing when all were: earlier copies stay.
    """
    record = RunRecord("edit", config, RESULT_VERSION)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", config.prefix):
        raise UsageError(f"prefix {config.prefix!r} becomes a file name; use letters, digits, - _ and . only")
    find_recipe(config.recipe)
    workspace = Workspace(config.workspace)
    queries, _ = _rows_to_keep(workspace, config)
    sources = queries if config.role == "query" else workspace.read_images(config.role)
    if sources.num_rows == 0:
        raise NdecError(f"there are no {config.role} images to copy in this workspace ({workspace.root}); ingest some")
    backgrounds = read_backgrounds(config.backgrounds) if config.backgrounds else []
    remove_abandoned(workspace.files("query"))
    chosen = sources.take(choose_sources(sources.num_rows, config.count, config.seed))
    scratch = workspace.root / "cache" / f"edit-{config.prefix}"
    made, folder = _make_in_shards(config, workspace, chosen, backgrounds, scratch)
    failed = [one for one in made if one.image is None]
    if len(failed) == len(made):
        shutil.rmtree(scratch)  # another run tries all of them again
        raise NdecError(originals.all_lost(config.role, chosen["uri"][0].as_py(), [str(one.reason) for one in failed]))

    with locked(workspace.edits, wait=True):  # `ndec ingest` of another role removes rows meanwhile
        refuse_changed_sources(workspace, config.role, chosen)
        new = {one.query_id: one.image["sha256"] for one in made if one.image}
        edits = _rows_to_keep(workspace, config)[1]
        stale = copies_of_replaced(workspace, edits, lambda name: _is_our_id(name, config), new)
        queries, edits = (originals.without_queries(table, stale) for table in (queries, edits))
        _write(workspace, config, queries, edits, made, chosen, folder)
        for name in stale:
            _picture(workspace.files("query"), name).unlink(missing_ok=True)
    record.write(
        workspace.files("query"),
        counts={"copies": len(made) - len(failed), "rejected": len(failed), "other_queries": queries.num_rows},
        inputs={config.role: fingerprint(sources["sha256"].to_pylist())},
    )
    shutil.rmtree(scratch)
    say(f"made {number_of(len(made) - len(failed), 'edited copy')} of {config.role} images (recipe {config.recipe})")
    if failed:
        reasons = counted_reasons(str(one.reason) for one in failed)
        lost = f"{len(failed)} of {config.count} copies could not be made: {reasons}; see {_rejects_path(workspace)}"
        if len(failed) > config.max_reject_share * config.count:
            limit = f"max_reject_share = {config.max_reject_share:g} allows fewer"
            raise GapsError(f"{lost}. {limit}; the others are written")
        say(lost)
    return workspace.images("query")


def read_backgrounds(folder: Path) -> list[Image.Image]:
    """Pictures of a folder by ascending name, at most 512 px a side. Raises UsageError when there are none."""
    if not folder.is_dir():
        raise UsageError(f"the backgrounds folder {folder} does not exist; pass a folder of pictures, or leave it out")
    pictures = []
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES):
        try:
            picture = decode(path.read_bytes())
        except (DecodeError, OSError) as error:
            say(f"background {path.name} is left out: {error}")
            continue
        picture.thumbnail((BACKGROUND_SIDE, BACKGROUND_SIDE))
        pictures.append(picture)
    if not pictures:
        raise UsageError(f"the backgrounds folder {folder} holds no picture that can be read; name another or none")
    return pictures


def _make_in_shards(
    config: EditConfig, workspace: Workspace, chosen: pa.Table, backgrounds: Sequence[Image.Image], scratch: Path
) -> tuple[list[_Made], Path]:
    """Make a copy of each row of `chosen`; return the copies and the folder of their pictures.

    Finished shards stay under `scratch`, so a killed run continues. Until then, earlier copies keep their files.
    """
    pictures = [sha256_bytes(picture.tobytes()) for picture in backgrounds]
    mark = fingerprint([RESULT_VERSION, result_fields(config), chosen.to_pylist(), pictures])
    plan = Plan(config.count, COPIES_PER_SHARD, mark)
    folder = open_plan(scratch, plan).absolute()
    write_table(folder / "sources.parquet", chosen)
    for shard in plan.shards:
        copies = _read_shard(folder, shard) if finished(folder, plan, shard) else []
        if any(made.image and not _picture(folder, made.query_id).is_file() for made in copies):
            marker(folder, shard).unlink()  # somebody removed its pictures
    work = EditShard(replace(config, workspace=workspace.root.absolute()), folder, tuple(backgrounds))
    engine = engine_of(config) if config.engine == "ray" else Engine(here=True)
    results = run_shards(folder, plan, work, engine, what="making edited copies", unit="copies")
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
    return [made for shard in plan.shards for made in _read_shard(folder, shard)], folder


def _read_shard(folder: Path, shard: Shard) -> list[_Made]:
    return [_Made(**made) for made in read_json(folder / f"{shard.name}.json")]


@dataclass(frozen=True)
class EditShard:
    """Makes the copies of one shard; picklable."""

    config: EditConfig
    folder: Path
    backgrounds: tuple[Image.Image, ...]

    def __call__(self, shard: Shard) -> Outcome:
        rows = read_rows(self.folder / "sources.parquet", shard.start, shard.stop).to_pylist()
        make = functools.partial(_make, self.config, self.folder, self.backgrounds)
        threads = task_threads() or os.cpu_count()  # Pillow works outside the interpreter lock
        with limit_of(self.config.workspace), concurrent.futures.ThreadPoolExecutor(threads) as pool:
            made = list(stepping(pool.map(make, range(shard.start, shard.stop), rows)))
        path = write_json(self.folder / f"{shard.name}.json", [vars(one) for one in made])
        return Outcome((path.name,), {"copies": sum(one.image is not None for one in made)})


def _make(
    config: EditConfig, folder: Path, backgrounds: Sequence[Image.Image], index: int, source: dict[str, Any]
) -> _Made:
    workspace, query_id = Workspace(config.workspace), f"{config.prefix}-{index:06d}"
    try:
        original = decode(read_image(workspace.resolve(source["uri"]), source["sha256"]), source["rotation"] or 0)
    except DecodeError as error:
        return _Made(query_id, reason=str(error))
    except OSError as error:
        return _Made(query_id, reason=f"cannot read: {error.strerror or error}")
    edited, data = make_copy(original, config.recipe, config.seed, index, backgrounds)
    write_bytes(_picture(folder, query_id), data)
    image = {
        **{name: source[name] for name in (*LICENCE_COLUMNS, "group")},
        "image_id": query_id,
        "role": "query",
        "uri": workspace.uri_of(_picture(workspace.files("query"), query_id)),
        "sha256": sha256_bytes(data),
        "width": edited.image.width,
        "height": edited.image.height,
        "format": "JPEG",
        "rotation": 0,
    }
    return _Made(query_id, image, edit_json(edited, config.recipe, config.seed))


def _picture(folder: Path, query_id: str) -> Path:
    return folder / f"{query_id}.jpg"


def _rows_to_keep(workspace: Workspace, config: EditConfig) -> tuple[pa.Table, pa.Table]:
    """Query and edit rows without copies of this prefix. Raises UsageError when an ingested image has such an id."""
    edits = read_table(workspace.edits) if workspace.edits.is_file() else table_of(EDITS, [])
    queries = workspace.read_images("query") if workspace.images("query").is_file() else table_of(IMAGES, [])
    roles = edits["role"].to_pylist()
    ours = [role == "query" and mine for role, mine in zip(roles, _has_our_id(edits, config), strict=True)]
    our_ids = {*edits.filter(pa.array(ours, pa.bool_()))["image_id"].to_pylist()}
    our_ids |= {name for name in files_of_copies(queries) if _is_our_id(name, config)}
    others = _without(queries, [name in our_ids for name in queries["image_id"].to_pylist()])
    taken = [name for name in others["image_id"].to_pylist() if _is_our_id(name, config)]
    if taken:
        raise UsageError(f"the query id {taken[0]!r} belongs to an ingested image; choose other ids with --prefix")
    return others, _without(edits, ours)


def _is_our_id(name: str, config: EditConfig) -> bool:
    return re.fullmatch(rf"{re.escape(config.prefix)}-[0-9]{{6,}}", name) is not None


def _has_our_id(table: pa.Table, config: EditConfig) -> list[bool]:
    return [_is_our_id(name, config) for name in table["image_id"].to_pylist()]


def _without(table: pa.Table, rows: list[bool]) -> pa.Table:
    return table.filter(pa.array([not row for row in rows], pa.bool_()))


def _write(
    workspace: Workspace,
    config: EditConfig,
    queries: pa.Table,
    edits: pa.Table,
    made: list[_Made],
    chosen: pa.Table,
    folder: Path,
) -> None:
    """Write the tables and move the pictures from `folder`.

    Rows of earlier copies go first, because the new pictures have the same names. Edits come before images: a query
    without its edit record would look like an image without a match.
    """
    if workspace.images("query").is_file():
        write_table(workspace.images("query"), queries)
    good = [one for one in made if one.image is not None]
    ids, uris = (chosen[name].to_pylist() for name in ("image_id", "uri"))
    source = dict(zip((one.query_id for one in made), zip(ids, uris, strict=True), strict=True))
    rows = [
        {
            "image_id": one.query_id,
            "role": "query",
            "source_id": source[one.query_id][0],
            "source_role": config.role,
            "kind": "edited_copy",
            "edit": one.edit,
        }
        for one in good
    ]
    edits = pa.concat_tables([edits, table_of(EDITS, rows)])
    write_table(workspace.edits, edits.sort_by([("role", "ascending"), ("image_id", "ascending")]))
    workspace.files("query").mkdir(parents=True, exist_ok=True)
    for one in good:
        shutil.move(_picture(folder, one.query_id), _picture(workspace.files("query"), one.query_id))
    sync_folder(workspace.files("query"))
    images = pa.concat_tables([queries, table_of(IMAGES, [one.image for one in good if one.image])])
    write_table(workspace.images("query"), images.sort_by("image_id"))

    path = _rejects_path(workspace)
    rejects = read_table(path) if path.is_file() else table_of(REJECTS, [])
    rejects = _without(rejects, _has_our_id(rejects, config))
    failed = [
        {"image_id": m.query_id, "uri": source[m.query_id][1], "reason": m.reason} for m in made if m.image is None
    ]
    write_table(path, pa.concat_tables([rejects, table_of(REJECTS, failed)]).sort_by("image_id"))

    written = {one.query_id for one in good}
    for file in workspace.files("query").glob(f"{config.prefix}-*.jpg"):
        if _is_our_id(file.stem, config) and file.stem not in written:  # left from an earlier run with a larger count
            file.unlink()


def _rejects_path(workspace: Workspace) -> Path:
    return workspace.images("query").with_name("query-rejects.parquet")
