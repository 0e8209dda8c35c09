"""Folders of pictures for the peers: one file per image, named by its row, as stored or as an upright PNG."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from ndec_builder.core.console import number_of
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.core.storage import write_bytes
from ndec_builder.evaluation.dataset import Dataset, rotations_of

_SUFFIXES = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png"}


@contextlib.contextmanager
def pictures_folder(out: Path) -> Iterator[Path]:
    """An empty folder in the report that is removed at the end. What a killed run left in it is removed first.

    Its name is one that no folder of the user has: `--out` may name a folder with other files.
    """
    folder = out / "league-pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_pictures(dataset: Dataset, out: Path) -> tuple[tuple[Path, Path], list[str], list[str]]:
    """Write `queries/q000000.jpg`, … and `references/r000000.jpg`, …; → the two folders, notes, and the names of the
    pictures that cannot be read now.

    JPEG and PNG are copied as they are stored, so that each peer decodes them in its own way. Other formats and images
    with a rotation become an upright PNG. An image that cannot be decoded is written as it is: each peer meets it. One
    that is missing or has changed is an empty file.
    """
    folders, converted, broken = (out / "queries", out / "references"), 0, list[str]()
    for folder, letter, table in zip(folders, "qr", (dataset.queries, dataset.references), strict=True):
        some = write_folder(table, dataset.resolve, folder, letter)
        converted, broken = converted + some[0], broken + some[1]
    notes = [
        f"{what}: {number_of(count, 'image')}"
        for count, what in (
            (converted, "stored in another format or rotated, given to the peers as upright PNG"),
            (len(broken), "missing, changed or broken"),
        )
        if count
    ]
    return (folders[0], folders[1]), notes, broken


def write_folder(table: pa.Table, resolve: Callable[[str], str], folder: Path, letter: str) -> tuple[int, list[str]]:
    """Write one side, as `write_pictures` does; → how many were converted, and the names of unreadable ones."""
    folder.mkdir(parents=True, exist_ok=True)
    converted, broken = 0, list[str]()
    columns = table["uri"].to_pylist(), table["sha256"].to_pylist(), rotations_of(table)
    for row, (uri, sha256, rotation) in enumerate(zip(*columns, strict=True)):
        path = folder / f"{letter}{row:06}"
        try:
            data = read_image(resolve(uri), sha256)
        except (OSError, DecodeError):
            data = b""
        suffix = next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), "")
        if suffix and not rotation:
            write_bytes(path.with_suffix(f".{suffix}"), data)
            continue
        try:
            image = decode(data, rotation)
        except DecodeError:
            write_bytes(path.with_suffix(".jpg"), data)
            broken.append(path.name)
            continue
        image.convert("RGB").save(path.with_suffix(".png"))
        converted += 1
    return converted, broken


def unreadable_ids(table: pa.Table, resolve: Callable[[str], str]) -> list[str]:
    """Ids of the images whose bytes are missing, or other ones than those of the dataset."""
    found = []
    for image_id, uri, sha256 in zip(*(table[name].to_pylist() for name in ("image_id", "uri", "sha256")), strict=True):
        try:
            read_image(resolve(uri), sha256)
        except (OSError, DecodeError):
            found.append(image_id)
    return found
