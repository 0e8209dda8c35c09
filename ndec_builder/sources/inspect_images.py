"""Open the listed images for hash, size and format. Works in shards, so that an interrupted run resumes."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.core.access.remote import is_web, retried
from ndec_builder.core.addresses import container
from ndec_builder.core.config import result_fields
from ndec_builder.core.decode import DecodeError, decode, read_header
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.executor.plan import Plan, Shard, open_plan
from ndec_builder.core.executor.runner import Outcome, run_shards
from ndec_builder.core.executor.shard_items import stepping
from ndec_builder.core.fingerprints import columns_fingerprint
from ndec_builder.core.schemas import IMAGES, REJECTS, table_of
from ndec_builder.core.storage import (
    GROUP_ROWS,
    atomic_path,
    fingerprint,
    read_table,
    read_uri,
    sha256_bytes,
    write_table,
)
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import file_stamp
from ndec_builder.sources.listing import Listing, Stamp
from ndec_builder.sources.settings import IngestConfig

RESULT_VERSION = 3
IMAGES_PER_SHARD = 4_000  # images per shard marker
_AHEAD = 4  # files in flight per thread: keeps threads busy and memory small
FACTS = ("sha256", "width", "height", "format")


def open_listing(
    listing: Listing, config: IngestConfig, workspace: Workspace, md5: Mapping[str, str], folder: Path
) -> tuple[Iterator[pa.Table], list[dict[str, Any]], tuple[str, ...]]:
    """Return (tables of the usable images, ascending by id, read lazily; rows of the rejected ones; notes).

    `folder` holds the shards until `close` removes it. Shards of an earlier run with the same listing, files and
    settings are reused: the same rows, and the same sizes and times of all local files and of remote archives.
    """
    look = config.look
    if look == "list" or (look == "auto" and not listing.local) or not listing.images.num_rows:
        return iter([listing.images]), list(listing.rejects), ()
    rows = columns_fingerprint({name: listing.images[name] for name in IMAGES.names})
    stamps = _stamps(listing.images["uri"], workspace, remote=look != "auto")
    mark = fingerprint([RESULT_VERSION, rows, listing.stamp, stamps, look, result_fields(config), sorted(md5.items())])
    plan = Plan(listing.images.num_rows, IMAGES_PER_SHARD, mark)
    folder, shards = open_plan(folder, plan), plan.shards
    work = OpenShard(listing.images, workspace, folder, look, config.max_pixels, config.workers, md5)
    done = run_shards(folder, plan, work, Engine(here=True), what="opening images", unit="images")
    ranges = sum((collections.Counter(one.counts) for one in done), collections.Counter[str]())
    del ranges["good"], ranges["bad"]
    bad = [read_table(folder / f"{shard.name}-rejects.parquet").to_pylist() for shard in shards]
    good = (read_table(folder / f"{shard.name}.parquet") for shard in shards)
    said = ", ".join(f"{count:,} of {name}" for name, count in sorted(ranges.items()))
    notes = (f"grey pictures of more than 8 bits are scaled by the range of their values: {said}",) if said else ()
    return good, [*listing.rejects, *(row for rows in bad for row in rows)], notes


def _stamps(uris: pa.ChunkedArray, workspace: Workspace, remote: bool) -> str:
    """A fingerprint of the stamps of local files and, if `remote`, of files on object stores that hold several images.

    Web addresses are not asked: only reading them checks which hosts may be contacted.
    """
    names: dict[str, None] = {}
    for uri in uris.to_pylist():
        file = container(uri)
        if "://" not in uri or (remote and file != uri and not is_web(uri)):
            names[file] = None
    digest = hashlib.sha256()
    for name in names:
        try:
            read = functools.partial(file_stamp, workspace.resolve(name))
            stamp: Stamp = retried(read, name) if "://" in name else read()
        except OSError as error:  # reported when the image is read
            stamp = (str(error),)
        digest.update(f"{name}\x1f{stamp}\x1e".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@dataclass(frozen=True)
class OpenShard:
    """The work of one shard of a listing."""

    images: pa.Table
    workspace: Workspace
    folder: Path
    look: str
    max_pixels: int
    workers: int
    md5: Mapping[str, str]

    def __call__(self, shard: Shard) -> Outcome:
        rows = self.images.slice(shard.start, shard.stop - shard.start).to_pylist()
        good, bad, ranges = [], [], collections.Counter[str]()
        for row, facts in stepping(read_all(rows, self._read, self.workers)):
            if isinstance(facts, str):
                bad.append({"image_id": row["image_id"], "uri": row["uri"], "reason": facts})
            else:
                if (grey := facts.pop("grey_range", None)) is not None:
                    ranges[f"{grey[0]:g}…{grey[1]:g}"] += 1
                good.append({**row, **facts})
        names = f"{shard.name}.parquet", f"{shard.name}-rejects.parquet"
        write_table(self.folder / names[0], table_of(IMAGES, good))
        write_table(self.folder / names[1], table_of(REJECTS, bad))
        return Outcome(names, {"good": len(good), "bad": len(bad), **ranges})

    def _read(self, row: Mapping[str, Any]) -> dict[str, Any] | str:
        if self.look == "auto" and "://" in row["uri"]:
            return {}  # remote: listed, not downloaded
        wanted = self.md5.get(row["image_id"])
        return read_facts(self.workspace.resolve(row["uri"]), self.look, self.max_pixels, wanted)


_Row = dict[str, Any]


def read_all(
    rows: Iterable[_Row], read: Callable[[_Row], dict[str, Any] | str], workers: int
) -> Iterator[tuple[_Row, dict[str, Any] | str]]:
    """Yield each row with its result, in the given order, with a bounded number of images in flight."""
    threads = workers or os.cpu_count() or 1
    queue: collections.deque[tuple[_Row, concurrent.futures.Future[dict[str, Any] | str]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:  # Pillow decodes outside the interpreter lock
        for row in rows:
            queue.append((row, pool.submit(read, row)))
            if len(queue) >= threads * _AHEAD:
                first, future = queue.popleft()
                yield first, future.result()
        for first, future in queue:
            yield first, future.result()


def read_facts(uri: str, look: str, max_pixels: int | None, md5: str | None = None) -> dict[str, Any] | str:
    """Return the columns of the images table for one image, or the reason why it is unusable.

    Decoding (`look` other than header) finds truncated files, and the `grey_range` of deep grey pictures."""
    try:
        data = read_uri(uri)
        if md5 is not None and hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
            return (
                "the MD5 is not the OriginalMD5 of the metadata: a placeholder for a removed photo, or a resized copy"
            )
        header = read_header(data, max_pixels)
        grey = decode(data, max_pixels=max_pixels).info.get("grey_range") if look != "header" else None
    except DecodeError as error:
        return str(error)
    except OSError as error:
        return f"cannot read: {error.strerror or error}"
    except NdecError:  # of the run, not of this image: an outage, missing permissions
        raise
    except Exception as error:  # whatever one image does, the others go on
        return f"cannot read: {type(error).__name__}: {error}"
    facts = dict(zip(FACTS, (sha256_bytes(data), header.width, header.height, header.format), strict=True))
    return facts if grey is None else {**facts, "grey_range": grey}


def write_images(path: Path, tables: Iterable[pa.Table], schema: pa.Schema = IMAGES) -> int:
    """Write tables into one parquet file with one row group in memory at a time; return the number of rows.

    The file has the same bytes as one that `storage.write_table` writes.
    """
    rows, waiting, held = 0, [], 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for table in tables:
            waiting.append(table)
            held += table.num_rows
            rows += table.num_rows
            if held >= GROUP_ROWS:
                joined = pa.concat_tables(waiting)
                complete = held - held % GROUP_ROWS
                writer.write_table(joined.slice(0, complete), row_group_size=GROUP_ROWS)
                waiting, held = [joined.slice(complete)], held - complete
        if held or not rows:
            writer.write_table(
                pa.concat_tables(waiting) if waiting else schema.empty_table(), row_group_size=GROUP_ROWS
            )
    return rows


def close(folder: Path) -> None:
    """Remove the shards of a finished run."""
    shutil.rmtree(folder, ignore_errors=True)
