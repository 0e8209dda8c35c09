"""Measures the geometry of all pairs of a candidates table: sharded, resumable, same bytes for any number of workers.

`candidates/<split>/geometry.parquet` (schema GEOMETRY) holds all signals and the homography. The candidates table has
six of its columns too, for people and the queue.
"""

from __future__ import annotations

import math
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.candidates.geometry.fitting import SIGNALS, Geometry, fit_stepwise, single_threaded
from ndec_builder.candidates.geometry.keypoints import KEYPOINT_SIDE, DescribedPicture, describe_quickly
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.console import number_of, say
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, check_files, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.fingerprints import DECODE_VERSION
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.schemas import GEOMETRY, table_of
from ndec_builder.core.storage import fingerprint, read_table, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 3
GEOMETRY_FILE, RECHECK_GEOMETRY_FILE = "geometry.parquet", "recheck-geometry.parquet"
LOCAL_GEOMETRY_FILE = "local-geometry.parquet"
MEASURED_FILE = "measured-geometry.parquet"  # of all pairs ever measured: another --top measures only new pairs
_KEY = "pictures"  # its column before those of GEOMETRY: fingerprint of a pair's two pictures and of the method
SHARD_SIZE = 512  # pairs: about 15 s of work
MEASURED_COLUMNS = ("inliers", "inlier_share", "query_inside", "reference_covered", "seam", "local_correlation")
_KEPT_PICTURES = 256  # described pictures that a worker keeps: at most 130 MB
_ROW = ("uri", "rotation", "sha256")


def add_geometry(workspace: Workspace, split: str, table: pa.Table, *, name: str, engine: Engine) -> pa.Table:
    """Measure a candidates table, add its rows to candidates/<split>/`name`, return the table with MEASURED_COLUMNS.

    Existing rows of these pairs are replaced.
    """
    directory = workspace.candidates(split)
    path = directory / name
    geometry = measure(workspace, split, table, directory / "geometry", engine, directory / MEASURED_FILE)
    if path.is_file():
        before = read_table(path)
        before = before.filter(pc.invert(pc.is_in(before["pair_id"], geometry["pair_id"].combine_chunks())))
        write_table(path, pa.concat_tables([before, geometry]).sort_by("pair_id"))
    else:
        write_table(path, geometry)
    return with_geometry(table, geometry)


def measure(
    workspace: Workspace, split: str, table: pa.Table, scratch: Path, engine: Engine, known: Path | None = None
) -> pa.Table:
    """Return the GEOMETRY rows of the candidates that people see (no duplicates), by ascending pair_id.

    Shards stay under `scratch` until all are done, so that a killed run continues where it stopped. A pair with an
    unreadable picture gets a row of nulls with the reason. Rows of the same pictures in the table `known` are reused,
    except unreadable ones; new rows are added to it.
    """
    pairs, identity = _pairs_to_measure(workspace, split, table)
    if not pairs:
        return GEOMETRY.empty_table()
    keys = _keys(identity)
    before = _measured_before(known)
    reused = before.filter(pc.is_in(before[_KEY], pa.array(keys, pa.string())))
    have = set(reused[_KEY].to_pylist())
    missing = [place for place, key in enumerate(keys) if key not in have]
    fresh = GEOMETRY.empty_table()
    if missing:
        fresh = _measure_pairs(
            workspace, [pairs[place] for place in missing], [identity[place] for place in missing], scratch, engine
        )
    if known is not None and missing:
        own = dict(zip((pair["pair_id"] for pair in pairs), keys, strict=True))
        column = pa.array([own[name] for name in fresh["pair_id"].to_pylist()], pa.string())
        write_table(known, pa.concat_tables([before, fresh.add_column(0, _KEY, column)]).sort_by(_KEY))
    # A file that was read back has no metadata and another name for the items of lists. A result has the same bytes.
    rows = pa.concat_tables([reused.drop_columns([_KEY]).cast(GEOMETRY), fresh.cast(GEOMETRY)])
    if unreadable := [reason for reason in fresh["unreadable"].to_pylist() if reason]:
        say(f"{number_of(len(unreadable), 'pair')} without geometry; the first: {unreadable[0]}")
    return rows.sort_by("pair_id").combine_chunks()


def measured_earlier(workspace: Workspace, split: str, table: pa.Table) -> int:
    """How many pairs of a candidates table have signals that an earlier version of ndec measured.

    Pairs of images that were removed since are not counted.
    """
    geometry = read_geometry(workspace, split)
    readable = geometry.filter(pc.is_null(geometry["unreadable"]))["pair_id"].combine_chunks()
    pairs = table.filter(pc.is_in(table["pair_id"], readable))
    for side, role in (("query_id", "pool"), ("reference_id", GALLERY[split])):
        there = pa.array([*workspace.image_rows(role, pairs[side].to_pylist(), ["image_id"])], pa.string())
        pairs = pairs.filter(pc.is_in(pairs[side], there))
    today = set(_measured_before(workspace.candidates(split) / MEASURED_FILE)[_KEY].to_pylist())
    return sum(key not in today for key in _keys(_pairs_to_measure(workspace, split, pairs)[1]))


def _pairs_to_measure(workspace: Workspace, split: str, table: pa.Table) -> tuple[list[dict[str, Any]], list[Any]]:
    """The pairs that people see, by reference, and what identifies the pictures of each."""
    shown = table.filter(pc.is_null(table["duplicate_of"]))
    sides = {
        side: workspace.image_rows(role, shown[f"{side}_id"].to_pylist(), [*_ROW])
        for side, role in (("query", "pool"), ("reference", GALLERY[split]))
    }
    pairs: list[dict[str, Any]] = []
    for row in shown.select(["pair_id", "query_id", "reference_id"]).to_pylist():
        pair = {"pair_id": row["pair_id"], "reference_id": row["reference_id"]}
        for side, rows in sides.items():
            pair |= {f"{side}_{column}": rows[row[f"{side}_id"]][column] for column in _ROW}
        pairs.append(pair)
    pairs.sort(key=lambda pair: (pair["reference_id"], pair["pair_id"]))  # each reference is described once per shard
    identity = [  # an image that was never opened is identified by its uri
        [
            pair["pair_id"],
            *((pair[f"{side}_sha256"] or pair[f"{side}_uri"], pair[f"{side}_rotation"]) for side in sides),
        ]
        for pair in pairs
    ]
    return pairs, identity


def _keys(identity: list[Any]) -> list[str]:
    return [fingerprint([RESULT_VERSION, DECODE_VERSION, one]) for one in identity]


def _measured_before(known: Path | None) -> pa.Table:
    """The readable rows of MEASURED_FILE; empty without one, and for one of an older schema."""
    schema = pa.schema([pa.field(_KEY, pa.string()), *GEOMETRY])
    if known is None or not known.is_file():
        return schema.empty_table()
    table = read_table(known)
    return table.filter(pc.is_null(table["unreadable"])) if table.schema.equals(schema) else schema.empty_table()


def _measure_pairs(
    workspace: Workspace, pairs: list[dict[str, Any]], identity: list[Any], scratch: Path, engine: Engine
) -> pa.Table:
    """GEOMETRY rows of these pairs, in shards under `scratch`."""
    mark = fingerprint([RESULT_VERSION, DECODE_VERSION, identity])
    plan = Plan(len(pairs), SHARD_SIZE, mark)
    folder = open_plan(scratch, plan).absolute()
    write_table(folder / "pairs.parquet", pa.Table.from_pylist(pairs))
    work = _Work(workspace.root.absolute(), folder)
    results = run_shards(folder, plan, work, engine, what="geometry of the pairs", unit="pairs")
    parts = []
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
        parts.append(read_table(folder / f"{shard.name}.parquet"))
    shutil.rmtree(scratch)
    return pa.concat_tables(parts)


def with_geometry(table: pa.Table, geometry: pa.Table) -> pa.Table:
    """Fill MEASURED_COLUMNS of a candidates table from GEOMETRY rows; null for pairs without one."""
    place = pc.index_in(table["pair_id"], geometry["pair_id"].combine_chunks())
    for name in MEASURED_COLUMNS:
        column = table.schema.get_field_index(name)
        table = table.set_column(column, table.schema.field(name), geometry[name].combine_chunks().take(place))
    return table


def read_geometry(workspace: Workspace, split: str) -> pa.Table:
    """All GEOMETRY rows of a split, of the pairs of all searches; empty if geometry was switched off."""
    directory = workspace.candidates(split)
    paths = [directory / name for name in (GEOMETRY_FILE, LOCAL_GEOMETRY_FILE, RECHECK_GEOMETRY_FILE)]
    return pa.concat_tables([GEOMETRY.empty_table(), *(read_table(path) for path in paths if path.is_file())])


def report_unreadable(workspace: Workspace, split: str) -> None:
    """Say how many pairs of a finished mining have no geometry because of a picture, and what to do."""
    unreadable = read_geometry(workspace, split)["unreadable"]
    if count := len(unreadable) - unreadable.null_count:
        say(
            f"{number_of(count, 'pair')} without geometry: a picture could not be read. Once it can, delete "
            f"{workspace.candidates(split) / 'run.json'} and mine again"
        )


@dataclass(frozen=True)
class _Work:
    """One shard of the pairs listed in `folder`; picklable."""

    root: Path
    folder: Path

    def __call__(self, shard: Shard) -> Outcome:
        rows = read_table(self.folder / "pairs.parquet").slice(shard.start, shard.items).to_pylist()
        look = _picture_cache(Workspace(self.root).resolve)
        with single_threaded():
            table = table_of(GEOMETRY, stepping(_row(pair, look) for pair in rows))
        path = write_table(self.folder / f"{shard.name}.parquet", table)
        return Outcome((path.name,), {"pairs": table.num_rows})


_Look = Callable[[str, int | None, str | None], DescribedPicture]


def _row(pair: dict[str, Any], look: _Look) -> dict[str, Any]:
    try:
        query, reference = (look(*(pair[f"{side}_{name}"] for name in _ROW)) for side in ("query", "reference"))
    except (OSError, DecodeError) as error:
        return {"pair_id": pair["pair_id"], "unreadable": str(error)[:200]}
    return {"pair_id": pair["pair_id"], **geometry_row(fit_stepwise(query, reference))}


def geometry_row(geometry: Geometry) -> dict[str, Any]:
    """The columns of GEOMETRY except pair_id. NaN becomes null; without a fit only the counts are set."""
    if geometry.homography is None:
        return {"inliers": 0, "inlier_share": 0.0, "matches": geometry.matches, "match_density": geometry.match_density}
    values = {name: getattr(geometry, name) for name in SIGNALS}
    row = {name: None if np.isnan(value) else value for name, value in values.items()}
    return row | {"mirrored": geometry.mirrored, "homography": geometry.homography.ravel().tolist()}


def _picture_cache(resolve: Callable[[str], str]) -> _Look:
    """A function that decodes and describes a picture, with a cache of the most recently used ones."""
    pictures: OrderedDict[tuple[str, int | None], DescribedPicture] = OrderedDict()

    def look(uri: str, rotation: int | None, sha256: str | None) -> DescribedPicture:
        if (uri, rotation) in pictures:
            pictures.move_to_end((uri, rotation))
        else:
            image = decode(read_image(resolve(uri), sha256), rotation or 0, target=_working_size)
            pictures[uri, rotation] = describe_quickly(np.asarray(image), scaled_down=image.info.get("scaled_down", 1))
            if len(pictures) > _KEPT_PICTURES:
                pictures.popitem(last=False)
        return pictures[uri, rotation]

    return look


def _working_size(width: int, height: int) -> tuple[int, int]:
    """At least that of `describe_quickly`, for pictures that are scaled down while they are decoded."""
    factor = min(1.0, KEYPOINT_SIDE / max(width, height))
    return math.ceil(width * factor), math.ceil(height * factor)
