"""Kind `hf`: directories as the `datasets` library reads and writes them. The library itself is not needed.

Three forms: parquet files, `save_to_disk` (arrow files, images addressed by their place in the file), and images with a
metadata.csv, metadata.jsonl or metadata.parquet that names them in `file_name`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.core.addresses import Slice
from ndec_builder.core.console import say
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.listing import Lister, SourceContents, name_all, stem
from ndec_builder.sources.metadata import licence_columns, metadata_group, metadata_rotation
from ndec_builder.sources.readers import parquet
from ndec_builder.sources.readers.folder import check_folder, walk_files
from ndec_builder.sources.settings import IngestConfig

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILE_NAMES = ("file_name", "image_file_name", "image")


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images of the directory; of several splits all. Give one split's own folder or file to take only that.

    Raises UsageError when none of the three forms is there or no image in it, NdecError for broken files.
    """
    root = Path(config.source)
    check_folder(root)
    if any(root.rglob("state.json")):
        return _saved(root, config, workspace)
    if named := sorted(path for name in _METADATA for path in root.rglob(name)):
        return _with_metadata(named, config, workspace)
    if any(root.rglob("*.parquet")):
        return parquet.find(replace(config, kind="parquet"), workspace)
    raise UsageError(
        f"{root} is no directory of the datasets library: it has no parquet files, no state.json of save_to_disk "
        "and none "
        f"of {', '.join(_METADATA)}"
    )


def _with_metadata(named: list[Path], config: IngestConfig, workspace: Workspace) -> SourceContents:
    """Images that a metadata file describes; those it does not name are left out, as the
    library does; those that are not there are named."""
    lister = Lister(config.role, config.license)
    missing: list[str] = []
    done: set[Path] = set()
    for path in named:
        for row in _rows(path):
            name = next((str(row[key]) for key in _FILE_NAMES if row.get(key)), "")
            file = path.parent / name
            if not name or not _is_inside(file, path.parent):
                missing.append(name or f"a row of {path.name} without file_name")
                continue
            done.add(file)
            _add(lister, workspace.uri_of(file), stem(name), row, file.parent.name, config, file.stat().st_size)
    folders = sorted({path.parent for path in named})
    others = {folder / found.name for folder in folders for found in walk_files(folder, frozenset(SUFFIXES))} - done
    if others:
        say(f"{len(others)} images are left out: the metadata does not name them, e.g. {min(others)}")
    if not done:
        raise UsageError(f"no image in {config.source}: {name_all('files of its metadata are missing', missing)}")
    gaps = (name_all("files that the metadata names are missing", missing),) if missing else ()
    return SourceContents({config.role: lister.finish()}, gaps, inputs={path.name: sha256_file(path) for path in named})


def _is_inside(file: Path, folder: Path) -> bool:
    """Whether a file that the metadata names is there, below the folder of the metadata."""
    try:
        return file.resolve().is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, a link to itself
        return False


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        if path.suffix == ".parquet":
            yield from pq.read_table(path).to_pylist()
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                yield from csv.DictReader(file, strict=True)
            else:
                for line in file:
                    if line.strip():
                        if not isinstance(row := json.loads(line), dict):
                            raise ValueError(f"{line.strip()[:40]!r} is no object")
                        yield row
    except (ValueError, RecursionError, csv.Error, pa.ArrowException) as error:
        raise NdecError(f"{path} cannot be read ({error}); mend that file") from None


def _saved(root: Path, config: IngestConfig, workspace: Workspace) -> SourceContents:
    """What `save_to_disk` wrote. Arrow files are not packed, so an image is a range of bytes."""
    lister = Lister(config.role, config.license)
    missing: list[str] = []
    for state in sorted(root.rglob("state.json")):
        try:
            names = [str(entry["filename"]) for entry in json.loads(state.read_text("utf-8"))["_data_files"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NdecError(f"{state} is no state of save_to_disk ({error}); restore the directory") from None
        for name in names:
            file = state.parent / Path(name).name
            if file.is_file():
                _list_arrow(lister, file, config, workspace)
            else:
                missing.append(file.relative_to(root).as_posix())
    listing = lister.finish()
    if not listing.images.num_rows:
        raise UsageError(f"no image in {root}: {name_all('arrow files are missing', missing)}")
    gaps = (name_all("arrow files are missing", missing),) if missing else ()
    return SourceContents({config.role: listing}, gaps)


def _list_arrow(lister: Lister, file: Path, config: IngestConfig, workspace: Workspace) -> None:
    uri, count = workspace.uri_of(file), 0
    try:
        with pa.memory_map(str(file)) as mapped:
            base = mapped.read_buffer(1).address
            mapped.seek(0)
            with pa.ipc.open_stream(mapped) as reader:
                column = parquet.image_column(reader.schema, config.column, str(file))
                for batch in reader:
                    others = [name for name in batch.schema.names if name != column.name]
                    rows = batch.select(others).to_pylist() if others else [{}] * batch.num_rows
                    values = batch.column(column.name)
                    paths = _paths(values, column.form)
                    for row, place, path in zip(rows, _places(values, column.form, base), paths, strict=True):
                        image_id = parquet.image_id(row, path, file.stem, count)
                        count += 1
                        if place is not None:
                            _add(lister, Slice(uri, *place).uri, image_id, row, file.parent.name, config, place)
                        elif path and parquet.escapes_folder(path):
                            lister.reject(image_id, uri, parquet.ESCAPES_FOLDER)
                        elif path:
                            where = path if "://" in path else parquet.beside(str(file), path, workspace)
                            _add(lister, where, image_id, row, file.parent.name, config, None)
                        else:
                            lister.reject(image_id, uri, "no image in this row")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise NdecError(f"{file} cannot be read as an arrow file ({error}); restore it") from None


def _paths(values: pa.Array, form: str) -> list[str | None]:
    if form == "path":
        return values.to_pylist()
    if form == "struct" and values.type.get_field_index("path") >= 0:
        return values.field("path").to_pylist()
    return [None] * len(values)


def _places(values: pa.Array, form: str, base: int) -> Iterator[tuple[int, int] | None]:
    """Yield (first byte, byte after the last) within the file of each value; None for a null."""
    if form == "path":
        yield from [None] * len(values)
        return
    data = values.field("bytes") if form == "struct" else values
    _, offsets, content = data.buffers()
    wide = pa.types.is_large_binary(data.type)
    ends = memoryview(offsets).cast("q" if wide else "i")
    start = content.address - base if content is not None else 0
    for i, valid in enumerate(data.is_valid().to_pylist()):
        first, last = ends[data.offset + i], ends[data.offset + i + 1]
        yield (start + first, start + last) if valid and last > first else None


def _add(
    lister: Lister, uri: str, image_id: str, row: Mapping[str, Any], folder: str, config: IngestConfig, stamp: object
) -> None:
    lister.add(
        image_id,
        uri,
        group=metadata_group(row, config.group_by, image_id, folder),
        rotation=metadata_rotation(row),
        stamp=stamp,
        **licence_columns(row),
    )
