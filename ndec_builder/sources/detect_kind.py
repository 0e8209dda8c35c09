"""Guess the kind of a source from its name and entries. Opens no image."""

from __future__ import annotations

import re
from pathlib import Path

from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import UsageError
from ndec_builder.sources.settings import SOURCE_KINDS

_BY_ENDING = {
    ".tar": "tar", ".parquet": "parquet", ".txt": "list", ".lst": "list", ".list": "list", ".h5": "descriptors",
    ".hdf5": "descriptors",
    ".zip": "disc21", ".tgz": "tar",
}  # fmt: skip
TABLES = (
    "ndec reads tables of pictures as parquet (column path, and image_id, group, license, author if you have them), as "
    "a metadata.csv or metadata.jsonl with the column file_name in the folder of the pictures (give the folder), as a "
    "text file with one path per line (--kind list), and as the csv of OpenImages (column ImageID)"
)
_PACKED_TAR = re.compile(r"\.tar\.\w+$")


def guess_kind(source: Path | str) -> str:
    """Return a name of SOURCE_KINDS. Raises UsageError for a file whose kind is unclear."""
    name = str(source)
    if "://" not in name and Path(name).is_dir():
        return _kind_of_folder(Path(name))
    if _PACKED_TAR.search(name):
        return "tar"
    suffix = Path(name).suffix.lower()
    if suffix in _BY_ENDING:
        return _BY_ENDING[suffix]
    if suffix == ".csv" and Path(name).is_file() and _has_image_ids(Path(name)):
        return "openimages"
    if "://" in name or not Path(name).exists() or suffix in SUFFIXES:
        return "folder"  # this reader reports the error
    if suffix in (".csv", ".tsv", ".json", ".jsonl", ".xlsx"):
        raise UsageError(f"{source} is a table. {TABLES}")
    raise UsageError(
        f"{source} is a file, not a folder, and its name does not show its kind; give --kind, one of "
        f"{', '.join(SOURCE_KINDS)}"
    )


def table_of_downloads(folder: Path) -> Path | None:
    """The table next to a folder of pictures that img2dataset wrote: it knows their licences, captions and rotation."""
    folder = folder.absolute()
    table, stats = folder.with_name(f"{folder.name}.parquet"), folder.with_name(f"{folder.name}_stats.json")
    return table if folder.is_dir() and table.is_file() and stats.is_file() else None


def _has_image_ids(path: Path) -> bool:
    with path.open("rb") as file:
        return b"ImageID" in file.readline(4096)


def _kind_of_folder(folder: Path) -> str:
    entries = {path.name for path in folder.iterdir()}
    if "negative_pair" in entries or "query_images_h5" in entries:
        return "ndec"
    if "original" in entries and entries & {"crops", "jpeg", "jpegqual", "strong"}:
        return "copydays"
    if entries & {"dataset_dict.json", "state.json", "metadata.csv", "metadata.jsonl", "metadata.parquet"}:
        return "hf"
    endings = {Path(name).suffix.lower() for name in entries}
    if ".tar" in endings and not endings & SUFFIXES:
        return "tar"
    if ".parquet" in endings and not endings & SUFFIXES:
        return "parquet"
    if "data" in entries and (folder / "data").is_dir() and any((folder / "data").glob("*.parquet")):
        return "hf"
    return "folder"
