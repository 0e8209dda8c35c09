"""Reader for Qt resource files (.rcc), in which GCompris ships its photos.

Format versions 1–3, all numbers big-endian: header `qres`, version, offsets of tree, data and names (version 3 adds
flags); tree nodes of 14 bytes (22 from version 2 on, with a time stamp); names as length, hash, UTF-16; data as length
and bytes, raw or behind Qt's four-byte size as a zlib stream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.errors import NdecError

_ZLIB, _DIRECTORY, _ZSTD = 1, 2, 4
MAX_ENTRY = 64 * 2**20  # bytes of one unpacked entry; a decompression bomb is refused before memory is allocated


@dataclass(frozen=True)
class ResourceFile:
    """One file inside; `data` is unpacked."""

    path: str
    data: bytes


def read_rcc(path: Path) -> Iterator[ResourceFile]:
    """Yield the files of a resource file in tree order; zstd entries are left out.

    Every offset, length and count is checked against the file. Raises NdecError for a file that is damaged or not .rcc.
    """
    blob = path.read_bytes()
    try:
        yield from _Reader(blob).walk()
    except (struct.error, IndexError, UnicodeDecodeError, zlib.error, _Damaged) as error:
        raise NdecError(
            f"{path} is not a valid Qt resource file: {error}; delete it and fetch its package again"
        ) from None


class _Damaged(ValueError):
    """A number in the file points outside it, or the tree has a loop."""


class _Reader:
    def __init__(self, blob: bytes) -> None:
        if blob[:4] != b"qres":
            raise _Damaged(f"it starts with {blob[:4]!r}, not b'qres'")
        self.blob = blob
        self.version, self.tree, self.data, self.names = struct.unpack_from(">IIII", blob, 4)
        if self.version not in (1, 2, 3):
            raise _Damaged(f"format version {self.version} is unknown")
        self.node_size = 14 if self.version == 1 else 22
        self.nodes = max(0, len(blob) - self.tree) // self.node_size

    def walk(self) -> Iterator[ResourceFile]:
        """Depth first. A node is visited once, so a loop in the tree ends."""
        seen: set[int] = set()
        stack = [(0, "")]
        while stack:
            node, folder = stack.pop()
            if node in seen or node >= self.nodes:
                raise _Damaged(f"tree node {node} is visited twice or is outside the tree")
            seen.add(node)
            at = self.tree + node * self.node_size
            name_at, flags, first, second = struct.unpack_from(">IHII", self.blob, at)
            name = self._name(name_at) if node else ""
            path = f"{folder}/{name}" if folder else name
            if flags & _DIRECTORY:
                count, child = first, second
                if count > self.nodes:
                    raise _Damaged(f"a folder claims {count} entries, the tree has {self.nodes}")
                stack.extend((child + i, path) for i in reversed(range(count)))
            elif not flags & _ZSTD:
                # for a file `first` holds territory and language, `second` the offset of the data
                yield ResourceFile(path, self._content(second, bool(flags & _ZLIB)))

    def _name(self, offset: int) -> str:
        at = self.names + offset
        (length,) = struct.unpack_from(">H", self.blob, at)
        name = self._slice(at + 6, 2 * length).decode("utf-16-be")
        if not name or "/" in name or "\0" in name or name in (".", ".."):
            raise _Damaged(f"entry name {name!r}")
        return name

    def _content(self, offset: int, compressed: bool) -> bytes:
        at = self.data + offset
        (length,) = struct.unpack_from(">I", self.blob, at)
        raw = self._slice(at + 4, length)
        if not compressed:
            return raw
        (size,) = struct.unpack_from(">I", raw, 0)
        if size > MAX_ENTRY:
            raise _Damaged(f"an entry claims {size} bytes unpacked, the limit is {MAX_ENTRY}")
        unpacked = zlib.decompressobj().decompress(raw[4:], size + 1)
        if len(unpacked) != size:
            raise _Damaged(f"an entry unpacks to {len(unpacked)} bytes or more, {size} were announced")
        return unpacked

    def _slice(self, at: int, length: int) -> bytes:
        if at < 0 or at + length > len(self.blob):
            raise _Damaged(f"{length} bytes at {at} are beyond the end ({len(self.blob)} bytes)")
        return self.blob[at : at + length]
