"""Operations that add new content: text, stickers, another picture on top or behind."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ndec_builder.core.errors import NdecError
from ndec_builder.edits.geometry import Colour, Size, pixel_box

STICKERS = ("face", "star", "heart", "bubble")
_SUPERSAMPLE = 4  # stickers are drawn larger and scaled down for smooth edges


class HashedPictures(tuple[Image.Image, ...]):
    """Pictures to paste copies on. Their pixels are hashed once, not for every copy; they must not change."""

    @functools.cached_property
    def sha256(self) -> list[str]:
        return [pixels_sha256(picture) for picture in self]


def text(
    image: Image.Image, text: str, position: Sequence[float], height: float, colour: Colour, opacity: float
) -> Image.Image:
    """Write `text` at `position` (fractions, its top left); letters are `height` × the shorter side, at least 6 px."""
    font = default_font(max(6, round(height * min(image.size))))
    layer = Image.new("L", image.size, 0)
    ImageDraw.Draw(layer).text(
        (position[0] * image.width, position[1] * image.height), text, font=font, fill=round(255 * opacity)
    )
    return _through(image, layer, colour)


def sticker(image: Image.Image, shape: str, centre: Sequence[float], diameter: float, colour: Colour) -> Image.Image:
    """Draw one of STICKERS, `diameter` × the shorter side wide, centred at `centre` (fractions)."""
    side = max(8, round(diameter * min(image.size)))
    mark = _draw_sticker(shape, side * _SUPERSAMPLE, colour).resize((side, side), Image.Resampling.BOX)
    left, top = round(centre[0] * image.width - side / 2), round(centre[1] * image.height - side / 2)
    result = image.copy()
    result.paste(mark.convert("RGB"), (left, top), mark.getchannel("A"))
    return result


def overlay(image: Image.Image, box: Sequence[float], opacity: float, picture: Image.Image) -> Image.Image:
    """Blend another picture over the box (fractions)."""
    left, top, right, bottom = pixel_box(image.size, box)
    patch = ImageOps.fit(picture, (right - left, bottom - top), Image.Resampling.BICUBIC)
    result = image.copy()
    result.paste(Image.blend(image.crop((left, top, right, bottom)), patch, opacity), (left, top))
    return result


def underlay(image: Image.Image, box: Sequence[float], picture: Image.Image) -> Image.Image:
    """Paste the image into the box of another picture, which is resized so that the image keeps its size."""
    canvas = ImageOps.fit(picture, _canvas(image.size, box), Image.Resampling.BICUBIC)
    canvas.paste(image, _corner(canvas.size, image.size, box))
    return canvas


def underlay_matrix(before: Size, after: Size, box: Sequence[float], **_: Any) -> np.ndarray:
    (width, height), canvas = before, _canvas(before, box)
    left, top = _corner(canvas, before, box)
    return np.array([[width / canvas[0], 0, left / canvas[0]], [0, height / canvas[1], top / canvas[1]], [0, 0, 1.0]])


def _canvas(size: Size, box: Sequence[float]) -> Size:
    return max(size[0], round(size[0] / (box[2] - box[0]))), max(size[1], round(size[1] / (box[3] - box[1])))


def _corner(canvas: Size, size: Size, box: Sequence[float]) -> Size:
    return min(round(box[0] * canvas[0]), canvas[0] - size[0]), min(round(box[1] * canvas[1]), canvas[1] - size[1])


def procedural(seed: int, side: int = 256) -> Image.Image:
    """Make a background from a seed, a smooth colour field with a little grain. Used when no pictures are given."""
    rng = np.random.default_rng(seed)
    cells = int(rng.integers(2, 7))
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    field = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    grain = rng.standard_normal((side, side, 1), np.float32) * np.float32(rng.uniform(0, 12))
    return Image.fromarray(np.clip(np.rint(field + grain), 0, 255).astype(np.uint8))


def sample_background(rng: np.random.Generator, backgrounds: Sequence[Image.Image]) -> dict[str, Any]:
    """Choose a background: `{"index", "sha256"}` of a given picture, or the `{"seed"}` of a procedural one."""
    if not backgrounds:
        return {"seed": int(rng.integers(2**31))}
    index = int(rng.integers(len(backgrounds)))
    return {"index": index, "sha256": _background_sha256(backgrounds, index)}


def find_background(record: Mapping[str, Any], backgrounds: Sequence[Image.Image]) -> Image.Image:
    """The background that a record names. Raises NdecError when the picture at its index has changed."""
    if "seed" in record:
        return procedural(record["seed"])
    index = record["index"]
    if index >= len(backgrounds) or _background_sha256(backgrounds, index) != record["sha256"]:
        raise NdecError(
            f"the edit record was made with background number {index} (pixels' sha256 {record['sha256'][:12]}…), which "
            f"is not among the {len(backgrounds)} backgrounds given; pass the same backgrounds in the same order"
        )
    return backgrounds[index]


def _background_sha256(backgrounds: Sequence[Image.Image], index: int) -> str:
    return backgrounds.sha256[index] if isinstance(backgrounds, HashedPictures) else pixels_sha256(backgrounds[index])


@functools.lru_cache(maxsize=64)
def default_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's font of a size in px; Pillow would unpack it for every text."""
    return ImageFont.load_default(size)


def pixels_sha256(image: Image.Image) -> str:
    """sha256 of size and RGB bytes: two files with the same pixels are the same background."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.convert("RGB").tobytes()).hexdigest()


def _through(image: Image.Image, mask: Image.Image, colour: Colour) -> Image.Image:
    return Image.composite(Image.new("RGB", image.size, (colour[0], colour[1], colour[2])), image, mask)


def _draw_sticker(shape: str, side: int, colour: Colour) -> Image.Image:
    """Draw one of STICKERS on a transparent square of `side` px."""
    mark = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(mark)
    fill = (colour[0], colour[1], colour[2], 255)
    dark = (30, 30, 30, 255)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * side, top * side, right * side, bottom * side

    if shape == "face":
        draw.ellipse(box(0, 0, 1, 1), fill=fill)
        draw.ellipse(box(0.27, 0.28, 0.40, 0.44), fill=dark)
        draw.ellipse(box(0.60, 0.28, 0.73, 0.44), fill=dark)
        draw.arc(box(0.22, 0.25, 0.78, 0.80), 20, 160, fill=dark, width=max(1, side // 16))
    elif shape == "star":
        angles = np.pi * (np.arange(10) / 5 - 0.5)
        radii = np.where(np.arange(10) % 2, 0.2, 0.5) * side
        points = [(side / 2 + r * np.cos(a), side / 2 + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)]
        draw.polygon(points, fill=fill)
    elif shape == "heart":
        draw.ellipse(box(0.02, 0.08, 0.52, 0.58), fill=fill)
        draw.ellipse(box(0.48, 0.08, 0.98, 0.58), fill=fill)
        draw.polygon([(0.07 * side, 0.46 * side), (0.93 * side, 0.46 * side), (0.5 * side, 0.97 * side)], fill=fill)
    elif shape == "bubble":
        draw.rounded_rectangle(box(0.02, 0.05, 0.98, 0.7), radius=side // 6, fill=fill, outline=dark)
        draw.polygon([(0.2 * side, 0.68 * side), (0.42 * side, 0.68 * side), (0.15 * side, 0.97 * side)], fill=fill)
    else:
        raise NdecError(f"sticker {shape!r} is unknown; it is one of {', '.join(STICKERS)}")
    return mark
