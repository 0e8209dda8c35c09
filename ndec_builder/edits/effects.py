"""Effects of image editors: tones (invert, curve, threshold …), outlines, paint and bent pictures.

They follow the formulas of ImageMagick 6 where it has the effect; `benchmarks/real_editor.py` compares both.
Coordinates are rounded to 1/64 px, so that the last bit of a sine does not change a pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

_GRID = 64  # px⁻¹, steps of the coordinates of bent pictures
_LEVELS = 20  # grey levels that oil paint tells apart


def invert(image: Image.Image) -> Image.Image:
    """Negative of every channel."""
    return ImageOps.invert(image)


def tone_curve(image: Image.Image, contrast: float, gamma: float) -> Image.Image:
    """A tone curve: a sigmoid of strength |contrast| around middle grey (< 0: its inverse), then gamma."""
    value = np.arange(256) / 255
    if contrast > 0:
        ends = _sigmoid(-contrast / 2), _sigmoid(contrast / 2)
        value = (_sigmoid(contrast * (value - 0.5)) - ends[0]) / (ends[1] - ends[0])
    elif contrast < 0:
        ends = _sigmoid(contrast / 2), _sigmoid(-contrast / 2)
        inside = ends[0] + value * (ends[1] - ends[0])
        value = 0.5 + np.log(inside / (1 - inside)) / -contrast
    table = np.rint(255 * np.clip(value, 0, 1) ** (1 / gamma)).astype(np.uint8)
    return image.point(table.tolist() * 3)


def threshold(image: Image.Image, level: float) -> Image.Image:
    """Black and white: grey values above `level` (0–1) become white."""
    cut = int(255 * level)
    return ImageOps.grayscale(image).point([0] * (cut + 1) + [255] * (255 - cut)).convert("RGB")


def posterise(image: Image.Image, levels: int) -> Image.Image:
    """Each channel in `levels` steps."""
    steps = np.rint(np.arange(256) / 255 * (levels - 1))
    return image.point(np.rint(steps * 255 / (levels - 1)).astype(np.uint8).tolist() * 3)


def edge(image: Image.Image, radius: int) -> Image.Image:
    """Outlines: the pixel times the size of its window, minus the sum of the window, cut to 0–255."""
    pixels = np.asarray(image)
    return _to_image((2 * radius + 1) ** 2 * pixels.astype(np.int32) - _window_sum(pixels, radius))


def emboss(image: Image.Image, depth: float) -> Image.Image:
    """Grey relief lit from the top left: the difference to the neighbour there, times `depth`, around middle grey."""
    grey = np.asarray(ImageOps.grayscale(image)).astype(np.float64)
    shifted = np.pad(grey, ((1, 0), (1, 0)), mode="edge")[:-1, :-1]
    return _to_image((grey - shifted) * depth + 128).convert("RGB")


def oil(image: Image.Image, radius: int) -> Image.Image:
    """Oil paint: each pixel gets the mean colour of the most frequent of 20 grey levels in its window."""
    pixels = np.asarray(image)
    level = np.asarray(ImageOps.grayscale(image)).astype(np.int32) * _LEVELS // 256
    best, colour = np.zeros(level.shape, np.int32), np.zeros(pixels.shape, np.int32)
    for number in np.unique(level).tolist():
        inside = (level == number).astype(np.uint8)
        count = _window_sum(inside, radius)
        more = (count > best).astype(np.uint8)
        cv2.copyTo(count, more, best)
        cv2.copyTo(_window_sum(pixels * inside[..., None], radius), more, colour)
    return Image.fromarray(((colour + best[..., None] // 2) // best[..., None]).astype(np.uint8))


def cartoon(image: Image.Image, levels: int, radius: int) -> Image.Image:
    """Flat colours in few steps, with dark outlines."""
    flat = posterise(Image.fromarray(cv2.medianBlur(np.asarray(image), 2 * radius + 1)), levels)
    lines = ImageOps.grayscale(image).filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.FIND_EDGES)
    drawn = lines.point([255] * 24 + [0] * 232)
    return ImageChops.multiply(flat, drawn.convert("RGB"))


def halftone(image: Image.Image, cell: float, colour: bool) -> Image.Image:
    """Print dots in a grid turned by 45°, one dot per `cell` × the shorter side (at least 3 px)."""
    size = max(3.0, cell * min(image.size))
    source = image if colour else ImageOps.grayscale(image)
    y, x = np.mgrid[0 : image.height, 0 : image.width].astype(np.float64)
    u, v = (x + y) / np.sqrt(2) / size, (x - y) / np.sqrt(2) / size
    spot = np.round(0.5 + (np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v)) / 4, 6)  # 0 … 1
    order = np.argsort(spot.ravel(), kind="stable")
    rank = np.empty(order.size)
    rank[order] = (np.arange(order.size) + 0.5) / order.size  # so that a grey keeps its mean
    pixels = np.asarray(source).astype(np.float64) / 255
    screen = 1 - rank.reshape(spot.shape)
    dots = pixels > (screen[..., None] if pixels.ndim == 3 else screen)
    return Image.fromarray((dots * 255).astype(np.uint8)).convert("RGB")


def whirl(image: Image.Image, angle: float) -> Image.Image:
    """Turn by `angle` degrees in the centre, less and less towards the border."""

    def source(x: np.ndarray, y: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turn = np.deg2rad(angle) * (1 - far) ** 2
        return np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y

    return _bent(image, source)


def lens(image: Image.Image, amount: float) -> Image.Image:
    """Pull towards the centre (amount > 0) or push out of it (< 0), inside the largest ellipse."""

    def source(x: np.ndarray, y: np.ndarray, far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factor = np.where(far > 0, np.sin(np.pi / 2 * np.maximum(far, 1e-9)) ** -amount, 1.0)
        return factor * x, factor * y

    return _bent(image, source)


def ripple(image: Image.Image, amplitude: float, wavelength: float) -> Image.Image:
    """Move each column up and down like a wave; both lengths are fractions of the shorter side."""
    side = min(image.size)
    y, x = np.mgrid[0 : image.height, 0 : image.width].astype(np.float64)
    return _sampled(image, x, y - amplitude * side * np.sin(2 * np.pi * x / (wavelength * side)))


def _bent(
    image: Image.Image,
    source: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Image.Image:
    """source: (x, y, distance) around the centre, in units of the half sides → where the pixel comes from."""
    half = (image.width / 2, image.height / 2)
    y, x = np.mgrid[0 : image.height, 0 : image.width].astype(np.float64)
    across, down = (x - half[0]) / half[0], (y - half[1]) / half[1]
    far = np.sqrt(across**2 + down**2)
    new_x, new_y = source(across, down, np.minimum(far, 1.0))
    inside = far < 1
    return _sampled(image, np.where(inside, new_x, across) * half[0] + half[0],
                    np.where(inside, new_y, down) * half[1] + half[1])  # fmt: skip


def _sampled(image: Image.Image, x: np.ndarray, y: np.ndarray) -> Image.Image:
    """The picture at pixel coordinates (h, w), bilinear; beyond the border the border's colour."""
    width, height = image.size
    pixels = np.asarray(image.convert("RGBA")).view(np.uint32).ravel()  # one number a pixel
    x, y = (np.clip(np.rint(value * _GRID), 0, _GRID * (side - 1)).astype(np.int32)
            for value, side in ((x, width), (y, height)))  # fmt: skip
    (left, a), (top, b) = ((value // _GRID, (value % _GRID)[..., None]) for value in (x, y))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)

    def colours(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return pixels.take(row * width + column)[..., None].view(np.uint8)[..., :3]

    upper, lower = (colours(row, left) * (_GRID - a) + colours(row, right) * a for row in (top, bottom))
    return _to_image((upper * (_GRID - b) + lower * b) / _GRID**2)  # whole numbers up to here: exact


def _window_sum(values: np.ndarray, radius: int) -> np.ndarray:
    """Sum over the window (2 · radius + 1)² of each pixel, uint8 → int32 of the same shape; the border repeats."""
    size = (2 * radius + 1,) * 2
    return cv2.boxFilter(values, cv2.CV_32S, size, normalize=False, borderType=cv2.BORDER_REPLICATE)


def _sigmoid(value: np.ndarray | float) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.asarray(value, dtype=np.float64))))


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
