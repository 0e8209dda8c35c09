"""Fingerprints of table columns, from their buffers: nine million rows in seconds, without a Python object per row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.storage import fingerprint

DECODE_VERSION = 2  # of transparency and deep grey; JPEG and BMP have neither, so vectors of these stay valid
VERSIONED_FORMATS = ("PNG", "WEBP", "GIF", "TIFF", "AVIF", "HEIF", "JXL", "RAW")
_PLAIN_ENDINGS = (".jpg", ".jpeg", ".jfif", ".bmp")


def columns_fingerprint(columns: Mapping[str, pa.ChunkedArray]) -> str:
    """sha256 that depends on names, values and order of text and integer columns, not on their chunks."""
    return fingerprint({name: _digest(column) for name, column in columns.items()})


def images_fingerprint(images: pa.Table) -> str:
    """Everything that embeddings depend on: ids, contents (the uri of an unopened image) and rotations, in order.

    If a format can hold transparency or deep grey, also the version of how these are decoded.
    """
    columns = {
        "image_id": images["image_id"],
        "content": pc.coalesce(images["sha256"], images["uri"]),
        "rotation": images["rotation"],
    }
    if version := decode_versions(images):
        columns["decoding"] = pa.chunked_array([pa.array(version)])
    return columns_fingerprint(columns)


def decode_versions(images: pa.Table) -> list[int]:
    """[DECODE_VERSION] if the decoding of an image's format has versions, else []: part of what pixels depend on."""
    return [DECODE_VERSION] if any(has_decode_version(images)) else []


def has_decode_version(images: pa.Table) -> list[bool]:
    """For each image whether the decoding of its format has versions; without a column `format`, by the uri's ending.

    An unknown ending counts as such a format.
    """
    if "format" in images.column_names:
        return [name in VERSIONED_FORMATS for name in images["format"].to_pylist()]
    return [not uri.lower().endswith(_PLAIN_ENDINGS) for uri in images["uri"].to_pylist()]


def _digest(column: pa.ChunkedArray) -> str:
    """Numbers: their int64 bytes. Text: lengths and bytes, each as one stream. Null: −1, or a length of −1."""
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    numbers, data = hashlib.sha256(), hashlib.sha256()
    for chunk in column.chunks:
        lengths = pc.fill_null(pc.binary_length(chunk) if is_text else chunk, -1)
        numbers.update(lengths.to_numpy(zero_copy_only=False).astype(np.int64).data)
        if is_text:
            data.update(_bytes_of(pc.fill_null(chunk, "")))
    return fingerprint([is_text, len(column), numbers.hexdigest(), data.hexdigest()])


def _bytes_of(text: pa.Array) -> Any:
    """The bytes of all strings, concatenated, without a copy."""
    _, offsets, values = text.buffers()
    if values is None or not len(text):
        return b""
    kind = np.int64 if pa.types.is_large_string(text.type) else np.int32
    ends = np.frombuffer(offsets, kind)[text.offset : text.offset + len(text) + 1]
    return memoryview(values)[int(ends[0]) : int(ends[-1])]
