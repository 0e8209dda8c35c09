"""What must hold of the image files themselves: they are there, and their bytes are those of the tables."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ndec_builder.core.addresses import parse
from ndec_builder.core.console import progress
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_uri, sha256_bytes, sha256_file
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.image_paths import climbs_out
from ndec_builder.manifests.read import Manifest
from ndec_builder.manifests.validation.findings import Finding, Tables, found

BATCH = 4096  # images handed to the threads at once


def check_shards(manifest: Manifest) -> Iterator[Finding]:
    """Every tar of the dataset can be read, and nothing in it would leave the folder that it is unpacked to."""
    outside, broken = [], []
    for path in sorted((manifest.directory / "images").glob("*.tar")):
        try:
            with tarfile.open(path, "r:") as tar:
                outside += [
                    f"{path.name}: {member.name}" for member in tar if climbs_out(member.name) or not member.isreg()
                ]
        except (tarfile.TarError, OSError) as error:
            broken.append(f"{path.name} ({error})")
    yield from found("M114", broken)
    yield from found("M115", outside)


def check_images(manifest: Manifest, tables: Tables) -> Iterator[Finding]:
    """The sha256 of every image file that is on this machine; files elsewhere are counted, not fetched.

    tables: with the uris that are to be opened (`Manifest.table`).
    """
    sums: dict[str | None, str | None] = {}
    for name in IMAGE_TABLES:
        sums.update(zip(tables[name]["uri"].to_pylist(), tables[name]["sha256"].to_pylist(), strict=True))
    local = sorted(uri for uri in sums if uri and "://" not in uri)  # members of a shard in the order of their ids
    wrong, gone = [], []
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("hashing images", total=len(local))
        for start in range(0, len(local), BATCH):
            uris = local[start : start + BATCH]
            for uri, sha256 in zip(uris, pool.map(lambda uri: _sha256(manifest.resolve(uri)), uris), strict=True):
                bar.advance(task)
                if sha256 is None:
                    gone.append(uri)
                elif sha256 != sums[uri]:
                    wrong.append(uri)
    yield from found("M305", wrong)
    yield from found("M309" if manifest.form in ("folder", "tar") else "M306", gone)


def _sha256(uri: str) -> str | None:
    """Of the bytes; None when they are not there."""
    try:
        return sha256_file(Path(uri)) if parse(uri) is None else sha256_bytes(read_uri(uri))
    except (OSError, NdecError):
        return None
