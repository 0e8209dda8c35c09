"""Checks of the image files: they exist, and their bytes match the tables."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ndec_builder.core.addresses import parse_address
from ndec_builder.core.console import progress
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_uri, sha256_bytes, sha256_file
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.image_paths import escapes_root
from ndec_builder.manifests.read import Manifest
from ndec_builder.manifests.validation.findings import Finding, Tables, flag_rows

_BATCH = 4096  # images handed to the threads at once


def check_shards(manifest: Manifest) -> Iterator[Finding]:
    """Every tar of the dataset is readable, and no member would leave the folder that it is unpacked to."""
    outside, broken = [], []
    for path in sorted((manifest.directory / "images").glob("*.tar")):
        try:
            with tarfile.open(path, "r:") as tar:
                outside += [
                    f"{path.name}: {member.name}" for member in tar if escapes_root(member.name) or not member.isreg()
                ]
        except (tarfile.TarError, OSError) as error:
            broken.append(f"{path.name} ({error})")
    yield from flag_rows("M114", broken)
    yield from flag_rows("M115", outside)


def check_images(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    """Compare the sha256 of every image file on this machine; remote files are not fetched.

    tables: as `Manifest.table` returns them, with the uris to open.
    """
    sums: dict[str, str | None] = {}
    unlike = set()  # rows with this uri have different sums, so one of them is wrong
    for name in IMAGE_TABLES:
        for uri, sha256 in zip(tables[name]["uri"].to_pylist(), tables[name]["sha256"].to_pylist(), strict=True):
            if _is_local(uri) and sums.setdefault(uri, sha256) != sha256:
                unlike.add(uri)
    local = sorted(sums)  # members of a shard in the order of their ids
    wrong, gone = [], []
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("hashing images", total=len(local))
        for start in range(0, len(local), _BATCH):
            uris = local[start : start + _BATCH]
            for uri, sha256 in zip(uris, pool.map(lambda uri: _sha256(manifest, uri), uris), strict=True):
                bar.advance(task)
                if sha256 is None:
                    gone.append(uri)
                elif sha256 != sums[uri] or uri in unlike:
                    wrong.append(uri)
    yield from flag_rows("M305", wrong)
    yield from flag_rows("M309" if manifest.form in ("folder", "tar") else "M306", gone)


def images_not_compared(tables: Tables) -> int:
    """Images that `check_images` skips: remote ones, and those without a file of their own."""
    return sum(not _is_local(uri) for name in IMAGE_TABLES for uri in tables[name]["uri"].to_pylist())


def _is_local(uri: str | None) -> bool:
    return bool(uri) and "://" not in str(uri)


def _sha256(manifest: Manifest, uri: str) -> str | None:
    """The sha256 of the bytes; None when they are missing."""
    try:
        uri = manifest.resolve(uri)
        return sha256_file(Path(uri)) if parse_address(uri) is None else sha256_bytes(read_uri(uri))
    except (OSError, NdecError):
        return None
