"""Pictures → the arrays that a backbone takes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from ndec_builder.core.decode import Target

STEP = 32  # px: sides of pictures that keep their shape are multiples of it, so that few shapes occur


def square(size: int) -> Target:
    """Squash every picture to size × size.

    Squashed rather than cropped to a square: a centre crop would drop content at the borders, and what is seen there
    is what tells a copy from a hard negative. Query and reference are squashed alike.
    """
    return functools.partial(_square, size)


def longest_side(size: int) -> Target:
    """Scale the longest side to `size` and round the other to a multiple of STEP, so that few shapes occur."""
    return functools.partial(_longest_side, size)


def to_pixels(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture to (width, height) → (height, width, 3) uint8, RGB, bicubic with antialiasing.

    By torch's uint8 kernel: some ten times faster than Pillow's, within a grey level or two of it. It lets other
    threads run.
    """
    import torch

    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    if image.size == size:
        return pixels[0].permute(1, 2, 0).numpy()
    scaled = torch.nn.functional.interpolate(pixels, size[::-1], mode="bicubic", antialias=True)
    array: np.ndarray = scaled[0].permute(1, 2, 0).contiguous().numpy()
    return array


def to_array(image: Image.Image, size: int) -> np.ndarray:
    """Squash a picture to (3, size, size) uint8, RGB."""
    return np.ascontiguousarray(to_pixels(image, (size, size)).transpose(2, 0, 1))


def _square(size: int, width: int, height: int) -> tuple[int, int]:
    return size, size


def _longest_side(size: int, width: int, height: int) -> tuple[int, int]:
    scale = size / max(width, height)
    short = max(STEP, round(min(width, height) * scale / STEP) * STEP)
    return (size, short) if width >= height else (short, size)
