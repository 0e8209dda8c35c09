"""Decode untrusted bytes to an upright sRGB picture, or give the reason why not.

Pillow decodes most formats; `pictures/formats.py` says which libraries decode the others. For JPEG,
simplejpeg, torchvision and OpenCV call the same libjpeg-turbo, give the same pixels and are no faster
(`benchmarks/embedding.py` prints the table). Resizing costs more, see `preprocess`.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageCms, ImageFile

from ndec_builder.core.config import pixel_limit
from ndec_builder.core.errors import LowMemoryError
from ndec_builder.core.executor.free_memory import free_memory
from ndec_builder.core.pictures.dark_colour import refuse_dark_colour
from ndec_builder.core.pictures.errors import DecodeError
from ndec_builder.core.pictures.formats import (
    INSTALLED_FORMATS,
    Opened,
    alone_when_large,
    check_size,
    open_picture,
    read_suffixes,
)
from ndec_builder.core.pictures.grey import flatten_grey
from ndec_builder.core.pictures.quiet import without_pillow_warnings

SUFFIXES = read_suffixes()  # endings of the files that are read
MAX_SCANS = 100  # of a JPEG: each is a pass over all pixels that costs only a few bytes of file
MAX_SCAN_PIXELS = 5_000_000_000  # in all scans together
WHITE, DARK = (255, 255, 255), (64, 64, 64)  # backgrounds of transparent pictures
LIGHT = 208  # from here on a colour hardly shows on white
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked on the header, and it is an error, not a warning
ImageFile.LOAD_TRUNCATED_IMAGES = False  # Pillow's default; some libraries change it for the process
Target = Callable[[int, int], tuple[int, int]]  # (width, height) of a picture → size that the caller needs
_COUNTED_SCANS = 10_000  # enough to refuse the file; counting more costs time
_MARKER = re.compile(rb"\xff[^\x00\xff]")  # of a JPEG; inside the pixels a 0xff is followed by 0

TURNS = {  # EXIF orientation → what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Header:
    """Facts from the header, without decoding pixels; width and height are those after EXIF rotation."""

    width: int
    height: int
    format: str


def read_header(data: bytes, max_pixels: int | None = None) -> Header:
    """Read size and format. Raises DecodeError for anything that is not an image of FORMATS within the limit.

    `max_pixels`: None for the limit of the workspace (`core.config`).
    """
    opened = _open(data, max_pixels)
    with opened.image as image:
        width, height = image.size
        if image.format == "TIFF":  # some versions of Pillow rotate the size of a TIFF when they open it
            width, height = (int(image.tag_v2.get(tag, side)) for tag, side in ((256, width), (257, height)))
        if _orientation(opened) >= 5:  # 5–8 swap the sides
            width, height = height, width
        return Header(width, height, opened.format)


def read_orientation(data: bytes) -> int:
    """The EXIF orientation 1–8 that `decode` applies, from the first bytes of a file; 1 when there is none."""
    try:
        opened = _open(data, None)
        with opened.image:
            return _orientation(opened)
    except DecodeError:
        return 1


def decode(data: bytes, rotation: int = 0, max_pixels: int | None = None, target: Target | None = None) -> Image.Image:
    """Decode to upright sRGB: first frame, EXIF rotation, transparency on white, then `rotation` degrees clockwise.

    Light artwork on transparency gets a dark grey background, and `info["flattened_on"]` of the result is "dark".

    Grey pictures of more than 8 bits are scaled to 8 bits by the range that the file states, else by the smallest of
    0…1, 8, 10, 12, 14 and 16 bits that holds their values (floats of 2…32: by their highest value). In the result,
    `info["grey_range"]` is the (lowest, highest) value that became black and white.

    With `target` a JPEG is scaled down by 2, 4 or 8 while it is decoded, never below the target's width and height, for
    callers that need a small picture. `info["scaled_down"]` of the result is that number. Raises DecodeError with the
    reason. A truncated file is an error, never a half-grey picture.
    """
    opened = _open(data, max_pixels)
    scaled_down = 1
    with opened.image as image:
        if opened.jpeg:
            _refuse_scans(opened.jpeg, image.width * image.height)
        try:
            with alone_when_large(*image.size), without_pillow_warnings():
                if opened.format != "HEIF":  # its main picture need not be the first one
                    image.seek(0)
                if target is not None and image.format in ("JPEG", "MPO"):
                    full = image.size
                    image.draft(None, target(*full))
                    scaled_down = round(max(full) / max(image.size))  # libjpeg rounds the sides up
                deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
                image.load()
                if deep and not _is_deep_grey(image):
                    refuse_dark_colour(image, data)
                rgb = _flatten(image)
                if scaled_down > 1:
                    rgb.info["scaled_down"] = scaled_down
                if (turn := TURNS.get(_orientation(opened))) is not None:
                    rgb = _transposed(rgb, turn)
        except DecodeError:
            raise
        except Exception as error:  # Pillow's plugins raise almost anything on broken bytes
            if isinstance(error, MemoryError):
                _refuse_if_memory_is_low(*image.size)
            raise DecodeError(f"cannot decode: {_short(error)}") from None
    if rotation % 360:
        turns = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
        if rotation % 360 not in turns:
            raise DecodeError(f"rotation {rotation} is not a multiple of 90")
        rgb = _transposed(rgb, turns[rotation % 360])
    return rgb


def has_frames(data: bytes) -> bool:
    """Whether a picture that `decode` accepts has more than one frame, of which it shows the first."""
    opened = _open(data, None)
    with opened.image as image:
        return getattr(image, "n_frames", 1) > 1 and image.format not in ("MPO", "HEIF")


def _refuse_if_memory_is_low(width: int, height: int) -> None:
    """After a MemoryError: raise LowMemoryError if the machine is the cause. Else the picture is."""
    needed, free = (64 << 20) + 16 * width * height, free_memory()  # upright and flattened copies of 4 bytes a pixel
    if free is not None and free < needed:
        raise LowMemoryError(
            f"decoding a picture of {width} × {height} pixels needs up to {needed / 1e6:,.0f} MB of memory, and "
            f"{free / 1e6:,.0f} MB are free"
        )


def _transposed(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    turned = image.transpose(turn)
    turned.info = image.info
    return turned


def _open(data: bytes, max_pixels: int | None) -> Opened:
    max_pixels = pixel_limit() if max_pixels is None else max_pixels
    if not data:
        raise DecodeError("empty file")
    try:
        with without_pillow_warnings():
            opened = open_picture(data, max_pixels)
    except DecodeError:
        raise
    except Exception as error:
        raise DecodeError(f"not an image of {', '.join(INSTALLED_FORMATS)}: {_short(error)}") from None
    width, height = opened.image.size
    try:
        if width < 1 or height < 1:
            raise DecodeError(f"no pixels: {width}x{height}")
        check_size([(width, height)], max_pixels)
    except DecodeError:
        opened.image.close()
        raise
    return opened


def _refuse_scans(data: bytes, pixels: int) -> None:
    """A progressive JPEG may have thousands of scans of a few bytes each, and keep a core busy for hours."""
    scans = _count_scans(data)
    if scans > MAX_SCANS or scans * pixels > MAX_SCAN_PIXELS:
        raise DecodeError(f"too slow to decode: {scans} scans of {pixels} pixels; photos have about ten")


def _count_scans(data: bytes) -> int:
    """Scans of the first picture. Its segments (a thumbnail is one) and what follows its end do not count."""
    scans, place = 0, 2
    while scans < _COUNTED_SCANS and (found := _MARKER.search(data, place)) is not None:
        marker, place = data[found.end() - 1], found.end()
        if marker == 0xD9:  # end of image: a phone may have put a video behind it
            break
        scans += marker == 0xDA
        if marker != 0x01 and not 0xD0 <= marker <= 0xD8:  # all other markers have a length
            place += max(2, int.from_bytes(data[place : place + 2]))
    return scans


def _orientation(opened: Opened) -> int:
    """The EXIF orientation that is left to apply, else the one that the file states elsewhere."""
    if opened.upright:
        return 1
    value = _exif_orientation(opened.image)
    return opened.turn if value == 1 else value


def _exif_orientation(image: Image.Image) -> int:
    try:
        with without_pillow_warnings():
            value = image.getexif().get(0x0112, 1)
    except Exception:  # a broken EXIF block has no orientation
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def _flatten(image: Image.Image) -> Image.Image:
    """sRGB, opaque. Grey of more than 8 bits is scaled here, since Pillow's own conversion clips it to white."""
    if _is_deep_grey(image):
        return flatten_grey(image)
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and profile and (transform := _to_srgb(profile, "CMYK")):
        return ImageCms.applyTransform(image, transform) or image.convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        background = _background(rgba)
        rgb = Image.new("RGB", rgba.size, background)
        rgb.paste(rgba, mask=rgba.getchannel("A"))
        rgb.info["flattened_on"] = "dark" if background == DARK else "white"
    else:
        rgb = image.convert("RGB")
    if profile and image.mode != "CMYK" and (transform := _to_srgb(profile, "RGB")):
        ImageCms.applyTransform(rgb, transform, inPlace=True)
    return rgb


def _background(rgba: Image.Image) -> tuple[int, int, int]:
    """White, or dark grey for light artwork, which would vanish on white.

    Light: at least 5 % of the area is transparent, and red, green and blue are LIGHT or more in over half of the rest.
    """
    opacity, levels = rgba.getchannel("A"), 255 * rgba.width * rgba.height
    histogram = opacity.histogram()
    visible = sum(value * count for value, count in enumerate(histogram))
    if not 0 < visible <= 0.95 * levels:
        return WHITE
    red, green, blue, _ = rgba.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    light = opacity.histogram(darkest.point(lambda value: 255 * (value >= LIGHT)))  # of the light pixels alone
    return DARK if 2 * sum(value * count for value, count in enumerate(light)) > visible else WHITE


@functools.lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of an embedded colour profile into sRGB; None for sRGB itself and for a broken profile."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != mode:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        named = mode == "RGB" and "sRGB" in (source.profile.profile_description or "")
        return None if named and _keeps_greys(transform) else transform
    except Exception:  # a damaged profile is ignored, as programs without colour management do
        return None


def _keeps_greys(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform changes greys by rounding only. A linear sRGB profile, as GIMP writes it, brightens them."""
    greys = Image.frombytes("RGB", (3, 1), bytes([64] * 3 + [128] * 3 + [192] * 3))
    changed = ImageCms.applyTransform(greys, transform)
    return changed is not None and max(ImageChops.difference(greys, changed).tobytes()) <= 8


def _short(error: Exception) -> str:
    text = str(error).split(" <_io")[0].splitlines()
    return (text[0] if text else type(error).__name__)[:160]
