"""Kind `parquet`: files with image bytes, read where they lie, or with paths and URIs of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ndec_builder.core.addresses import Cell
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.containers import containers, is_uri, open_container, scanned
from ndec_builder.sources.listing import Lister, SourceContents, stem
from ndec_builder.sources.metadata import NAMES, licence_columns, metadata_group, metadata_rotation
from ndec_builder.sources.settings import IngestConfig

_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "content")
_PATH_NAMES = ("uri", "image", "path", "image_path", "file_name", "filename", "file", "url", "URL")
_ID_NAMES = ("image_id", "id", "__key__", "key", "ImageID")
_LARGE_GROUP = 64 << 20  # bytes of a row group from which jumping between groups costs more than reading
ESCAPES_FOLDER = "its path leads out of the folder of the file that names it"
_HINT = "give a parquet file, a folder with parquet files, or a pattern such as `data/train-*.parquet`"


@dataclass(frozen=True)
class ImageColumn:
    """Where the images are. form: struct (fields bytes and path), bytes or path."""

    name: str
    form: str


@dataclass(frozen=True)
class ParquetRow:
    """A row of a file: where its image is, what stands beside it, and why it cannot be used (empty: it can)."""

    image_id: str
    uri: str
    values: Mapping[str, Any]
    problem: str


def find(config: IngestConfig, workspace: Workspace) -> SourceContents:
    """The rows of the files. An id is the id column's value, else the stem of the path, else file and row number.

    Bytes are addressed by row group and row; a row whose bytes are null is taken from its path, relative to the file.
    Raises UsageError when there is no file, no image column, or no row; NdecError for a file that is no parquet.
    """
    lister = Lister(config.role, config.license)
    count = 0
    for uri, name in containers(config.source, ".parquet", workspace, _HINT):
        count += list_file(lister, uri, name, config, workspace)
    if not count:
        raise UsageError(f"no row in {config.source}; {_HINT}")
    return SourceContents({config.role: lister.finish()})


def list_file(lister: Lister, uri: str, name: str, config: IngestConfig, workspace: Workspace) -> int:
    """Add the rows of one file to the lister; return how many there are."""
    rows = scanned(lambda: _scan(uri, name, config, workspace), name)
    for row in rows:
        if row.problem:
            lister.reject(row.image_id, row.uri, row.problem)
        else:
            _add(lister, row.image_id, row.uri, row.values, config)
    return len(rows)


def _scan(uri: str, name: str, config: IngestConfig, workspace: Workspace) -> list[ParquetRow]:
    try:
        with open_container(name) as file:
            parquet = pq.ParquetFile(file)
            column = image_column(parquet.schema_arrow, config.column, name)
            _warn_of_large_groups(parquet, column, name)
            return list(_rows(parquet, column, uri, name, workspace))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise NdecError(f"{name} cannot be read as parquet ({error}); make it again or restore it") from None


def image_column(schema: pa.Schema, asked: str, name: str) -> ImageColumn:
    """The column with the images. Raises UsageError when none looks like it, or the asked one is no such column."""
    forms = {field.name: form for field in schema if (form := _form(field.type))}
    if asked:
        if asked not in forms:
            raise UsageError(
                f"{name} has no column {asked!r} with images; bytes or text are in: {', '.join(forms) or 'none'}"
                f"{nearest(asked, list(forms))}"
            )
        return ImageColumn(asked, forms[asked])
    for candidates, wanted in ((_IMAGE_NAMES, ("struct", "bytes")), (_PATH_NAMES, ("path",))):
        for candidate in candidates:
            if forms.get(candidate) in wanted:
                return ImageColumn(candidate, forms[candidate])
    if structs := [column for column, form in forms.items() if form == "struct"]:
        return ImageColumn(structs[0], "struct")
    raise UsageError(
        f"no column of {name} looks like images: its columns are {', '.join(schema.names)}; expected bytes named like "
        f"{', '.join(_IMAGE_NAMES[:4])} or paths named like {', '.join(_PATH_NAMES[:4])}, or name one with --column"
    )


def _form(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "struct" if kind.get_field_index("bytes") >= 0 else ""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    return "path" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""


def _rows(
    parquet: pq.ParquetFile, column: ImageColumn, uri: str, name: str, workspace: Workspace
) -> Iterator[ParquetRow]:
    known = {*(n for names in NAMES.values() for n in names), *_ID_NAMES, "group", "rotation"}
    columns = [n for n in parquet.schema_arrow.names if n in known and n != column.name]
    has_path = column.form == "struct" and parquet.schema_arrow.field(column.name).type.get_field_index("path") >= 0
    if column.form == "path":
        columns.append(column.name)
    elif has_path:
        columns.append(f"{column.name}.path")
    count = 0
    for row_group in range(parquet.num_row_groups):
        table = parquet.read_row_group(row_group, columns=columns)
        rows = table.to_pylist() if columns else [{}] * parquet.metadata.row_group(row_group).num_rows
        empty = _empty_cells(parquet, column, row_group)
        for row, values in enumerate(rows):
            value = values.get(column.name)
            path = value.get("path") if isinstance(value, dict) else value
            where = _address(uri, name, column, row_group, row, path, row in empty, workspace)
            problem = "" if where else "no image in this row"
            if where and path and "#cell=" not in where and escapes_folder(path):
                problem = ESCAPES_FOLDER
            where = where or f"{uri}#cell={row_group}/{row}/{column.name}"
            yield ParquetRow(image_id(values, path, stem(name), count), where, values, problem)
            count += 1


def _address(
    uri: str,
    name: str,
    column: ImageColumn,
    row_group: int,
    row: int,
    path: str | None,
    empty: bool,
    workspace: Workspace,
) -> str:
    if column.form != "path" and not empty:
        field = f"{column.name}.bytes" if column.form == "struct" else column.name
        return Cell(uri, row_group, row, field).uri
    if not path:
        return ""
    return path if "://" in path else beside(name, path, workspace)


def escapes_folder(path: str) -> bool:
    """Whether a relative path goes up: who made the file chose what it names, and that is not for them to choose."""
    return "://" not in path and ".." in PurePosixPath(path.replace("\\", "/")).parts


def beside(name: str, path: str, workspace: Workspace) -> str:
    """The uri of a path that a file names, relative to that file."""
    if is_uri(name):
        return f"{name.rpartition('/')[0]}/{path}"
    return workspace.uri_of(Path(name).parent / path)


def _empty_cells(parquet: pq.ParquetFile, column: ImageColumn, row_group: int) -> frozenset[int]:
    """Rows without bytes. The statistics tell when there are none; only else the bytes have to be read."""
    if column.form == "path":
        return frozenset()
    field = f"{column.name}.bytes" if column.form == "struct" else column.name
    group = parquet.metadata.row_group(row_group)
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema == field and chunk.statistics is not None and chunk.statistics.null_count == 0:
            return frozenset()
    values = parquet.read_row_group(row_group, columns=[field]).column(0)
    if column.form == "struct":
        values = pa.chunked_array([chunk.flatten()[0] for chunk in values.chunks], pa.binary())
    return frozenset(i for i, valid in enumerate(values.is_valid().to_pylist()) if not valid)


def image_id(values: Mapping[str, Any], path: str | None, file: str, row: int) -> str:
    """The id of a row: its id column, else the stem of its path, else the file's name and the row's number."""
    for name in _ID_NAMES:
        if values.get(name) not in (None, ""):
            return str(values[name])
    return stem(path) if path else f"{file}-{row:07d}"


def _add(lister: Lister, image_id: str, uri: str, values: Mapping[str, Any], config: IngestConfig) -> None:
    lister.add(
        image_id,
        uri,
        group=metadata_group(values, config.group_by, image_id, PurePosixPath(uri.split("#")[0]).parent.name),
        rotation=metadata_rotation(values),
        **licence_columns(values),
    )


def _warn_of_large_groups(parquet: pq.ParquetFile, column: ImageColumn, name: str) -> None:
    if column.form == "path" or not parquet.num_row_groups:
        return
    largest = max(parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups))
    if largest > _LARGE_GROUP:
        say(
            f"{name}: row groups of up to {largest >> 20} MiB; an image costs reading its whole group when ids are "
            "not in "
            "the order of the rows. ParquetRow groups of some hundred images, or tar shards, are read faster"
        )
