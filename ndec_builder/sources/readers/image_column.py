"""The column of a table that holds images, in any of the types in which Arrow can store bytes, text and lists.

What a type is, pyarrow's predicates say: binary, large, view, fixed size and dictionary types hold the same values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ndec_builder.core.errors import NdecError, UsageError, nearest

IMAGE_NAMES = ("image", "images", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "content")
PATH_NAMES = ("uri", "image", "images", "path", "image_path", "file_name", "filename", "file", "url", "URL")
_BASE64 = re.compile(
    r"(?:data:image/[\w.+-]+;base64,)?(?:[/_]9j[/_]|iVBORw0KGgo|R0lGOD|UklGR|Qk|SUkqA|TU0AK)[\w+/=\s-]{60,}\Z"
)


@dataclass(frozen=True)
class ImageColumn:
    """Where the images are. form: struct (fields bytes and path), bytes or path · many: a list of them in each row."""

    name: str
    form: str
    many: bool = False


@dataclass(frozen=True)
class ImageCell:
    """One image of a row: its place in the column as `core.addresses.Cell` writes it, and its path."""

    place: str  # "" for the value itself, else like `[2].bytes`
    has_bytes: bool
    path: str | None


def find_column(schema: pa.Schema, asked: str, name: str) -> ImageColumn:
    """The column with the images. Raises UsageError when none looks like it, or the asked one is no such column."""
    found = {field.name: column for field in schema if (column := _described(field))}
    if asked:
        if asked not in found:
            raise UsageError(
                f"{name} has no column {asked!r} with images; bytes or text are in: {', '.join(found) or 'none'}"
                f"{nearest(asked, list(found))}"
            )
        return found[asked]
    by_form = (IMAGE_NAMES, ("struct", "bytes")), (PATH_NAMES, ("path",)), (IMAGE_NAMES, ("path",))
    for candidates, forms in by_form:
        for candidate in candidates:
            if candidate in found and found[candidate].form in forms:
                return found[candidate]
    if structs := [column for column in found.values() if column.form == "struct"]:
        return structs[0]
    raise UsageError(
        f"no column of {name} looks like images: its columns are {', '.join(schema.names)}; expected bytes named like "
        f"{', '.join(IMAGE_NAMES[:4])} or paths named like {', '.join(PATH_NAMES[:4])}, or name one with --column"
    )


def _described(field: pa.Field) -> ImageColumn | None:
    if form := form_of(field.type):
        return ImageColumn(field.name, form)
    if is_list(field.type) and (form := form_of(field.type.value_type)):
        return ImageColumn(field.name, form, many=True)
    return None


def form_of(kind: pa.DataType) -> str:
    """struct, bytes or path, or an empty text for a type that holds no image."""
    types = pa.types
    if types.is_dictionary(kind):
        return form_of(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return form_of(kind.storage_type)
    if types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return "struct" if place >= 0 and form_of(kind.field(place).type) in ("bytes", "path") else ""
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "bytes"
    if types.is_fixed_size_binary(kind) or (is_list(kind) and types.is_integer(kind.value_type)):
        return "bytes"
    return "path" if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) else ""


def is_list(kind: pa.DataType) -> bool:
    types = pa.types
    lists = types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view
    return any(is_kind(kind) for is_kind in lists)


def is_base64(text: str | None) -> bool:
    """Whether a text is an encoded picture, not a path: base64 of the first bytes of a format, or a data URI."""
    return text is not None and len(text) > 64 and _BASE64.match(text) is not None


def entries(value: Any, column: ImageColumn) -> Iterator[ImageCell]:
    """Yield the images of one row, from its value as Python has it. A row without an image yields one empty entry."""
    if not column.many:
        yield _entry(value, column.form, "")
        return
    for index, one in enumerate(value or [None]):
        yield _entry(one, column.form, f"[{index}]")


def _entry(value: Any, form: str, place: str) -> ImageCell:
    if form == "struct":
        content = value.get("bytes") if value else None
        path = value.get("path") if value else None
        return ImageCell(f"{place}.bytes", bool(content), path if isinstance(path, str) else None)
    if form == "path":
        return ImageCell(place, is_base64(value), None if is_base64(value) else value)
    return ImageCell(place, bool(value), None)


def unreadable(error: pa.ArrowException, name: str, column: ImageColumn, schema: pa.Schema) -> NdecError:
    """The message for a column whose type this version of pyarrow cannot read; the file is not to blame."""
    kind: Sequence[object] = [field.type for field in schema if field.name == column.name]
    return NdecError(
        f"ndec cannot read the column {column.name!r} of {name}, which has the type {', '.join(map(str, kind))} "
        f"(pyarrow {pa.__version__}: {error}). The file may be valid: write the images as `binary` or paths as `string`"
    )
