"""Turns pictures into the arrays that a backbone takes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from ndec_builder.core.decode import Target

SIDE_STEP = 32  # px: sides of pictures that keep their shape are multiples of it, which limits the number of shapes


def square(size: int) -> Target:
    """Squash every picture to size × size.

    Pictures are squashed, not cropped: a centre crop would drop content at the borders, which often tells a copy from a
    hard negative. Queries and references are squashed alike.
    """
    return functools.partial(_square, size)


def longest_side(size: int) -> Target:
    """Scale the longest side to `size` and round the other one to a multiple of SIDE_STEP."""
    return functools.partial(_longest_side, size)


def to_pixels(image: Image.Image, size: tuple[int, int], interpolation: str = "bicubic") -> np.ndarray:
    """Resize a picture to (width, height) → (height, width, 3) uint8, RGB, with antialiasing.

    `interpolation`: bilinear; anything else is bicubic.

    Uses torch's uint8 kernel: about ten times faster than Pillow's, within two grey levels of it, and it releases the
    GIL.
    """
    import torch

    rgb = image if image.mode == "RGB" else image.convert("RGB")  # which would copy an RGB picture
    array: np.ndarray = np.array(rgb)
    if image.size == size:
        return array
    pixels = torch.from_numpy(array[None]).permute(0, 3, 1, 2)  # torch keeps this order of memory: twice as fast
    scaled = torch.nn.functional.interpolate(
        pixels, size[::-1], mode="bilinear" if interpolation == "bilinear" else "bicubic", antialias=True
    )
    resized: np.ndarray = scaled[0].permute(1, 2, 0).contiguous().numpy()
    return resized


def to_array(image: Image.Image, size: int) -> np.ndarray:
    """Squash a picture to (3, size, size) uint8, RGB; in memory, the three colours of a pixel follow each other."""
    return to_pixels(image, (size, size)).transpose(2, 0, 1)


def _square(size: int, width: int, height: int) -> tuple[int, int]:
    return size, size


def _longest_side(size: int, width: int, height: int) -> tuple[int, int]:
    scale = size / max(width, height)
    short = max(SIDE_STEP, round(min(width, height) * scale / SIDE_STEP) * SIDE_STEP)
    return (size, short) if width >= height else (short, size)
