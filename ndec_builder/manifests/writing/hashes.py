"""hashes.parquet of a dataset: perceptual hashes of its images, for those who compare hashes instead of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from ndec_builder.core.console import number_of, progress, say
from ndec_builder.core.decode import decode
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.pictures.errors import DecodeError
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.storage import write_table
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.settings import HASHES

FILE = "hashes.parquet"
_BATCH = 1024


def hash_packages(names: tuple[str, ...]) -> dict[str, str]:
    """The package of each hash with its version. Raises UsageError without the package of a hash."""
    return {name: f"{HASHES[name]} {_version(name, HASHES[name])}" for name in names}


def write_hashes(
    directory: Path, tables: Mapping[str, pa.Table], resolve: Callable[[str], str], names: tuple[str, ...]
) -> tuple[Path, int]:
    """Write `directory`/hashes.parquet; returns it, and the number of images without a hash.

    Columns: table, image_id, and of the upright RGB picture for `pdq` its 256 bits as 64 hexadecimal digits, with
    `pdq_quality` (0–100; ThreatExchange discards 49 and below), for `phash` the 64 bits of imagehash's DCT hash as 16
    digits. One row per image, in the order of the tables. The hashes of an unreadable picture are null; these are
    counted.
    """
    rows: dict[str, list[Any]] = {"table": [], "image_id": []}
    columns = [column for name in names for column in (("pdq", "pdq_quality") if name == "pdq" else (name,))]
    rows |= {column: [] for column in columns}
    unreadable: list[str] = []
    total = sum(tables[name].num_rows for name in IMAGE_TABLES)
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("hashing images", total=total)
        for name, key in IMAGE_TABLES.items():
            for batch in tables[name].select([key, "uri", "rotation", "sha256"]).to_batches(_BATCH):
                images = batch.to_pylist()
                for image, found in zip(
                    images, pool.map(lambda row: _hashes(row, resolve, names), images), strict=True
                ):
                    bar.advance(task)
                    values = {} if isinstance(found, str) else found
                    if isinstance(found, str):
                        unreadable.append(f"{image[key]}: {found}")
                    rows["table"].append(name)
                    rows["image_id"].append(image[key])
                    for column in columns:
                        rows[column].append(values.get(column))
    if unreadable:
        say(f"{number_of(len(unreadable), 'image')} could not be hashed; the first: {unreadable[0]}")
    types = {column: pa.int32() if column == "pdq_quality" else pa.string() for column in rows}
    table = pa.table({column: pa.array(values, types[column]) for column, values in rows.items()})
    return write_table(directory / FILE, table), len(unreadable)


def _version(name: str, package: str) -> str:
    try:
        import_module(package)
    except ImportError as error:
        raise UsageError(
            f"--hashes {name} needs the package {package} ({error}); run `pip install 'ndec-builder[hashes]'`"
        ) from None
    return version(package)


def _hashes(row: Mapping[str, Any], resolve: Callable[[str], str], names: tuple[str, ...]) -> dict[str, Any] | str:
    """The hashes of one image, or why there are none."""
    try:
        picture = decode(read_image(resolve(row["uri"]), row["sha256"]), row["rotation"] or 0)
    except (OSError, DecodeError, NdecError) as error:
        return str(error)
    found: dict[str, Any] = {}
    for name in names:
        found |= _pdq(picture) if name == "pdq" else {name: _phash(picture)}
    return found


def _pdq(picture: Image.Image) -> dict[str, Any]:
    import pdqhash

    bits, quality = pdqhash.compute(np.asarray(picture))
    return {"pdq": np.packbits(bits.astype(bool)).tobytes().hex(), "pdq_quality": int(quality)}


def _phash(picture: Image.Image) -> str:
    import imagehash

    return str(imagehash.phash(picture))
