"""Kind `hf`: directories as the `datasets` library reads and writes them. The library itself is not needed.

Three forms: parquet files, `save_to_disk` (arrow files, images addressed by their place in the file), and images with a
metadata.csv, metadata.jsonl or metadata.parquet that names them in `file_name`.
"""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.core.addresses import Slice, container
from ndec_builder.core.console import counted_reasons, number_of
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_uri, sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import is_uri, labels, references_of
from ndec_builder.sources.image_ids import ID_NAMES
from ndec_builder.sources.listing import SourceContents, name_all, stem, without_ending
from ndec_builder.sources.readers import parquet
from ndec_builder.sources.readers.arrow_places import ArrowImage, find_images_in
from ndec_builder.sources.readers.described import DescribedImages
from ndec_builder.sources.readers.folder import check_folder, walk_files
from ndec_builder.sources.readers.image_column import find_column, unreadable
from ndec_builder.sources.settings import IngestConfig

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILE_NAMES = ("file_name", "image_file_name", "image")


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images of the directory, of all its splits. Give the folder or file of one split to read only that.

    Raises UsageError when it has none of the three forms or no image, NdecError for broken files.
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
        f"{root} is not a directory of the datasets library: it has no parquet files, no state.json of save_to_disk "
        f"and none of {', '.join(_METADATA)}"
    )


def _with_metadata(named: list[Path], config: IngestConfig, workspace: Workspace) -> SourceContents:
    """Images that a metadata file describes. Other images are left out, as the library does; missing ones are named."""
    images, references = DescribedImages(config), references_of(config)
    missing: list[str] = []
    done: set[Path] = set()
    described = 0
    for path in named:
        for row in _rows(path):
            name = next((str(row[key]) for key in _FILE_NAMES if row.get(key)), "")
            if not name:
                missing.append(f"a row of {path.name} without file_name")
                continue
            uri, problem = parquet.referred(references, name, str(path), workspace)
            local = not problem and not is_uri(uri)
            file = Path(container(workspace.resolve(uri))) if local else path.parent / name
            if local and not file.is_file():
                missing.append(name)
                continue
            done.add(path.parent / name)
            described += 1
            folder, short = path.parent.relative_to(config.source).as_posix(), stem(name)
            longer = (without_ending(name), without_ending(f"{folder}/{name}"), f"{folder}/{name}")
            read = partial(read_uri, workspace.resolve(uri))
            values = {key: value for key, value in row.items() if key not in ID_NAMES or config.id}
            images.add(uri, short, longer, values, f"{folder}/{name}", read=read, problem=problem)
    notes = []
    folders = sorted({path.parent for path in named})
    listed = {folder / found.name for folder in folders for found in walk_files(folder, frozenset(SUFFIXES))}
    if others := listed - done:
        notes.append(
            f"{number_of(len(others), 'image is', 'images are')} left out, not named in the metadata, e.g. "
            f"{min(others)}"
        )
    if described == images.lister.reject_count:
        reasons = counted_reasons(row["reason"] for row in images.lister.finish().rejects)
        refused = (
            reasons
            if done
            else name_all(missing, "file of its metadata is missing", "files of its metadata are missing")
        )
        raise UsageError(f"no image in {config.source}: {refused}")
    what = "file that the metadata names is missing", "files that the metadata names are missing"
    gaps = [name_all(missing, *what)] if missing else []
    return images.contents(
        gaps, notes, {path.relative_to(config.source).as_posix(): sha256_file(path) for path in named}
    )


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
        raise NdecError(f"{path} cannot be read ({error}); fix that file") from None


def _saved(root: Path, config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images that `save_to_disk` wrote. Arrow files are not packed, so an image is a range of bytes."""
    images = DescribedImages(config)
    files: list[Path] = []
    missing: list[Path] = []
    for state in sorted(root.rglob("state.json")):
        try:
            names = [str(entry["filename"]) for entry in json.loads(state.read_text("utf-8"))["_data_files"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise NdecError(f"{state} is not a state of save_to_disk ({error}); restore the directory") from None
        for name in names:
            file = state.parent / Path(name).name
            (files if file.is_file() else missing).append(file)
    for file, label in zip(files, labels([str(file) for file in files]) if files else [], strict=True):
        _list_arrow(images, file, label, config, workspace)
    missing_names = [file.relative_to(root).as_posix() for file in missing]
    contents = images.contents(
        [name_all(missing_names, "arrow file is missing", "arrow files are missing")] if missing else []
    )
    listing = contents.listings[config.role]
    if not listing.images.num_rows:
        why = counted_reasons(row["reason"] for row in listing.rejects)
        raise UsageError(f"no image in {root}: {'. '.join(contents.gaps) or why or 'no row'}")
    return contents


def _list_arrow(images: DescribedImages, file: Path, label: str, config: IngestConfig, workspace: Workspace) -> None:
    count = 0
    column = schema = None
    try:
        with pa.memory_map(str(file)) as mapped:
            base = mapped.read_buffer(1).address
            mapped.seek(0)
            with pa.ipc.open_stream(mapped) as reader:
                schema = reader.schema
                column = find_column(schema, config.column, str(file))
                for batch in reader:
                    batch.validate(full=True)  # wrong offsets would end the process
                    others = [name for name in batch.schema.names if name != column.name]
                    rows = batch.select(others).to_pylist() if others else [{}] * batch.num_rows
                    for row, found in zip(rows, find_images_in(batch.column(column.name), column, base), strict=True):
                        for index, image in enumerate(found):
                            number = f"{count:07d}" + (f"-{index}" if column.many else "")
                            values = _of_element(row, index) if column.many else row
                            _add(images, image, number, values, file, label, workspace)
                        count += 1
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowKeyError) as error:
        if column is None or schema is None:
            raise NdecError(f"{file} cannot be read as an arrow file ({error}); restore it") from None
        raise unreadable(error, str(file), column, schema) from None
    except (pa.ArrowException, OSError, ValueError, IndexError, struct.error) as error:  # offsets that lie
        raise NdecError(f"{file} cannot be read as an arrow file ({error}); restore it") from None


def _add(
    images: DescribedImages,
    image: ArrowImage,
    number: str,
    values: Mapping[str, Any],
    file: Path,
    label: str,
    workspace: Workspace,
) -> None:
    uri, problem, path = workspace.uri_of(file), image.problem, image.path
    if image.place:
        uri = Slice(uri, *image.place).uri
    elif path and not problem:
        uri, problem = parquet.referred(references_of(images.config), path, str(file), workspace)
    else:
        problem = problem or "no image in this row"
    short = stem(path) if path else f"{file.stem}-{number}"
    longer = (without_ending(path), f"{label}/{without_ending(path)}") if path else ()
    read = partial(read_uri, workspace.resolve(uri))
    images.add(
        uri, short, (*longer, f"{label}/{number}"), values, path, read=read,
        problem=problem,
    )  # fmt: skip


def _of_element(row: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    """The metadata of one image of a row with several; their number is added to its ids."""
    return {key: f"{value}-{index}" if key in ID_NAMES and value is not None else value for key, value in row.items()}
