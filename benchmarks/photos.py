"""Photo-like JPEGs of 1,024 px for the embedding benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIZE, QUALITY = (1024, 768), 90
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def make_photos(folder: Path, count: int, source: Path | None) -> str:
    """Write `count` JPEGs; returns in words what they are.

    From a folder of pictures: four different ones of at least 300 px side by side, so that there is detail as in a
    photo of that size (a small picture scaled up would be decoded too fast). Without: noise of the spectrum of natural
    images, 1/f, in three correlated channels, with edges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES) if source else []
    pictures = [path for path in pictures if min(Image.open(path).size) >= 300]
    if source and len(pictures) < 4:
        raise SystemExit(f"{source} holds {len(pictures)} pictures of at least 300 px; 4 are needed")
    total = 0
    for index in range(count):
        rng = np.random.default_rng(index)
        photo = _mosaic(pictures, rng) if pictures else _synthetic(rng)
        path = folder / f"photo-{index:05d}.jpg"
        photo.save(path, quality=QUALITY)
        total += path.stat().st_size
    kind = f"mosaics of {len(pictures)} pictures" if pictures else "synthesised photos"
    return f"{count} {kind}, {SIZE[0]}×{SIZE[1]} px, JPEG quality {QUALITY}, {total / count / 1000:.0f} kB on average"


def _mosaic(pictures: list[Path], rng: np.random.Generator) -> Image.Image:
    photo, (width, height) = Image.new("RGB", SIZE), (SIZE[0] // 2, SIZE[1] // 2)
    for place, chosen in enumerate(rng.choice(len(pictures), 4, replace=False)):
        tile = ImageOps.fit(Image.open(pictures[chosen]).convert("RGB"), (width, height), Image.Resampling.LANCZOS)
        photo.paste(tile, (place % 2 * width, place // 2 * height))
    return photo


def _synthetic(rng: np.random.Generator) -> Image.Image:
    height, width = SIZE[1], SIZE[0]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / width
    planes = []
    for _ in range(3):
        spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency
        plane = np.fft.irfft2(spectrum, s=(height, width))
        planes.append(plane / plane.std())
    luma = planes[0] + 0.8 * np.sign(planes[1])  # flat regions with sharp borders
    channels = [128 + 45 * luma + 12 * (planes[2] if index else planes[1]) for index in range(3)]
    return Image.fromarray(np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8))
