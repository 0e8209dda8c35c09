"""Decode untrusted bytes to an upright sRGB picture, or give the reason why not.

Pillow decodes every format. For JPEG, simplejpeg, torchvision and OpenCV call the same libjpeg-turbo, give the same
pixels and are no faster (`benchmarks/embedding.py` prints the table). Resizing costs more, see `preprocess`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageFile

from ndec_builder.core.config import pixel_limit

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
MAX_SCANS = 100  # of a JPEG: each is a pass over all pixels that costs only a few bytes of file
MAX_SCAN_PIXELS = 5_000_000_000  # in all scans together
WHITE, DARK = (255, 255, 255), (64, 64, 64)  # backgrounds of transparent pictures
LIGHT = 208  # from here on a colour hardly shows on white
LARGE = 25_000_000  # pixels; larger pictures are decoded one at a time, several at once would need gigabytes
_STRIP = 256  # rows of 16-bit grey turned into 8 bits at a time
_one_at_a_time = threading.Lock()
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked on the header, and it is an error, not a warning
ImageFile.LOAD_TRUNCATED_IMAGES = False  # Pillow's default; some libraries change it for the process
Target = Callable[[int, int], tuple[int, int]]  # (width, height) of a picture → size that the caller needs
_COUNTED_SCANS = 10_000  # enough to refuse the file; counting more costs time
_DARK = 32  # float grey whose values end below this is not in 0…255
_BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras, scanners and microscopes
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


class DecodeError(ValueError):
    """The bytes are not a usable picture; the text is the reason written to `rejects.parquet`."""


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
    with _open(data, max_pixels) as image:
        width, height = image.size
        if image.format == "TIFF":  # some versions of Pillow rotate the size of a TIFF when they open it
            width, height = (int(image.tag_v2.get(tag, side)) for tag, side in ((256, width), (257, height)))  # type: ignore[attr-defined]
        if _exif_orientation(image) >= 5:  # 5–8 swap the sides
            width, height = height, width
        # Pillow calls a JPEG with further pictures behind the first one MPO
        return Header(width, height, "JPEG" if image.format == "MPO" else str(image.format))


def read_orientation(data: bytes) -> int:
    """The EXIF orientation 1–8 that `decode` applies, from the first bytes of a file; 1 when there is none."""
    try:
        with _open(data, None) as image:
            return _exif_orientation(image)
    except DecodeError:
        return 1


def decode(data: bytes, rotation: int = 0, max_pixels: int | None = None, target: Target | None = None) -> Image.Image:
    """Decode to upright sRGB: first frame, EXIF rotation, transparency on white, then `rotation` degrees clockwise.

    Light artwork on transparency gets a dark grey background, and `info["flattened_on"]` of the result is "dark".

    Grey pictures of more than 8 bits are scaled to 8 bits by the range that the file states, else by the smallest of
    0…1, 8, 10, 12, 14 and 16 bits that holds their values (floats of 2…32: by their highest value). In the result,
    `info["grey_range"]` is the (lowest, highest) value that became black and white.

    With `target` a JPEG is scaled down by 2, 4 or 8 while it is decoded, never below the target's width and height, for
    callers that need a small picture. Raises DecodeError with the reason. A truncated file is an error, never a
    half-grey picture.
    """
    with _open(data, max_pixels) as image:
        if data.startswith(b"\xff\xd8"):  # not by the format: Pillow calls some JPEGs MPO
            _refuse_scans(data, image.width * image.height)
        try:
            with _alone_when_large(image), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # palette and EXIF warnings do not change the pixels
                image.seek(0)
                if target is not None and image.format == "JPEG":
                    image.draft(None, target(*image.size))
                deep_colour = image.getbands() != ("I;16",) and any(
                    ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
                )
                image.load()
                rgb = _flatten(image)
                if (turn := TURNS.get(_exif_orientation(image))) is not None:
                    rgb = _transposed(rgb, turn)
        except DecodeError:
            raise
        except Exception as error:  # Pillow's plugins raise almost anything on broken bytes
            raise DecodeError(f"cannot decode: {_short(error)}") from None
    if deep_colour and image.mode not in ("I", "F"):
        _refuse_dark_colour(rgb)
    if rotation % 360:
        turns = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
        if rotation % 360 not in turns:
            raise DecodeError(f"rotation {rotation} is not a multiple of 90")
        rgb = _transposed(rgb, turns[rotation % 360])
    return rgb


def has_frames(data: bytes) -> bool:
    """Whether a picture that `decode` accepts has more than one frame, of which it shows the first."""
    with _open(data, None) as image:
        return getattr(image, "n_frames", 1) > 1 and image.format != "MPO"


def _transposed(image: Image.Image, turn: Image.Transpose) -> Image.Image:
    turned = image.transpose(turn)
    turned.info = image.info
    return turned


def _open(data: bytes, max_pixels: int | None) -> Image.Image:
    max_pixels = pixel_limit() if max_pixels is None else max_pixels
    if not data:
        raise DecodeError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:
        raise DecodeError(f"not an image of {', '.join(FORMATS)}: {_short(error)}") from None
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise DecodeError(f"too large: {width}x{height} pixels, the limit is {max_pixels} (`[ingest] max_pixels`)")
    if width < 1 or height < 1:
        image.close()
        raise DecodeError(f"no pixels: {width}x{height}")
    return image


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


def _alone_when_large(image: Image.Image) -> contextlib.AbstractContextManager[Any]:
    return _one_at_a_time if image.width * image.height > LARGE else contextlib.nullcontext()


def _exif_orientation(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(0x0112, 1)
    except Exception:  # a broken EXIF block has no orientation
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _flatten(image: Image.Image) -> Image.Image:
    """sRGB, opaque. Grey of more than 8 bits is scaled here, since Pillow's own conversion clips it to white."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _grey(image)
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


def _grey(image: Image.Image) -> Image.Image:
    """8-bit grey of deep grey, in strips: as float32 a large picture would fill the memory."""
    values = np.asarray(image)
    low, high = _grey_range(image, float(values.min()), float(values.max()))
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _STRIP):
        strip = values[start : start + _STRIP].astype(np.float32)
        grey[start : start + _STRIP] = np.clip(np.round((strip - low) * (255 / (high - low))), 0, 255)
    if _tag(image, 262) == 0:  # TIFF: white is zero, which Pillow inverts for 8 bits only
        grey = 255 - grey
    rgb = Image.fromarray(grey).convert("RGB")
    rgb.info["grey_range"] = (low, high)
    return rgb


def _grey_range(image: Image.Image, low: float, high: float) -> tuple[float, float]:
    """The values that are black and white: as the file states them, else the smallest usual range of its values."""
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DecodeError("grey values that are not numbers (NaN or infinite); replace them")
    for lowest, highest in ((340, 341), (280, 281)):  # TIFF: SMinSampleValue and SMaxSampleValue, then without S
        stated = _tag(image, lowest, 0), _tag(image, highest)
        if stated[1] is not None and stated[0] <= low and high <= stated[1] and stated[0] < stated[1] < 2**32 - 1:
            return float(stated[0]), float(stated[1])
    bits = _tag(image, 258)
    if bits is not None and bits < 16 and image.mode.startswith("I;16"):
        return 0.0, float(2**bits - 1)
    if image.mode == "F" and low >= -0.5 and high <= 2:  # resampling overshoots 0…1 a little
        return 0.0, 1.0
    if image.mode == "F" and low >= 0 and high < _DARK:
        return 0.0, high
    if low < 0 or high > 65535:
        raise DecodeError(f"grey values {low:g}…{high:g} are outside 0…65535, and the file does not state their range")
    return 0.0, float(2 ** next(depth for depth in _BIT_DEPTHS if high < 2**depth) - 1)


def _tag(image: Image.Image, tag: int, default: Any = None) -> Any:
    """A number from the tags of a TIFF, the first one where it has several; `default` where it has none."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, (int, float)) and np.isfinite(value) else default


def _refuse_dark_colour(image: Image.Image) -> None:
    """Pillow keeps the upper 8 of 16 bits of colour, so a 12-bit picture would become almost black."""
    highest = max(high for _, high in image.getextrema())  # type: ignore[misc]
    if 0 < highest < 16:
        raise DecodeError(
            f"16-bit colour with values below {(highest + 1) * 256}: it probably holds 12 bits or fewer; scale it to "
            "the full 16 bits, or save it with 8"
        )


@functools.lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of an embedded colour profile into sRGB; None for sRGB itself and for a broken profile."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != mode or "sRGB" in (source.profile.profile_description or ""):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # a damaged profile is ignored, as programs without colour management do
        return None


def _short(error: Exception) -> str:
    text = str(error).split(" <_io")[0].splitlines()
    return (text[0] if text else type(error).__name__)[:160]
