"""Find twins: re-saved, resized, recoloured or mirrored versions of one picture, by their structure.

The structure of a picture is its edge map, without colour. A recoloured drawing is arguably an edited copy
("filtered"), so two family members with the same structure must not count as a hard negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

_SIDE = 64  # the edge map is computed at 64×64 pixels …
CELLS = 32  # … and averaged to 32×32, so that a shift by a pixel or two does not matter
SAME = 0.90  # cosine from which two pictures are twins (checked by eye: recolours are above, siblings below)
_BORDER = 12  # content differs from a plain border by more grey levels than this


def structure(image: Image.Image) -> np.ndarray:
    """Return (2, 1024) float32: edge strength on a 32×32 grid over the content, each row of mean 0 and length 1.

    Row 0 is the largest edge over the colour channels (finds recolours), row 1 the edges of the grey picture (finds
    grey versions). A plain border (a drawing on white) is cropped first, since it would make all small drawings look
    alike. The content is stretched to a square. A picture without edges gives zeros, which match nothing.
    """
    rgb = np.asarray(_content(image).resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32)
    grey = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.stack([_edge_map(rgb), _edge_map(grey[..., None])])


def _edge_map(channels: np.ndarray) -> np.ndarray:
    """(64, 64, c) → (1024,): square root of the edge strength, so that one strong line does not dominate."""
    down, right = np.gradient(channels, axis=(0, 1))
    edges = np.sqrt(np.hypot(down, right).max(axis=2))
    cells = edges.reshape(CELLS, _SIDE // CELLS, CELLS, _SIDE // CELLS).mean(axis=(1, 3))
    vector = (cells - cells.mean()).ravel()
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 1e-3 else np.zeros_like(vector)).astype(np.float32)


def mirrored(structures: np.ndarray) -> np.ndarray:
    """(n, 2, 1024) structures of the same pictures flipped left to right."""
    return structures.reshape(-1, 2, CELLS, CELLS)[..., ::-1].reshape(-1, 2, CELLS * CELLS)


def twins(structures: np.ndarray, threshold: float = SAME, block: int = 512) -> list[tuple[int, int]]:
    """Return all pairs (i, j), i < j ascending, of (n, 2, 1024) structures whose cosine is ≥ `threshold`.

    The cosine of two pictures is the largest over both rows, with and without mirroring one of them.
    """
    flipped = mirrored(structures)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(structures), block):
        stop = min(start + block, len(structures))
        cosine = np.full((stop - start, len(structures)), -1.0, dtype=np.float32)
        for others in (structures, flipped):
            for row in (0, 1):
                np.maximum(cosine, structures[start:stop, row] @ others[:, row].T, out=cosine)
        pairs += [(start + int(i), int(j)) for i, j in np.argwhere(cosine >= threshold) if start + i < j]
    return pairs


def keep_one(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Indices to keep so that no twins remain: in order, drop each picture that has a kept twin before it."""
    before: dict[int, list[int]] = {}
    for i, j in pairs:
        before.setdefault(j, []).append(i)
    kept: set[int] = set()
    for index in range(count):
        if not any(i in kept for i in before.get(index, ())):
            kept.add(index)
    return sorted(kept)


def content_share(image: Image.Image) -> float:
    """Share of the area inside the plain border, 0…1; 1 for a picture of one colour."""
    content = _content(image)
    return content.width * content.height / (image.width * image.height)


def is_plain(image: Image.Image) -> bool:
    """Whether the picture shows almost nothing (white on white, fog): its grey levels have a deviation below 6."""
    return float(np.asarray(image.convert("L"), dtype=np.float32).std()) < 6


def _content(image: Image.Image) -> Image.Image:
    """Crop a plain border of the corner's colour; a picture of one colour is unchanged."""
    image = image.convert("RGB")
    pixels = np.asarray(image)
    height, width, _ = pixels.shape
    # Flat rows of bytes and no wider numbers: a third of the time of differences by pixel.
    corner = np.tile(pixels[0, 0].astype(np.int16), width)
    low, high = (np.clip(corner + by, 0, 255).astype(np.uint8) for by in (-_BORDER, _BORDER))
    flat = pixels.reshape(height, -1)
    differs = (flat < low) | (flat > high)
    rows = np.flatnonzero(differs.any(axis=1))
    columns = np.flatnonzero(differs.any(axis=0).reshape(width, -1).any(axis=1))
    if len(rows) < 2 or len(columns) < 2:
        return image
    return image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
