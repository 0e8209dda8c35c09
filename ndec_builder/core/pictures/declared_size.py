"""Width and height that a HEIF, AVIF or JPEG XL file declares, read without its decoder.

The decoders of these formats allocate memory, and some decode, as soon as a file is opened. So the limit on pixels is
checked here first. Sources: ISO/IEC 14496-12 (boxes), 23008-12 (HEIF: `ispe`), 18181-1 (JPEG XL: SizeHeader).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_BOXES = 20_000  # a file with more boxes is refused; pictures have hundreds
_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0}  # bytes before the boxes inside
_JXL_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_JXL_BITS = (9, 13, 18, 30)
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def boxed_sizes(data: bytes) -> list[tuple[int, int]]:
    """(width, height) of every picture, tile and track that the boxes of a HEIF or AVIF file declare.

    Raises ValueError when there is none, or when boxes are cut or too many.
    """
    sizes = []
    for kind, start, stop in _boxes(data):
        if kind == b"ispe" and stop - start >= 12:
            sizes.append(struct.unpack_from(">II", data, start + 4))
        elif kind == b"tkhd" and stop - start >= 8:  # 16.16 fixed point, at the end of the box
            width, height = struct.unpack_from(">II", data, stop - 8)
            if width and height:  # a sound track has no size
                sizes.append((-(-width // 65536), -(-height // 65536)))
    if not sizes:
        raise ValueError("it declares no size")
    return [(int(width), int(height)) for width, height in sizes]


def jxl_size(data: bytes) -> tuple[int, int]:
    """(width, height) before rotation that a JPEG XL file declares. Raises ValueError when it is cut."""
    bits = _Bits(_codestream(data)[2:42])
    if bits.read(1):
        height = 8 * (bits.read(5) + 1)
        ratio = bits.read(3)
        width = 8 * (bits.read(5) + 1) if ratio == 0 else _scaled(height, ratio)
    else:
        height = 1 + bits.read(_JXL_BITS[bits.read(2)])
        ratio = bits.read(3)
        width = 1 + bits.read(_JXL_BITS[bits.read(2)]) if ratio == 0 else _scaled(height, ratio)
    return width, height


def brands(data: bytes) -> set[bytes]:
    """The brands in the first box of a HEIF or AVIF file; empty for other files."""
    if data[4:8] != b"ftyp":
        return set()
    content = data[8 : min(int.from_bytes(data[:4]), 4096)]
    return {content[:4], *(content[at : at + 4] for at in range(8, len(content) - 3, 4))}


def is_jxl(data: bytes) -> bool:
    return data.startswith((b"\xff\x0a", _JXL_CONTAINER))


def without_jpeg_recipe(data: bytes) -> bytes:
    """A JPEG XL container without what rebuilds the JPEG that was packed in it; other files unchanged."""
    if not data.startswith(_JXL_CONTAINER):
        return data
    for start in [start for kind, start, _ in _boxes(data) if kind == b"jbrd"]:
        kind = data.rindex(b"jbrd", 0, start)  # in front of the content, or of a length of 64 bits
        data = data[:kind] + b"free" + data[kind + 4 :]
    return data


def _scaled(height: int, ratio: int) -> int:
    above, below = _JXL_RATIOS[ratio]
    return height * above // below


def _codestream(data: bytes) -> bytes:
    """The start of the code stream: the file itself, or the first box of a container that holds a part of it."""
    if not data.startswith(_JXL_CONTAINER):
        return data[:64]
    for kind, start, stop in _boxes(data):
        if kind in (b"jxlc", b"jxlp"):
            start += 4 * (kind == b"jxlp")  # the number of the part
            return data[start : min(stop, start + 64)]
    raise ValueError("it holds no picture")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, first byte of the content, end) of all boxes, those inside others too."""
    waiting, seen = [(0, len(data))], 0
    while waiting:
        at, end = waiting.pop()
        while at + 8 <= end:
            seen += 1
            if seen > _BOXES:
                raise ValueError(f"it has more than {_BOXES:,} boxes")
            size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
            start = at + 8
            if size == 1:
                size, start = int.from_bytes(data[at + 8 : at + 16]), at + 16
            stop = end if size == 0 else at + size
            if stop < start or stop > end:
                raise ValueError("it is cut, or the length of a box is wrong")
            yield kind, start, stop
            if kind in _CONTAINERS:
                waiting.append((start + _CONTAINERS[kind], stop))
            at = stop


class _Bits:
    """Reads numbers of a JPEG XL header: the lowest bit of a byte comes first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, count: int) -> int:
        if count > self.left:
            raise ValueError("its header is cut")
        number = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        return number
