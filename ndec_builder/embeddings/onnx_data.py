"""Finds the files that an ONNX file stores its weights in, without the onnx package.

An ONNX file is a protobuf message (onnx.proto of ONNX 1.23). A tensor may keep its values in another file, relative to
the folder of the ONNX file: `external_data` then has an entry with the key `location`. Only messages that can contain
tensors are parsed, and values are skipped, so that a model of several GB takes milliseconds.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

# message → {number of a field: the message in it}
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_FIXED = {1: 8, 5: 4}  # wire type → bytes


def external_data(path: Path) -> list[str]:
    """The names of the files with weights of an ONNX file, sorted; empty for a file that holds its own weights.

    A file that is no ONNX file has none: opening it says what is wrong with it.
    """
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return sorted(set(_locations(data, 0, len(data), "model")))
        except (ValueError, IndexError):
            return []


def _locations(data: mmap.mmap, start: int, stop: int, message: str) -> Iterator[str]:
    waiting = [(start, stop, message)]  # a stack, since graphs may be nested deeply
    while waiting:
        start, stop, message = waiting.pop()
        if message == "entry":
            entry = {field: data[first:last] for field, first, last in _fields(data, start, stop)}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode("utf-8")
            continue
        inner = _MESSAGES[message]
        waiting += [(first, last, inner[field]) for field, first, last in _fields(data, start, stop) if field in inner]


def _fields(data: mmap.mmap, place: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, stop) of the length-delimited fields of a message. Raises ValueError for anything else."""
    while place < stop:
        tag, place = _varint(data, place, stop)
        wire = tag & 7
        if wire == 0:
            _, place = _varint(data, place, stop)
        elif wire == 2:
            length, place = _varint(data, place, stop)
            if place + length > stop:
                raise ValueError("a field ends after its message")
            yield tag >> 3, place, place + length
            place += length
        elif wire in _FIXED:
            place += _FIXED[wire]
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: mmap.mmap, place: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while place < stop and shift < 64:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("a number ends after its message")
