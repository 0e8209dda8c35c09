"""Pictures for tests: textured scenes from a seed, distinct enough for descriptors and rich enough for SIFT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def scene(seed: int, size: tuple[int, int] = (192, 144)) -> Image.Image:
    """A random scene: coarse coloured noise with shapes on it. Equal seeds give equal pixels."""
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(8, width // 3)), int(rng.integers(8, height // 3))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        shape = [draw.ellipse, draw.rectangle][int(rng.integers(0, 2))]
        shape((x, y, x + w, y + h), fill=colour, outline=(0, 0, 0))
    return image.filter(ImageFilter.GaussianBlur(0.6))


def write_scenes(folder: Path, count: int, first_seed: int = 0, suffix: str = ".png") -> list[Path]:
    """Write `count` scenes named scene-0000, scene-0001 … and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"scene-{first_seed + i:04d}{suffix}" for i in range(count)]
    for i, path in enumerate(paths):
        scene(first_seed + i).save(path)
    return paths


def textured(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A scene with detail at every scale, as photos have it: hundreds of keypoints."""
    rng = np.random.default_rng(seed)
    pixels = np.asarray(scene(seed, size), np.float32)
    for cells in (10, 24, 60):
        noise = rng.integers(0, 256, (cells * size[1] // size[0] + 1, cells, 3), dtype=np.uint8)
        pixels = (
            pixels + (np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), np.float32) - 128) / 3
        )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def crop(seed: int, share: float = 0.9) -> Image.Image:
    """The upper left part of `scene(seed)`."""
    picture = scene(seed)
    width, height = picture.size
    return picture.crop((0, 0, int(width * share), int(height * share)))
