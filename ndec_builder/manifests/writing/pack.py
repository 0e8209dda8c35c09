"""`ndec export --materialize`: copy the images into folders or WebDataset shards that the tables point to."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.core.addresses import Slice
from ndec_builder.core.console import number_of, progress
from ndec_builder.core.decode import DecodeError, decode, read_header
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LICENCE_COLUMNS
from ndec_builder.core.storage import atomic_path, read_uri, sha256_bytes, write_bytes
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.image_paths import extension, file_key, image_place
from ndec_builder.manifests.settings import ExportConfig

WRITABLE = ("JPEG", "PNG", "WEBP")  # other formats become PNG when they must be re-encoded
_BATCH = 128  # images in memory at once
MAX_BAD = 100  # stop early: this many unusable images point to a general problem

_Row = dict[str, Any]


@dataclass(frozen=True)
class Packed:
    """tables: with uri and sha256 of the packed files · facts: for manifest.json · shards: the tar files."""

    tables: dict[str, pa.Table]
    facts: dict[str, Any]
    shards: list[Path]


def pack(
    directory: Path,
    tables: dict[str, pa.Table],
    resolve: Callable[[str], str],
    config: ExportConfig,
) -> Packed:
    """Write all images under `directory`/images in table order. The same input gives the same bytes.

    A rotated image is turned upright and re-encoded. Raises NdecError for images that cannot be read, or whose sha256
    differs from the tables.
    """
    total = sum(tables[name].num_rows for name in IMAGE_TABLES)
    result, shards, changed, bad = dict(tables), [], 0, list[str]()
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("packing images", total=total)
        for name, key in IMAGE_TABLES.items():
            uris, sums = [], []
            with _Tar(directory, name, config.shard_megabytes * 10**6) as writer:
                for rows in _batches(tables[name]):
                    made = pool.map(lambda row: _made(row, resolve, config), rows)
                    for row, item in zip(rows, made, strict=True):
                        bar.advance(task)
                        if isinstance(item, str):
                            bad.append(f"{row[key]} ({item})")
                            continue
                        data, ending = item
                        sums.append(sha256_bytes(data))
                        changed += sums[-1] != row["sha256"]
                        if config.materialize == "folder":
                            uris.append(image_place(name, row[key], sums[-1]) + ending)
                            write_bytes(directory / uris[-1], data)
                        else:
                            uris.append(
                                writer.add(file_key(row[key]), ending, data, _sidecar(row, name, key, sums[-1]))
                            )
                    if len(bad) >= MAX_BAD:
                        break
            shards += writer.paths
            if not bad:
                result[name] = _with(tables[name], uris, sums)
    if bad:
        raise NdecError(
            f"{'at least ' if len(bad) >= MAX_BAD else ''}{number_of(len(bad), 'image')} cannot be packed: "
            f"{'; '.join(bad[:3])}; restore the files, or ingest and annotate the changed ones again"
        )
    facts = {
        "form": config.materialize,
        "resize": config.resize,
        "image_format": config.image_format,
        "quality": config.quality,
        "encoded_anew": changed,
        "shards": len(shards),
        "shard_megabytes": config.shard_megabytes if config.materialize == "tar" else 0,
    }
    return Packed(result, facts, shards)


def _batches(table: pa.Table) -> Iterator[list[_Row]]:
    for batch in table.to_batches(_BATCH):
        yield batch.to_pylist()


def _made(row: _Row, resolve: Callable[[str], str], config: ExportConfig) -> tuple[bytes, str] | str:
    """The bytes to pack and their extension, or why they cannot be packed."""
    try:
        data = read_uri(resolve(row["uri"]))
        if sha256_bytes(data) != row["sha256"]:
            return "its bytes have changed since it was ingested"
        return encoded(data, row["rotation"] or 0, config)
    except (OSError, DecodeError, NdecError) as error:
        return str(error)


def encoded(data: bytes, rotation: int, config: ExportConfig) -> tuple[bytes, str]:
    """The original bytes when nothing must change, else the upright picture re-encoded; and the extension."""
    from PIL import Image

    header = read_header(data)
    wanted = header.format if config.image_format == "keep" else config.image_format.upper()
    too_large = bool(config.resize) and max(header.width, header.height) > config.resize
    if not too_large and wanted == header.format and not rotation % 360:
        return data, extension(header.format)
    image = decode(data, rotation)
    if too_large:
        factor = config.resize / max(image.size)
        size = [max(1, round(side * factor)) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    wanted = wanted if wanted in WRITABLE else "PNG"
    buffer = io.BytesIO()
    image.save(buffer, wanted, **({} if wanted == "PNG" else {"quality": config.quality}))
    return buffer.getvalue(), extension(wanted)


def _sidecar(row: _Row, table: str, key: str, sha256: str) -> bytes:
    """The json next to an image in a shard: its row of the tables."""
    names = ("kind", "group", *LICENCE_COLUMNS)
    facts = {"table": table, key: row[key], "sha256": sha256} | {name: row[name] for name in names if row.get(name)}
    return json.dumps(facts, sort_keys=True, ensure_ascii=False).encode("utf-8")


def _with(table: pa.Table, uris: list[str], sums: list[str]) -> pa.Table:
    columns = {"uri": uris, "sha256": sums, "rotation": [0] * len(uris)}  # packed upright
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.column_names.index(name), field, pa.array(values, field.type))
    return table


class _Tar:
    """WebDataset shards of one table: members KEY.jpg and KEY.json, headers without times and owners."""

    def __init__(self, directory: Path, table: str, limit: int) -> None:
        self.directory, self.table, self.limit = directory, table, limit
        self.paths: list[Path] = []
        self.stack = ExitStack()
        self.size = limit  # the first image starts the first shard

    def add(self, key: str, ending: str, data: bytes, sidecar: bytes) -> str:
        """Append a sample; returns its uri. A sample is never split; one above the limit gets its own shard."""
        needed = sum(
            tarfile.BLOCKSIZE + -(-len(part) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for part in (data, sidecar)
        )
        if self.size + needed > self.limit or not self.paths:
            self.stack.close()
            self.paths.append(self.directory / "images" / f"{self.table}-{len(self.paths):05d}.tar")
            self.stack = ExitStack()
            temporary = self.stack.enter_context(atomic_path(self.paths[-1]))
            self.tar = self.stack.enter_context(tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT))  # noqa: SIM115
            # closing the tar may add two empty blocks and padding up to a full record
            self.size = tarfile.RECORDSIZE + tarfile.BLOCKSIZE
        start = self._append(key + ending, data)
        self._append(f"{key}.json", sidecar)
        self.size += needed
        return Slice(f"images/{self.paths[-1].name}", start, start + len(data)).uri

    def _append(self, name: str, part: bytes) -> int:
        """Write one member; returns the offset of its first byte."""
        member = tarfile.TarInfo(name)
        member.size = len(part)
        self.tar.addfile(member, io.BytesIO(part))
        return self.tar.offset - -(-len(part) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)  # an error removes the unfinished shard
