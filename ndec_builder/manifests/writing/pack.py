"""`ndec export --materialize`: the images in folders or WebDataset shards; the tables then point there."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.core.addresses import Slice
from ndec_builder.core.console import progress
from ndec_builder.core.decode import DecodeError, decode, read_header
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import LICENCE_COLUMNS
from ndec_builder.core.storage import atomic_path, read_uri, sha256_bytes, write_bytes
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.image_paths import ENDINGS, file_key, image_place
from ndec_builder.manifests.settings import ExportConfig

WRITABLE = ("JPEG", "PNG", "WEBP")  # an image of another format that must be encoded anew becomes a PNG
BATCH = 128  # images in memory at once
MAX_BAD = 100  # stop early: so many unusable images are no accident

Row = dict[str, Any]


@dataclass(frozen=True)
class Packed:
    """tables: with uri and sha256 of the packed files · facts: for manifest.json · shards: tar files, to be hashed."""

    tables: dict[str, pa.Table]
    facts: dict[str, Any]
    shards: list[Path]


def pack(
    directory: Path,
    tables: dict[str, pa.Table],
    resolve: Callable[[str], str],
    config: ExportConfig,
) -> Packed:
    """Write all images under `directory`/images in the order of the tables. The same input gives the same bytes.

    An image with a rotation is turned and encoded anew. Raises NdecError for images that cannot be read, or whose bytes
    are no longer those of the tables.
    """
    shutil.rmtree(directory / "images", ignore_errors=True)  # of an earlier export under the same name and version
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
            f"{'at least ' if len(bad) >= MAX_BAD else ''}{len(bad)} images cannot be packed: {'; '.join(bad[:3])}; "
            "restore the files, or ingest and annotate again what was changed"
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


def _batches(table: pa.Table) -> Iterator[list[Row]]:
    for batch in table.to_batches(BATCH):
        yield batch.to_pylist()


def _made(row: Row, resolve: Callable[[str], str], config: ExportConfig) -> tuple[bytes, str] | str:
    """The bytes to pack and their ending, or why there are none."""
    try:
        data = read_uri(resolve(row["uri"]))
        if sha256_bytes(data) != row["sha256"]:
            return "its bytes are not those that were ingested"
        return encoded(data, row["rotation"] or 0, config)
    except (OSError, DecodeError, NdecError) as error:
        return str(error)


def encoded(data: bytes, rotation: int, config: ExportConfig) -> tuple[bytes, str]:
    """The bytes as they are when nothing asks for a change, else the upright picture encoded anew; and the ending."""
    from PIL import Image

    header = read_header(data)
    wanted = header.format if config.image_format == "keep" else config.image_format.upper()
    too_large = bool(config.resize) and max(header.width, header.height) > config.resize
    if not too_large and wanted == header.format and not rotation % 360:
        return data, ENDINGS[header.format]
    image = decode(data, rotation)
    if too_large:
        factor = config.resize / max(image.size)
        size = [max(1, round(side * factor)) for side in image.size]
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    wanted = wanted if wanted in WRITABLE else "PNG"
    buffer = io.BytesIO()
    image.save(buffer, wanted, **({} if wanted == "PNG" else {"quality": config.quality}))
    return buffer.getvalue(), ENDINGS[wanted]


def _sidecar(row: Row, table: str, key: str, sha256: str) -> bytes:
    """What a shard says of an image without the tables."""
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
        self.size = limit  # the first image begins the first shard

    def add(self, key: str, ending: str, data: bytes, sidecar: bytes) -> str:
        """Append a sample; returns its uri. It is never parted; one above the limit has its own shard."""
        needed = sum(
            tarfile.BLOCKSIZE + -(-len(part) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for part in (data, sidecar)
        )
        if self.size + needed > self.limit or not self.paths:
            self.stack.close()
            self.paths.append(self.directory / "images" / f"{self.table}-{len(self.paths):05d}.tar")
            self.stack = ExitStack()
            temporary = self.stack.enter_context(atomic_path(self.paths[-1]))
            self.tar = self.stack.enter_context(tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT))  # noqa: SIM115
            # what closing it may add: two empty blocks, then up to a whole record, which begins with some block
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
        self.stack.__exit__(*error)  # an error takes the unfinished shard with it
