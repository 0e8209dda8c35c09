"""What people make of a picture for others: frames, memes, screenshots, collages, tiles, photos of a screen, blends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from ndec_builder.edits.geometry import Colour, Size, perspective, perspective_matrix
from ndec_builder.edits.layers import default_font


def blend(image: Image.Image, opacity: float, picture: Image.Image) -> Image.Image:
    """Mix with another picture over the complete area."""
    return Image.blend(image, ImageOps.fit(picture, image.size, Image.Resampling.BICUBIC), opacity)


def tile(image: Image.Image, count: int, mirrored: bool) -> Image.Image:
    """Repeat the picture count × count times on a canvas of its own size; mirrored: like a kaleidoscope."""
    cell = _cell(image.size, count)
    small = image.resize(cell, Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (cell[0] * count, cell[1] * count))
    for row in range(count):
        for column in range(count):
            part = small
            if mirrored and column % 2:
                part = ImageOps.mirror(part)
            if mirrored and row % 2:
                part = ImageOps.flip(part)
            canvas.paste(part, (column * cell[0], row * cell[1]))
    return canvas


def tile_matrix(before: Size, after: Size, count: int, mirrored: bool) -> np.ndarray:
    return np.diag([1 / count, 1 / count, 1.0])


def frame(image: Image.Image, widths: Sequence[float], colours: Sequence[Colour]) -> Image.Image:
    """Bands around the picture, the inner one first; widths are fractions of its shorter side, at least 1 px."""
    side = min(image.size)
    for width, colour in zip(widths, colours, strict=True):
        image = ImageOps.expand(image, max(1, round(width * side)), (colour[0], colour[1], colour[2]))
    return image


def frame_matrix(before: Size, after: Size, widths: Sequence[float], colours: Sequence[Colour]) -> np.ndarray:
    band = sum(max(1, round(width * min(before))) for width in widths)
    return _placed((band, band), before, after)


def meme(image: Image.Image, above: str, below: str, height: float, dark: bool) -> Image.Image:
    """Bars with text above and below the picture, each `height` × its height; an empty text has no bar."""
    bars = _bars(image.size, above, below, height)
    ground, ink = ((0, 0, 0), (255, 255, 255)) if dark else ((255, 255, 255), (0, 0, 0))
    canvas = Image.new("RGB", (image.width, image.height + sum(bars)), ground)
    canvas.paste(image, (0, bars[0]))
    draw = ImageDraw.Draw(canvas)
    for text, middle, bar in ((above, bars[0] / 2, bars[0]), (below, canvas.height - bars[1] / 2, bars[1])):
        if text:
            size = max(6, min(round(bar * 0.6), round(1.6 * image.width / len(text))))
            draw.text((image.width / 2, middle), text, ink, default_font(size), anchor="mm")
    return canvas


def meme_matrix(before: Size, after: Size, above: str, below: str, height: float, dark: bool) -> np.ndarray:
    return _placed((0, _bars(before, above, below, height)[0]), before, after)


def screenshot(image: Image.Image, bars: Sequence[float], margin: float, dark: bool) -> Image.Image:
    """A screen that shows the picture: a bar above with clock and icons, one below with buttons, plain sides.

    bars: heights (above, below) as fractions of the picture's height · margin: width of each side as a fraction of its
    width.
    """
    left, top, bottom = _screen(image.size, bars, margin)
    ground, ink = ((24, 24, 26), (230, 230, 230)) if dark else ((248, 248, 250), (40, 40, 40))
    canvas = Image.new("RGB", (image.width + 2 * left, image.height + top + bottom), ground)
    canvas.paste(image, (left, top))
    draw, width = ImageDraw.Draw(canvas), canvas.width
    small = max(6, round(top * 0.5))
    draw.text((width * 0.04, top / 2), "12:41", ink, default_font(small), anchor="lm")
    for number in range(3):
        x = width * (0.96 - 0.06 * number)
        draw.rectangle((x - small * 0.7, top / 2 - small / 3, x, top / 2 + small / 3), outline=ink)
    centre, radius = canvas.height - bottom / 2, max(2.0, bottom * 0.22)
    for number in range(4):
        x = width * (number + 0.5) / 4
        draw.ellipse((x - radius, centre - radius, x + radius, centre + radius), outline=ink, width=2)
    return canvas


def screenshot_matrix(before: Size, after: Size, bars: Sequence[float], margin: float, dark: bool) -> np.ndarray:
    left, top, _ = _screen(before, bars, margin)
    return _placed((left, top), before, after)


def collage(image: Image.Image, rows: int, columns: int, place: int, gap: float, picture: Image.Image) -> Image.Image:
    """One cell of a grid; the others show parts of another picture. The picture keeps its size.

    place: cell of the image, row by row · gap: white lines between cells, a fraction of the shorter side.
    """
    line, (width, height) = round(gap * min(image.size)), image.size
    canvas = Image.new("RGB", (columns * width + (columns - 1) * line, rows * height + (rows - 1) * line), "white")
    sheet = ImageOps.fit(picture, (columns * width, rows * height), Image.Resampling.BICUBIC)
    for cell in range(rows * columns):
        row, column = divmod(cell, columns)
        box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
        part = image if cell == place else sheet.crop(box)
        canvas.paste(part, (column * (width + line), row * (height + line)))
    return canvas


def collage_matrix(before: Size, after: Size, rows: int, columns: int, place: int, gap: float, **_: Any) -> np.ndarray:
    line, (row, column) = round(gap * min(before)), divmod(place, columns)
    return _placed((column * (before[0] + line), row * (before[1] + line)), before, after)


def rephotograph(
    image: Image.Image, corners: Sequence[Sequence[float]], fill: Colour, stripes: float, period: float, glow: float
) -> Image.Image:
    """A photo of a screen: tilted, with moiré stripes (strength 0–1, `period` px) and light from one side (0–1)."""
    pixels = np.asarray(perspective(image, corners, fill), np.float64)
    y, x = np.mgrid[0 : image.height, 0 : image.width].astype(np.float64)
    wave = np.sin(2 * np.pi * (x + 0.15 * y) / period) + np.sin(2 * np.pi * (y - 0.1 * x) / (1.07 * period))
    light = 1 + glow * (x / max(1, image.width - 1) - 0.5)
    pixels = pixels * np.round((1 + stripes * wave / 2) * light, 6)[..., None]
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def rephotograph_matrix(before: Size, after: Size, corners: Sequence[Sequence[float]], **_: Any) -> np.ndarray:
    return perspective_matrix(before, after, corners, (0, 0, 0))


def _placed(corner: Size, before: Size, after: Size) -> np.ndarray:
    """The picture at its own size, its top left at `corner` of the canvas."""
    return np.array([[before[0] / after[0], 0, corner[0] / after[0]], [0, before[1] / after[1], corner[1] / after[1]],
                     [0, 0, 1.0]])  # fmt: skip


def _cell(size: Size, count: int) -> Size:
    return max(1, round(size[0] / count)), max(1, round(size[1] / count))


def _bars(size: Size, above: str, below: str, height: float) -> tuple[int, int]:
    bar = max(8, round(height * size[1]))
    return (bar if above else 0), (bar if below else 0)


def _screen(size: Size, bars: Sequence[float], margin: float) -> tuple[int, int, int]:
    return round(margin * size[0]), max(8, round(bars[0] * size[1])), max(8, round(bars[1] * size[1]))
