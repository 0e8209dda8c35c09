"""Kind `parquet`: files with image bytes, read in place, or with paths and URIs of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ndec_builder.core.access.references import References
from ndec_builder.core.addresses import Cell
from ndec_builder.core.console import number_of, say
from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_uri
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import (
    containers,
    is_uri,
    labels,
    missing_parts,
    open_container,
    references_of,
    scanned,
)
from ndec_builder.sources.image_ids import COLUMN, ID_NAMES, is_missing
from ndec_builder.sources.listing import SourceContents, stem, without_ending
from ndec_builder.sources.metadata import NAMES
from ndec_builder.sources.readers.described import DescribedImages
from ndec_builder.sources.readers.folder import walk_files
from ndec_builder.sources.readers.image_column import ImageCell, ImageColumn, entries, find_column, unreadable
from ndec_builder.sources.settings import IngestConfig

_LARGE_GROUP = 64 << 20  # bytes of a row group from which jumping between groups costs more than reading
_DOWNLOADED = {"key", "status", "error_message"}  # columns of img2dataset's tables (1.47)
_HINT = "give a parquet file, a folder with parquet files, or a pattern such as `data/train-*.parquet`"


@dataclass(frozen=True)
class ParquetRow:
    """One image of a file: address, ids, metadata, and why it cannot be used (empty: it can)."""

    uri: str
    short: str
    longer: tuple[str, ...]
    values: Mapping[str, Any]
    problem: str
    place: str | None  # its path, if the file states one


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The images in the rows of the files. Ids: the id column, else the stem of the path, else file and row.

    Bytes are addressed by row group and row. A row without bytes is read from its path, relative to the file; of a web
    address that img2dataset downloaded the local picture is taken. Raises UsageError when there is no file, no image
    column, or no row; NdecError for a file that is not parquet.
    """
    images = DescribedImages(config)
    count, named = 0, set[str]()
    found = containers(config.source, ".parquet", workspace, _HINT)
    for (uri, name), label in zip(found, labels([uri for uri, _ in found]), strict=True):
        rows = scanned(partial(_scan, uri, name, label, config, workspace), name)
        for row in rows:
            read = partial(read_uri, workspace.resolve(row.uri))
            images.add(row.uri, row.short, row.longer, row.values, row.place, read=read, problem=row.problem)
            named.add(row.uri)
        count += len(rows)
    if not count:
        raise UsageError(f"no row in {config.source}; {_HINT}")
    gaps = missing_parts(config.source, [name for _, name in found])
    return images.contents(gaps, notes=[_others(config, named, workspace)])


def _others(config: IngestConfig, named: Set[str], workspace: Workspace) -> str:
    """How many pictures are in the folder but in no row; empty if there are none, or if the source is no folder."""
    folder = Path(config.source)
    if is_uri(config.source) or not folder.is_dir():
        return ""
    pictures = [os.path.realpath(folder / file.name) for file in walk_files(folder, frozenset(SUFFIXES))]
    read = {os.path.realpath(workspace.resolve(uri)) for uri in named if "#" not in uri} if pictures else set()
    if not (others := sorted({*pictures} - read)):
        return ""
    return f"{number_of(len(others), 'image is', 'images are')} left out, in no row of the tables, e.g. {others[0]}"


def _scan(uri: str, name: str, label: str, config: IngestConfig, workspace: Workspace) -> list[ParquetRow]:
    with open_container(name) as file:
        try:
            parquet = pq.ParquetFile(file)
            column = find_column(parquet.schema_arrow, config.column, name)
            _warn_of_large_groups(parquet, column, name)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise NdecError(f"{name} cannot be read as parquet ({error}); make it again or restore it") from None
        try:
            return list(_rows(parquet, column, uri, name, label, config, workspace))
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowKeyError) as error:
            raise unreadable(error, name, column, parquet.schema_arrow) from None
        except (pa.ArrowException, UnicodeDecodeError) as error:  # text that is not UTF-8
            raise NdecError(f"{name} cannot be read as parquet ({error}); make it again or restore it") from None


def _rows(
    parquet: pq.ParquetFile,
    column: ImageColumn,
    uri: str,
    name: str,
    label: str,
    config: IngestConfig,
    workspace: Workspace,
) -> Iterator[ParquetRow]:
    schema, references = parquet.schema_arrow, references_of(config)
    known = {*(n for names in NAMES.values() for n in names), *ID_NAMES, "group", "rotation", "exif", *_DOWNLOADED}
    known.add(config.id.removeprefix(COLUMN))
    own = column.form == "path" and not column.many  # a column of addresses says where an image came from
    columns = [n for n in schema.names if n in known and (own or n != column.name)]
    downloaded = _downloaded_files(name) if set(schema.names) >= _DOWNLOADED else None
    count = 0
    for row_group in range(parquet.num_row_groups):
        rows = parquet.read_row_group(row_group, columns=columns).to_pylist() if columns else None
        found = _entries(parquet, column, row_group)
        if rows is not None and len(rows) != len(found):
            raise pa.ArrowInvalid(f"its row group {row_group} has columns of {len(rows)} and {len(found)} rows")
        for row, images in enumerate(found):
            values = rows[row] if rows is not None else {}
            given = next((values[n] for n in ID_NAMES if not is_missing(values.get(n))), None) if column.many else None
            if given is not None:
                values = {**values, **dict.fromkeys(ID_NAMES)}
            for index, image in enumerate(images):
                cell = Cell(uri, row_group, row, column.name + image.place)
                where, problem = _address(cell, image, name, references, workspace)
                if values.keys() >= _DOWNLOADED:
                    where, problem = _of_download(where, problem, values, downloaded, workspace)
                number = f"{count:07d}" + (f"-{index}" if column.many else "")
                paths = (without_ending(image.path), f"{label}/{without_ending(image.path)}") if image.path else ()
                short = stem(image.path) if image.path else f"{stem(name)}-{number}"
                if given is not None:
                    short, paths = f"{given}-{index}", ()
                yield ParquetRow(where, short, (*paths, f"{label}/{number}"), values, problem, image.path)
            count += 1


def _entries(parquet: pq.ParquetFile, column: ImageColumn, row_group: int) -> list[list[ImageCell]]:
    """The images of each row of a row group. Bytes are read only where the statistics do not tell that none is null."""
    if column.many or column.form == "path" or not _is_plain(parquet, column):
        values = parquet.read_row_group(row_group, columns=[column.name]).column(0).to_pylist()
        return [list(entries(value, column)) for value in values]
    count = parquet.metadata.row_group(row_group).num_rows
    paths: list[str | None] = [None] * count
    if column.form == "struct" and parquet.schema_arrow.field(column.name).type.get_field_index("path") >= 0:
        structs = parquet.read_row_group(row_group, columns=[f"{column.name}.path"]).column(0).to_pylist()
        paths = [value["path"] if value else None for value in structs]
    empty = _empty_cells(parquet, column, row_group)
    place = ".bytes" if column.form == "struct" else ""
    return [[ImageCell(place, row not in empty, path)] for row, path in enumerate(paths)]


def _is_plain(parquet: pq.ParquetFile, column: ImageColumn) -> bool:
    """Whether the bytes are one leaf of the file, so that its statistics count nulls."""
    field = f"{column.name}.bytes" if column.form == "struct" else column.name
    leaves = [parquet.schema.column(index).path for index in range(len(parquet.schema.names))]
    kind = parquet.schema_arrow.field(column.name).type
    texts = column.form == "struct" and pa.types.is_string(kind.field("bytes").type)
    return field in leaves and not texts


def _empty_cells(parquet: pq.ParquetFile, column: ImageColumn, row_group: int) -> frozenset[int]:
    """Rows without bytes."""
    field = f"{column.name}.bytes" if column.form == "struct" else column.name
    group = parquet.metadata.row_group(row_group)
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema == field and chunk.statistics is not None and chunk.statistics.null_count == 0:
            return frozenset()
    values = parquet.read_row_group(row_group, columns=[field]).column(0)
    if column.form == "struct":
        values = pc.struct_field(values, "bytes")
    return frozenset(i for i, valid in enumerate(values.is_valid().to_pylist()) if not valid)


def _address(cell: Cell, image: ImageCell, name: str, references: References, workspace: Workspace) -> tuple[str, str]:
    """Return (uri of an image, why it cannot be used)."""
    if image.has_bytes:
        return cell.uri, ""
    if not image.path:
        return cell.uri, "no image in this row"
    return referred(references, image.path, name, workspace)


def referred(references: References, path: str, name: str, workspace: Workspace) -> tuple[str, str]:
    """Return (uri of what a file names, why it is refused; empty when it is not)."""
    found, problem = references.resolve(path, name)
    return (found if problem or is_uri(found) else workspace.uri_of(Path(found))), problem


def _downloaded_files(name: str) -> dict[str, Path] | None:
    """Pictures that img2dataset wrote next to its table, by key: those of 00000.parquet are in the folder 00000."""
    folder = Path(name).with_suffix("")
    if is_uri(name) or not folder.is_dir():
        return None
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()}


def _of_download(
    where: str, problem: str, values: Mapping[str, Any], files: Mapping[str, Path] | None, workspace: Workspace
) -> tuple[str, str]:
    """Return (uri, problem) of a row of img2dataset: its local picture, or the status of a failed download."""
    status = values["status"]
    if status not in (None, "success"):
        return where, f"{status}: {values['error_message'] or 'no reason given'}"
    if files is None or "#cell=" in where:
        return where, problem
    if (path := files.get(str(values["key"]))) is not None:
        return workspace.uri_of(path), ""
    return where, "no such file: the table says that it was downloaded, but the picture is missing next to it"


def _warn_of_large_groups(parquet: pq.ParquetFile, column: ImageColumn, name: str) -> None:
    if column.form == "path" or not parquet.num_row_groups:
        return
    largest = max(parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups))
    if largest > _LARGE_GROUP:
        say(
            f"{name}: row groups of up to {largest >> 20} MiB; one image costs reading its row group when ids are not "
            "in the order of the rows. Row groups of some hundred images, or tar shards, are read faster"
        )
