"""Operations that change pixel values and leave the pixels in place."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps, ImageStat


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Encode as JPEG of the given quality (1–95) and decode again."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def jitter(image: Image.Image, brightness: float, contrast: float, saturation: float) -> Image.Image:
    """Scale brightness, contrast and saturation by factors; 1 changes nothing."""
    image = image.point(_towards(0, brightness))
    mean = int(ImageStat.Stat(image.convert("L")).mean[0] + 0.5)
    return ImageEnhance.Color(image.point(_towards(mean, contrast))).enhance(saturation)


def _towards(level: int, factor: float) -> list[int]:
    """The table (3 × 256) of what `ImageEnhance` does to each value: `factor` 0 turns all into `level`, 1 into itself.

    Blending one row of all values costs less than blending the picture.
    """
    values = Image.frombytes("L", (256, 1), bytes(range(256)))
    return list(Image.blend(Image.new("L", (256, 1), level), values, factor).tobytes()) * 3


def grayscale(image: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def blur(image: Image.Image, radius: float) -> Image.Image:
    """Gaussian blur; the radius is a fraction of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(radius * min(image.size)))


def sharpen(image: Image.Image, percent: int) -> Image.Image:
    """Unsharp mask of radius 2 px."""
    return image.filter(ImageFilter.UnsharpMask(radius=2, percent=percent, threshold=2))


def noise(image: Image.Image, sigma: float, seed: int) -> Image.Image:
    """Add Gaussian noise of `sigma` grey levels, independent in every pixel and channel."""
    pixels = np.random.default_rng(seed).standard_normal((image.height, image.width, 3), np.float32)
    pixels *= np.float32(sigma)
    pixels += np.asarray(image)
    return _to_image(pixels)


def pixelate(image: Image.Image, share: float) -> Image.Image:
    """Blocks as large as `share` of the shorter side."""
    block = max(1.0, share * min(image.size))
    small = (max(1, round(image.width / block)), max(1, round(image.height / block)))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def shuffle(image: Image.Image, share: float, radius: float, seed: int) -> Image.Image:
    """Replace a `share` of the pixels by a random neighbour within `radius` (fraction of the shorter side)."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    rng = np.random.default_rng(seed)
    reach = max(1, round(radius * min(height, width)))
    rows, columns = np.nonzero(rng.random((height, width)) < share)
    from_rows = np.clip(rows + rng.integers(-reach, reach + 1, len(rows)), 0, height - 1)
    from_columns = np.clip(columns + rng.integers(-reach, reach + 1, len(rows)), 0, width - 1)
    shuffled = pixels.copy()
    shuffled[rows, columns] = pixels[from_rows, from_columns]
    return Image.fromarray(shuffled)


def vignette(image: Image.Image, strength: float) -> Image.Image:
    """Darken towards the corners, by up to `strength` (0–1) in the corner itself."""
    x = np.linspace(-1, 1, image.width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, image.height, dtype=np.float32)[:, None]
    return _to_image(np.asarray(image, np.float32) * (1 - strength * (x**2 + y**2) / 2)[..., None])


def tint(image: Image.Image, colour: Sequence[int], opacity: float) -> Image.Image:
    """Blend the picture with one colour."""
    return Image.blend(image, Image.new("RGB", image.size, (colour[0], colour[1], colour[2])), opacity)


def _to_image(pixels: np.ndarray) -> Image.Image:
    whole = np.rint(pixels, out=pixels)
    return Image.fromarray(np.clip(whole, 0, 255, out=whole).astype(np.uint8))
