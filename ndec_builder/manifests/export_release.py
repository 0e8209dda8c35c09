"""`ndec export-release`: write a dataset in the layout of the NDEC release.

negative_pair/00000/ (former and latter), query_images_h5/, public_ground_truth_h5.csv. References and basic images are
not part of that release: they come from DISC21.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from ndec_builder.core.addresses import container
from ndec_builder.core.console import number_of, progress, say
from ndec_builder.core.decode import DecodeError, read_header
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.storage import read_uri, sha256_bytes, write_bytes
from ndec_builder.manifests.csv_tables import ground_truth_csv, write_pieces
from ndec_builder.manifests.image_paths import escapes_root, extension
from ndec_builder.manifests.pair_folders import FOLDERS, read_folders
from ndec_builder.manifests.read import Manifest, open_manifest
from ndec_builder.manifests.settings import ReleaseConfig

_PAIRS, _QUERIES, _TRUTH = "negative_pair", "query_images_h5", "public_ground_truth_h5.csv"
_BATCH = 256


@dataclass(frozen=True)
class FileCopy:
    """One file to write: its folder below `out`, its name without ending, the image, and its clockwise rotation."""

    folder: str
    image_id: str
    uri: str
    sha256: str
    rotation: int | None

    @property
    def place(self) -> str:
        return f"{self.folder}/{self.image_id}"


@one_writer(lambda config: config.out)
def run(config: ReleaseConfig) -> Path:
    """Write the layout into a new or empty folder and return it. Image bytes never change.

    Raises UsageError for a folder with content, NdecError for an id that cannot be a file name and for images
    that are missing or changed; GapsError, after everything is written, for images that the dataset rotates, because
    the layout cannot say so.
    """
    manifest = open_manifest(config.manifest)
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UsageError(f"--out {config.out} already exists and is not empty; name a new folder")
    copies = list(file_copies(manifest))
    if bad := sorted({copy.image_id for copy in copies if "/" in copy.image_id or escapes_root(copy.image_id)}):
        raise NdecError(
            f"{number_of(len(bad), 'id')} cannot be a file name, {bad[0]!r} first; this layout names files by their "
            "ids, and its readers take the file name for the id. `ndec export --materialize folder` writes any ids; "
            "this layout needs distinct file names in all sources before `ndec ingest`"
        )
    missing: list[str] = []
    with progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("copying images", total=len(copies))
        for start in range(0, len(copies), _BATCH):
            for problem in pool.map(lambda copy: _copy(copy, manifest, config.out), copies[start : start + _BATCH]):
                missing += [problem] if problem else []
                bar.advance(task)
    if missing:
        raise NdecError(
            f"{number_of(len(missing), 'image')} cannot be copied, so {config.out} is incomplete: "
            f"{'; '.join(missing[:3])}; restore them (`ndec validate` names all), delete the folder and run it again"
        )
    write_pieces(config.out / _TRUTH, ground_truth_csv(manifest.table("ground_truth")))
    say(f"{config.out}: {number_of(len(copies), 'image')}, {_TRUTH}")
    if rotated := sorted({copy.place for copy in copies if (copy.rotation or 0) % 360}):
        what = number_of(len(rotated), "image is", "images are")
        raise GapsError(
            f"{what} rotated by the dataset, {rotated[0]!r} first, and this layout has no place for that: other "
            "programs see the files as they are stored. For upright files, export the dataset with `--materialize "
            "folder`, and this layout from that"
        )
    return config.out


def file_copies(manifest: Manifest) -> Iterator[FileCopy]:
    """Queries, then former and latter of each pair, in the order of the pairs' folders."""
    queries = manifest.table("queries")
    for name, image in _images(queries, "query_id").items():
        yield FileCopy(_QUERIES, name, *image)
    basic, extra = (_images(manifest.table(table), "image_id") for table in ("train_basic", "train_pair_images"))
    pairs = manifest.table("train_pairs").select(["pair_id", "former_id", "latter_id"]).to_pylist()
    unknown = [pair["former_id"] for pair in pairs if pair["former_id"] not in basic]
    unknown += [pair["latter_id"] for pair in pairs if pair["latter_id"] not in extra]
    if unknown:
        raise NdecError(
            f"{len(unknown)} images of pairs are missing from the tables, {unknown[0]!r} first; run `ndec validate`"
        )
    folders = read_folders(manifest.directory / FOLDERS)
    named = [(folders.get(pair["pair_id"], f"{place:05d}"), pair) for place, pair in enumerate(pairs)]
    for folder, pair in sorted(named, key=lambda item: (len(item[0]), item[0])):
        yield FileCopy(f"{_PAIRS}/{folder}", pair["former_id"], *basic[pair["former_id"]])
        yield FileCopy(f"{_PAIRS}/{folder}", pair["latter_id"], *extra[pair["latter_id"]])


def _images(table: pa.Table, key: str) -> dict[str, tuple[str, str, int | None]]:
    """id → uri, sha256 and rotation."""
    images = zip(*(table[name].to_pylist() for name in ("uri", "sha256", "rotation")), strict=True)
    return dict(zip(table[key].to_pylist(), images, strict=True))


def _copy(copy: FileCopy, manifest: Manifest, out: Path) -> str | None:
    """Write one file; returns what went wrong, or None."""
    try:
        data = read_uri(manifest.resolve(copy.uri))
        if sha256_bytes(data) != copy.sha256:
            return f"{copy.place} (its sha256 differs from the dataset)"
        ending = PurePosixPath(container(copy.uri)).suffix if container(copy.uri) == copy.uri else ""
        write_bytes(out / (copy.place + (ending or extension(read_header(data).format))), data)
    except (OSError, DecodeError) as error:
        return f"{copy.place} ({error})"
    return None
