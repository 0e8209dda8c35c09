"""Outside bytes → an upright sRGB picture, or a reason why not. Files from outside are hostile.

Pillow decodes every format. For JPEG, simplejpeg, torchvision and OpenCV call the same libjpeg-turbo, give the same
pixels and are no faster (`benchmarks/embedding.py` prints the table); what costs is resizing, see `preprocess`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageFile

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
MAX_PIXELS = 200_000_000  # far above any photo; a decompression bomb is refused before its pixels are decoded
MAX_SCANS = 100  # of a JPEG: each is a pass over all pixels, for some bytes of file
MAX_SCAN_PIXELS = 5_000_000_000  # of all its scans together
LARGE = 25_000_000  # pixels from which pictures are decoded one at a time: several at once would need gigabytes
_STRIP = 256  # rows of 16-bit grey turned into 8 bits at a time
_one_at_a_time = threading.Lock()
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked first, on the header, and it is an error, not a warning
ImageFile.LOAD_TRUNCATED_IMAGES = False  # Pillow's default, said aloud: some libraries switch it on for the process
Target = Callable[[int, int], tuple[int, int]]  # (width, height) of a picture → of what is made of it

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
    """The bytes are no picture we can use; the text is the reason written to `rejects.parquet`."""


@dataclass(frozen=True)
class Header:
    """What the header says, without decoding pixels; width and height as seen after EXIF turning."""

    width: int
    height: int
    format: str


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Read size and format. Raises DecodeError for anything that is not an image of FORMATS within the limit."""
    with _open(data, max_pixels) as image:
        width, height = image.size
        if _exif_orientation(image) >= 5:  # 5–8 are the turned ones
            width, height = height, width
        return Header(width, height, str(image.format))


def decode(data: bytes, rotation: int = 0, max_pixels: int = MAX_PIXELS, target: Target | None = None) -> Image.Image:
    """Decode to upright sRGB: first frame, EXIF turned, transparency on white, then `rotation` degrees clockwise.

    With `target` a JPEG is scaled down by 2, 4 or 8 while it is decoded, never below the target's width and height: for
    who makes it that small anyway. Raises DecodeError with the reason; a truncated file is an error, never a half-grey
    picture.
    """
    with _open(data, max_pixels) as image:
        if data.startswith(b"\xff\xd8"):  # not by the format: Pillow calls some JPEGs MPO
            _refuse_scans(data, image.width * image.height)
        try:
            with _alone_when_large(image), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # palette and EXIF warnings say nothing that changes the pixels
                image.seek(0)
                if target is not None and image.format == "JPEG":
                    image.draft(None, target(*image.size))
                image.load()
                rgb = _flatten(image)
                if (turn := TURNS.get(_exif_orientation(image))) is not None:
                    rgb = rgb.transpose(turn)
        except DecodeError:
            raise
        except Exception as error:  # Pillow's plugins raise almost anything on broken bytes
            raise DecodeError(f"cannot decode: {_short(error)}") from None
    if rotation % 360:
        turns = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
        if rotation % 360 not in turns:
            raise DecodeError(f"rotation {rotation} is not a multiple of 90")
        rgb = rgb.transpose(turns[rotation % 360])
    return rgb


def _open(data: bytes, max_pixels: int) -> Image.Image:
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
        raise DecodeError(f"too large: {width}x{height} pixels, the limit is {max_pixels}")
    if width < 1 or height < 1:
        image.close()
        raise DecodeError(f"no pixels: {width}x{height}")
    return image


def _refuse_scans(data: bytes, pixels: int) -> None:
    """A progressive JPEG may have thousands of scans of some bytes each, and keep a core busy for hours."""
    scans = data.count(b"\xff\xda")  # stands nowhere inside the pixels: a 0xff there is followed by 0
    if scans > MAX_SCANS or scans * pixels > MAX_SCAN_PIXELS:
        raise DecodeError(f"too slow to decode: {scans} scans of {pixels} pixels; photos have about ten")


def _alone_when_large(image: Image.Image) -> contextlib.AbstractContextManager[Any]:
    return _one_at_a_time if image.width * image.height > LARGE else contextlib.nullcontext()


def _exif_orientation(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(0x0112, 1)
    except Exception:  # a broken EXIF block says nothing about the orientation
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _flatten(image: Image.Image) -> Image.Image:
    """sRGB on white. 16-bit grey is scaled down, since Pillow's own conversion clips it to white."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _grey(np.asarray(image), image.mode.startswith("I;16")).convert("RGB")
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and profile and (transform := _to_srgb(profile, "CMYK")):
        return ImageCms.applyTransform(image, transform) or image.convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", rgba.size, (255, 255, 255))
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    if profile and image.mode != "CMYK" and (transform := _to_srgb(profile, "RGB")):
        return ImageCms.applyTransform(rgb, transform) or rgb
    return rgb


def _grey(values: np.ndarray, deep: bool) -> Image.Image:
    """8-bit grey of (height, width) numbers in 0…65535, in strips: as float32 a large picture would fill the memory."""
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= 65535:
        raise DecodeError(f"grey values {low:g}…{high:g} are outside 0…65535")
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _STRIP):
        strip = values[start : start + _STRIP].astype(np.float32)
        grey[start : start + _STRIP] = np.round(strip / 257 if deep or high > 255 else strip)
    return Image.fromarray(grey)


@functools.lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of an embedded colour profile into sRGB; None when there is nothing to do or it is broken."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != mode or "sRGB" in (source.profile.profile_description or ""):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # a damaged profile is no damaged picture: show it as everybody without colour management does
        return None


def _short(error: Exception) -> str:
    text = str(error).split(" <_io")[0].splitlines()
    return (text[0] if text else type(error).__name__)[:160]
