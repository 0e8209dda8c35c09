"""Operations that move pixels (crop, resize, flip, rotate, perspective, pad) and the 3×3 matrix of each.

Matrices map normalised coordinates (x, y in 0..1, y down) before the operation to those after it. `content.py` uses
them to track which part of the original is still visible.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

Colour = Sequence[int]
Size = tuple[int, int]
MIN_EDIT_SIDE = 32  # px; smaller pictures hold too little for any descriptor


def enlarge_to_min_side(image: Image.Image) -> Image.Image:
    """Enlarge only the sides below MIN_EDIT_SIDE: a 1×60000 strip must not become 32×1920000."""
    width, height = image.size
    if min(width, height) >= MIN_EDIT_SIDE:
        return image
    return image.resize((max(width, MIN_EDIT_SIDE), max(height, MIN_EDIT_SIDE)), Image.Resampling.BICUBIC)


def crop(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """Crop to the box (left, top, right, bottom), fractions of the sides, at least one pixel."""
    return image.crop(pixel_box(image.size, box))


def pixel_box(size: Size, box: Sequence[float]) -> tuple[int, int, int, int]:
    """Convert a box of fractions to pixels inside the picture, at least one pixel wide and high."""
    width, height = size
    left, top = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    right, bottom = max(left + 1, round(box[2] * width)), max(top + 1, round(box[3] * height))
    return left, top, min(right, width), min(bottom, height)


def crop_matrix(before: Size, after: Size, box: Sequence[float]) -> np.ndarray:
    width, height = before
    left, top, right, bottom = pixel_box(before, box)
    a, b = width / (right - left), height / (bottom - top)
    return np.array([[a, 0, -left / width * a], [0, b, -top / height * b], [0, 0, 1.0]])


def resize(image: Image.Image, width_factor: float, height_factor: float) -> Image.Image:
    """Scale the sides by the two factors (antialiased bicubic); unequal factors change the aspect ratio."""
    size = (max(1, round(image.width * width_factor)), max(1, round(image.height * height_factor)))
    return image.resize(size, Image.Resampling.BICUBIC)


def mirror(image: Image.Image) -> Image.Image:
    """Mirror left to right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def mirror_matrix(before: Size, after: Size) -> np.ndarray:
    return np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])


def rotate(image: Image.Image, angle: float, expand: bool, fill: Colour) -> Image.Image:
    """Rotate by `angle` degrees counter-clockwise around the centre; `expand` enlarges the canvas to fit."""
    return image.rotate(angle, Image.Resampling.BICUBIC, expand=expand, fillcolor=(fill[0], fill[1], fill[2]))


def rotate_matrix(before: Size, after: Size, angle: float, expand: bool, fill: Colour) -> np.ndarray:
    """Exact except that Pillow rounds an expanded canvas to integer pixels."""
    (w, h), (nw, nh) = before, after
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    to_pixels = np.array([[w, 0, -w / 2], [0, h, -h / 2], [0, 0, 1.0]])
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
    back = np.array([[1 / nw, 0, 0.5], [0, 1 / nh, 0.5], [0, 0, 1.0]])
    return back @ turn @ to_pixels


def perspective(image: Image.Image, corners: Sequence[Sequence[float]], fill: Colour) -> Image.Image:
    """Warp the picture into the quadrilateral `corners` (fractions; clockwise from the top left) of its canvas."""
    width, height = image.size
    inverse = np.linalg.inv(perspective_matrix(image.size, image.size, corners, fill))
    to_pixels = np.diag([width, height, 1.0])
    coefficients = to_pixels @ inverse @ np.linalg.inv(to_pixels)  # Pillow asks for output pixel → input pixel
    coefficients /= coefficients[2, 2]
    return image.transform(
        image.size,
        Image.Transform.PERSPECTIVE,
        tuple(coefficients.ravel()[:8].tolist()),
        Image.Resampling.BICUBIC,
        fillcolor=(fill[0], fill[1], fill[2]),
    )


def perspective_matrix(before: Size, after: Size, corners: Sequence[Sequence[float]], fill: Colour) -> np.ndarray:
    """The homography that maps the unit square to `corners` (four points give its eight unknowns)."""
    rows, right = [], []
    for (x, y), (u, v) in zip([(0, 0), (1, 0), (1, 1), (0, 1)], corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.append(np.linalg.solve(np.array(rows, float), np.array(right, float)), 1.0).reshape(3, 3)


def pad(image: Image.Image, margins: Sequence[float], fill: Colour) -> Image.Image:
    """Add plain borders (left, top, right, bottom), fractions of the sides."""
    left, top, right, bottom = _pixels_of(image.size, margins)
    canvas = Image.new("RGB", (image.width + left + right, image.height + top + bottom), (fill[0], fill[1], fill[2]))
    canvas.paste(image, (left, top))
    return canvas


def pad_matrix(before: Size, after: Size, margins: Sequence[float], fill: Colour) -> np.ndarray:
    left, top, right, bottom = _pixels_of(before, margins)
    width, height = before[0] + left + right, before[1] + top + bottom
    return np.array([[before[0] / width, 0, left / width], [0, before[1] / height, top / height], [0, 0, 1.0]])


def _pixels_of(size: Size, margins: Sequence[float]) -> tuple[int, int, int, int]:
    width, height = size
    return tuple(round(m * side) for m, side in zip(margins, (width, height, width, height), strict=True))  # type: ignore[return-value]
