"""Where the images of a column are in an Arrow file: the file is mapped into memory, so an address is a place in it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ndec_builder.sources.readers.image_column import ImageColumn, is_base64, is_list

Place = tuple[int, int]  # first byte, and the byte after the last one


@dataclass(frozen=True)
class ArrowImage:
    """One image of a row: its place in the file, or its path, and why it cannot be used (empty: it can)."""

    place: Place | None = None
    path: str | None = None
    problem: str = ""


_NOT_IN_PLACE = "its bytes are not stored in one piece in this Arrow file; write it as parquet (`to_parquet`)"


def find_images_in(values: pa.Array, column: ImageColumn, base: int) -> Iterator[list[ArrowImage]]:
    """Yield the images of each row. base: the address at which the file is mapped."""
    if not column.many:
        for one in _elements(values, column.form, base):
            yield [one]
        return
    flat = _elements(values.values, column.form, base) if is_list(values.type) else iter(())
    elements = list(flat)
    for index, valid in enumerate(values.is_valid().to_pylist()):
        start, stop = _bounds(values, index)
        yield elements[start:stop] if valid else [ArrowImage()]


def _bounds(values: Any, index: int) -> Place:
    """Where the elements of one list are among all elements."""
    if pa.types.is_fixed_size_list(values.type):
        size = values.type.list_size
        return (values.offset + index) * size, (values.offset + index + 1) * size
    start = values.offsets[index].as_py()
    if pa.types.is_list_view(values.type) or pa.types.is_large_list_view(values.type):
        return start, start + values.sizes[index].as_py()
    return start, values.offsets[index + 1].as_py()


def _elements(values: pa.Array, form: str, base: int) -> Iterator[ArrowImage]:
    count = len(values)
    paths: list[str | None] = [None] * count
    data = values
    if form == "path":
        for path in values.to_pylist():
            yield ArrowImage(problem=_NOT_IN_PLACE) if is_base64(path) else ArrowImage(path=path)
        return
    if form == "struct":
        fields = [values.type.field(index).name for index in range(values.type.num_fields)]
        paths = values.field("path").to_pylist() if "path" in fields else paths
        data = values.field("bytes")
    valid = [a and b for a, b in zip(values.is_valid().to_pylist(), data.is_valid().to_pylist(), strict=True)]
    for index, path in enumerate(paths):
        place = _place(data, index, base) if valid[index] else None
        if place == (-1, -1):
            yield ArrowImage(path=path, problem=_NOT_IN_PLACE)
        else:
            yield ArrowImage(place if place and place[1] > place[0] else None, path)


def _place(data: Any, index: int, base: int) -> Place:
    """The place of one value; (-1, -1) for a value that is not one piece of the file."""
    types, kind = pa.types, data.type
    if types.is_dictionary(kind):
        return _place(data.dictionary, data.indices[index].as_py(), base)
    buffers = data.buffers()
    if types.is_binary(kind) or types.is_large_binary(kind):
        content = buffers[2].address - base if buffers[2] is not None else 0
        first, last = _offsets(buffers[1], data.offset + index, types.is_large_binary(kind))
        return content + first, content + last
    if types.is_fixed_size_binary(kind):
        start = buffers[1].address - base + (data.offset + index) * kind.byte_width
        return start, start + kind.byte_width
    if types.is_binary_view(kind):  # 16 bytes a value: its length, then the value itself or (start, buffer, offset)
        view = (data.offset + index) * 16
        length, _, number, offset = struct.unpack_from("<i4sii", buffers[1], view)
        start = buffers[1].address + view + 4 if length <= 12 else buffers[2 + number].address + offset
        return start - base, start - base + length
    if is_list(kind) and kind.value_type in (pa.uint8(), pa.int8()):
        first, last = _bounds(data, index)
        start = data.values.buffers()[1].address - base + data.values.offset
        return start + first, start + last
    return -1, -1


def _offsets(buffer: pa.Buffer, index: int, wide: bool) -> Place:
    ends = memoryview(buffer).cast("q" if wide else "i")
    return ends[index], ends[index + 1]
