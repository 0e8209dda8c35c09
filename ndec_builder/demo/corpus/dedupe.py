"""Which pictures are the same picture: re-saved, resized, recoloured or mirrored twins, found by their structure.

The structure of a picture is the map of its edges, without colour: a recolour of a drawing is arguably an edited copy
("filtered"), so two family members with one structure must not count as a hard negative pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 64  # the edge map is computed at 64×64 pixels …
CELLS = 32  # … and averaged to 32×32, so that a shift of a pixel or two does not hide a twin
SAME = 0.90  # cosine from which two structures are one picture (seen on sheets: recolours lie above, siblings below)
_BORDER = 12  # grey levels by which content differs from a plain border


def structure(image: Image.Image) -> np.ndarray:
    """Return (2, 1024) float32: edge strength on a 32×32 grid over the content, each row of mean 0 and length 1.

    Row 0 takes the largest edge over the colour channels (finds recolours), row 1 the edges of the grey picture (finds
    grey versions). A plain border (a drawing on white) is cut off first, since it would make all small drawings look
    alike; the content is stretched to a square. A picture without any edge gives zeros, which resemble nothing.
    """
    rgb = np.asarray(_content(image).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    grey = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.stack([_edge_map(rgb), _edge_map(grey[..., None])])


def _edge_map(channels: np.ndarray) -> np.ndarray:
    """(64, 64, c) → (1024,): square-rooted edge strength, so that one strong line does not outweigh the rest."""
    down, right = np.gradient(channels, axis=(0, 1))
    edges = np.sqrt(np.hypot(down, right).max(axis=2))
    cells = edges.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean(axis=(1, 3))
    vector = (cells - cells.mean()).ravel()
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 1e-3 else np.zeros_like(vector)).astype(np.float32)


def mirrored(structures: np.ndarray) -> np.ndarray:
    """(n, 2, 1024) structures of the same pictures flipped left to right."""
    return structures.reshape(-1, 2, CELLS, CELLS)[..., ::-1].reshape(-1, 2, CELLS * CELLS)


def twins(structures: np.ndarray, threshold: float = SAME, block: int = 512) -> list[tuple[int, int]]:
    """Return all pairs (i, j), i < j ascending, of (n, 2, 1024) structures whose cosine is ≥ `threshold`.

    The cosine of two pictures is the larger of both rows', as they are or with one mirrored.
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
    """Indices to keep so that no pair of twins is left: walk in order, drop what has a kept twin before it."""
    before: dict[int, list[int]] = {}
    for i, j in pairs:
        before.setdefault(j, []).append(i)
    kept: set[int] = set()
    for index in range(count):
        if not any(i in kept for i in before.get(index, ())):
            kept.add(index)
    return sorted(kept)


def content_share(image: Image.Image) -> float:
    """Share of the area that is left when a plain border is cut off, 0…1; 1 for a picture that is plain throughout."""
    content = _content(image)
    return content.width * content.height / (image.width * image.height)


def is_plain(image: Image.Image) -> bool:
    """Whether the picture shows next to nothing (white on white, fog): its grey levels spread less than 6."""
    return float(np.asarray(image.convert("L"), dtype=np.float32).std()) < 6


def _content(image: Image.Image) -> Image.Image:
    """Cut off a plain border of the corner's colour; a picture that is plain throughout stays as it is."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    differs = np.abs(pixels - pixels[0, 0]).max(axis=2) > _BORDER
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if len(rows) < 2 or len(columns) < 2:
        return image.convert("RGB")
    return image.convert("RGB").crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
