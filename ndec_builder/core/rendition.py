"""What people are shown: the picture as the models see it (`decode`), in a form that every browser shows alike.

Browsers and Pillow differ in orientation, colour profiles, transparency and animations. Chromium 156 ignores the
orientation of WebP, of PNG with eXIf after the pixels, and of XMP; Pillow 13 applies all of these. Original bytes are
therefore passed on only if the file holds nothing that could make a difference.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ndec_builder.core.decode import decode
from ndec_builder.core.pictures.quiet import without_pillow_warnings

_LOSSLESS_PIXELS = 4_000_000  # larger pictures are sent as JPEG: a PNG of them is slow to write
_PNG_CHUNKS = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"sRGB", b"pHYs", b"sBIT", b"hIST", b"bKGD", b"tIME", b"tEXt", b"zTXt",
    b"iTXt",
}  # fmt: skip
_PNG_METADATA = (b"XML:com.adobe.xmp\0", b"Raw profile type ")  # texts that hold XMP or EXIF
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_JPEG_TABLES = {0xC4, 0xDB, 0xDD, 0xFE, 0xEC, 0xED, 0xEE}  # Huffman, quantisation, restart, comment, APP12 to APP14


@dataclass(frozen=True)
class Rendition:
    """Bytes that a browser shows as the models see the picture, and their media type."""

    body: bytes
    media_type: str


def render(data: bytes, rotation: int = 0) -> Rendition:
    """The original bytes if they are plain (`plain_type`), else the decoded picture as PNG or JPEG.

    Raises DecodeError for bytes that `decode` refuses; a truncated file is never shown as half a picture.
    """
    image = decode(data, rotation)
    if not rotation and (media_type := plain_type(io.BytesIO(data))) is not None:
        return Rendition(data, media_type)
    lossy = data.startswith(b"\xff\xd8") or image.width * image.height > _LOSSLESS_PIXELS
    upright = Image.fromarray(np.asarray(image))  # without EXIF and profile, which the pixels already contain
    buffer = io.BytesIO()
    if lossy:
        upright.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        upright.save(buffer, "PNG", compress_level=1)
    return Rendition(buffer.getvalue(), "image/jpeg" if lossy else "image/png")


def plain_type(file: BinaryIO) -> str | None:
    """Media type of a file that every browser shows as `decode` returns it; None if that is not certain.

    Plain are JPEG, PNG and WebP with one frame, upright, opaque, 8 bits, grey or RGB, without colour profile or gamma.
    Reads only the structure of the file, not its pixels.
    """
    start = file.read(12)
    file.seek(0)
    try:
        if start.startswith(b"\xff\xd8"):
            return "image/jpeg" if _is_plain_jpeg(file) else None
        if start.startswith(b"\x89PNG\r\n\x1a\n"):
            return "image/png" if _is_plain_png(file) else None
        if start[:4] == b"RIFF" and start[8:] == b"WEBP":
            return "image/webp" if _is_plain_webp(file) else None
    except (struct.error, IndexError, ValueError):  # cut off inside a header
        return None
    return None


def is_plain_file(path: Path) -> bool:
    """`plain_type` of a file on disk; False if it cannot be opened."""
    try:
        with path.open("rb") as file:
            return plain_type(file) is not None
    except OSError:
        return False


def _is_plain_jpeg(file: BinaryIO) -> bool:
    """One EXIF block at most, no profile, no second picture; the orientation of EXIF and XMP is 1."""
    file.seek(2)
    exif, framed = 0, False
    while True:
        lead, marker = file.read(2)
        if lead != 0xFF:
            return False
        while marker == 0xFF:  # fill bytes
            marker = file.read(1)[0]
        (length,) = struct.unpack(">H", file.read(2))
        content = file.read(length - 2)
        if marker in _JPEG_FRAMES:
            if content[0] != 8 or content[5] not in (1, 3):
                return False
            framed = True
        elif marker == 0xDA:  # the pixels begin
            break
        elif marker == 0xE0:
            if not content.startswith((b"JFIF\0", b"JFXX\0")):
                return False
        elif marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif += 1
        elif not (marker in _JPEG_TABLES or (marker == 0xE1 and content.startswith(b"http://ns.adobe.com/"))):
            return False
    header = file.tell()
    file.seek(0)
    return framed and exif <= 1 and _is_upright(file.read(header))


def _is_upright(header: bytes) -> bool:
    """Whether EXIF and XMP in front of the pixels of a JPEG leave it as it is."""
    try:
        with without_pillow_warnings():
            return bool(Image.open(io.BytesIO(header), formats=("JPEG",)).getexif().get(0x0112, 1) == 1)
    except Exception:  # a broken block: programs may read different things out of it
        return False


def _is_plain_png(file: BinaryIO) -> bool:
    """8 bits or fewer, no alpha, and only chunks that change nothing; gamma is ignored next to sRGB."""
    file.seek(8)
    kinds: set[bytes] = set()
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IHDR":
            depth, colour = struct.unpack(">8xBB", file.read(10))
            if depth > 8 or colour in (4, 6):
                return False
            length -= 10
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            text = file.read(length)
            if text.startswith(_PNG_METADATA):
                return False
            length = 0
        kinds.add(kind)
        if kind == b"IEND":
            break
        file.seek(length + 4, io.SEEK_CUR)
    allowed = _PNG_CHUNKS | ({b"gAMA", b"cHRM"} if b"sRGB" in kinds else set())
    return kinds <= allowed


def _is_plain_webp(file: BinaryIO) -> bool:
    """The simple format: one lossy or lossless picture without alpha, and nothing behind it."""
    riff, kind, size = struct.unpack("<4xI4x4sI", file.read(20))
    if riff != 4 + 8 + size + size % 2:
        return False
    if kind == b"VP8 ":
        return True
    (bits,) = struct.unpack("<xI", file.read(5))
    return kind == b"VP8L" and not bits >> 28 & 1
