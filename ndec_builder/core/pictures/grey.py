"""8-bit grey from grey of more bits, which Pillow's own conversion clips to white."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.core.pictures.errors import DecodeError

_STRIP = 256  # rows of 16-bit grey turned into 8 bits at a time
_DARK = 32  # float grey whose values end below this is not in 0…255
_BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras, scanners and microscopes


def flatten_grey(image: Image.Image) -> Image.Image:
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
