"""The formats that ndec reads: endings, and how a file of each is opened.

Pillow reads most of them, AVIF included. HEIF is read by pillow-heif. JPEG XL (pillow-jxl-plugin) and the preview in
camera RAW files (rawpy) need the extra `formats`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from ndec_builder.core.pictures.declared_size import boxed_sizes, brands, is_jxl, jxl_size, without_jpeg_recipe
from ndec_builder.core.pictures.errors import DecodeError, TooLargeError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # that Pillow opens
PILLOW_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
)
_HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})
_JXL_SUFFIXES = frozenset({".jxl"})
_RAW_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw"}
)
EXTRA_SUFFIXES = _JXL_SUFFIXES | _RAW_SUFFIXES  # read when the extra `formats` is installed
PICTURE_SUFFIXES = PILLOW_SUFFIXES | _HEIF_SUFFIXES | EXTRA_SUFFIXES
LARGE = 25_000_000  # pixels; larger pictures are decoded one at a time, several at once would need gigabytes
_one_at_a_time = threading.Lock()
INSTALL = "install the extra `formats`: pip install 'ndec-builder[formats]'"
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_DNG_VERSION = 50706  # tag that every DNG has
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\x00")  # Fujifilm, Olympus, Panasonic


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def read_suffixes() -> set[str]:
    """Endings that are read with the packages that are installed."""
    found = set(PILLOW_SUFFIXES | _HEIF_SUFFIXES)
    return found | (_JXL_SUFFIXES if _has("pillow_jxl") else set()) | (_RAW_SUFFIXES if _has("rawpy") else set())


def without_picture_ending(name: str) -> str:
    """A name or path without the ending of a picture, whatever is installed; other names stay.

    >>> without_picture_ending("a/b.1.JPG"), without_picture_ending("scan.dng"), without_picture_ending("v1.2")
    ('a/b.1', 'scan', 'v1.2')
    """
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in PICTURE_SUFFIXES else name


INSTALLED_FORMATS = (*FORMATS, "HEIF", *(["JXL"] if _has("pillow_jxl") else []), *(["RAW"] if _has("rawpy") else []))


def alone_when_large(width: int, height: int) -> contextlib.AbstractContextManager[Any]:
    """Held while pixels are decoded: pictures of more than LARGE pixels take turns."""
    return _one_at_a_time if width * height > LARGE else contextlib.nullcontext()


@dataclass(frozen=True)
class Opened:
    """An open picture, its pixels not decoded yet.

    format: as the images table names it · jpeg: the bytes that hold the pixels, where they are a JPEG · upright: the
    decoder applies the orientation, so EXIF does not count · turn: an EXIF orientation that the file states elsewhere.
    """

    image: Any
    format: str
    jpeg: bytes = b""
    upright: bool = False
    turn: int = 1


def open_picture(data: bytes, max_pixels: int) -> Opened:
    """Open the file without decoding its pixels; only JPEG XL is decoded at once, by its library.

    Raises TooLargeError before a decoder sees a byte of a HEIF, AVIF or JPEG XL file, and anything on broken files.
    """
    if is_jxl(data):
        size = jxl_size(data)
        check_size([size], max_pixels)
        with alone_when_large(*size):
            return _open_jxl(data)
    named = brands(data)
    if b"crx " in named or data.startswith(_RAW_STARTS):
        return _open_preview(data)
    if named & (_HEIF_BRANDS | _AVIF_BRANDS):
        check_size(boxed_sizes(data), max_pixels)
        if not named & _AVIF_BRANDS:
            return _open_heif(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if not _is_sensor_first(data):
            raise
        return _open_preview(data)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_raw(data, image.tag_v2):
        return _open_preview(data)
    # Pillow calls a JPEG with further pictures behind the first one MPO
    return Opened(
        image, "JPEG" if image.format == "MPO" else str(image.format), data if data[:2] == b"\xff\xd8" else b""
    )


def open_start(file: BinaryIO, max_pixels: int) -> Image.Image:
    """A picture whose metadata are needed, not its pixels. Of formats that only Pillow reads, the start is enough."""
    start = file.read(64)
    file.seek(0)
    if brands(start) or is_jxl(start):  # their size is checked first
        image: Image.Image = open_picture(file.read(), max_pixels).image
        return image
    return Image.open(file, formats=FORMATS)


def check_size(sizes: list[tuple[int, int]], max_pixels: int) -> None:
    """Raise TooLargeError if one of the sizes (width, height) has more pixels than the limit."""
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if width * height > max_pixels:
        raise TooLargeError(f"too large: {width}x{height} pixels, the limit is {max_pixels} (`[ingest] max_pixels`)")


def _open_heif(data: bytes) -> Opened:
    """The main picture of the file. libheif applies its rotation and mirroring, whatever its EXIF says."""
    import pillow_heif.options
    from pillow_heif.as_plugin import HeifImageFile

    pillow_heif.options.DECODE_THREADS = 1  # images are decoded side by side
    return Opened(HeifImageFile(io.BytesIO(data)), "HEIF", upright=True)


def _open_jxl(data: bytes) -> Opened:
    if not _has("pillow_jxl"):
        raise DecodeError(f"a JPEG XL file; {INSTALL}")
    from pillow_jxl import JpegXLImagePlugin

    JpegXLImagePlugin.DECODE_THREADS = 0
    # without the recipe of a packed JPEG the pixels come from libjxl, not from a JPEG that nothing has checked
    return Opened(JpegXLImagePlugin.JXLImageFile(io.BytesIO(without_jpeg_recipe(data))), "JXL", upright=True)


def _is_sensor_first(data: bytes) -> bool:
    """Whether it is a DNG whose first picture is the sensor's, which Pillow cannot open."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    try:
        tags.load(file)
    except (SyntaxError, ValueError, OSError, struct.error):
        return False
    return _DNG_VERSION in tags


def _is_raw(data: bytes, tags: Mapping[int, Any]) -> bool:
    """Whether a TIFF is a camera RAW file: DNG, CR2, or a preview in front of the sensor's data (NEF, ARW …)."""
    return _DNG_VERSION in tags or data[8:10] == b"CR" or (tags.get(254) == 1 and 271 in tags and 330 in tags)


def _open_preview(data: bytes) -> Opened:
    """The preview that the camera stored in its RAW file, turned as the file says unless the preview says so itself."""
    if not _has("rawpy"):
        raise DecodeError(f"a camera RAW file; {INSTALL}")
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            preview, flip = raw.extract_thumb(), raw.sizes.flip
    except rawpy.LibRawError as error:
        reason = error.args[0] if error.args else type(error).__name__
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise DecodeError(f"no preview in the camera RAW file: {text}") from None
    turn = {3: 3, 5: 8, 6: 6}.get(flip, 1)  # LibRaw: 5 is 90° counterclockwise, 6 clockwise
    if not isinstance(preview.data, bytes):
        return Opened(Image.fromarray(np.asarray(preview.data)), "RAW", turn=turn)
    return Opened(Image.open(io.BytesIO(preview.data), formats=("JPEG",)), "RAW", jpeg=preview.data, turn=turn)
