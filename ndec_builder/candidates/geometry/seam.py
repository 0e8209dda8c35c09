"""Measures whether the query has a cut along the projected border of the reference, or its content continues there.

A copy that was padded or pasted on other content has a cut. A picture of which the reference is a crop has none.

AUC on 160 photos at 320 px, pasted copies against reverse crops: 1.00 for hard and rounded edges, .998 for soft ones
(σ 1.5 px), .97 for feathered ones (σ 4), .79 (σ 8), with the border misplaced by up to 2 px and 1 %.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from ndec_builder.candidates.geometry.homography import project

REACH = 16  # px measured on each side of the border
_SLACK = 3  # px that the border may be misplaced by
WIDTHS = (2, 6, 12)  # px between compared pixels: the first finds hard edges, the last soft ones
SAMPLES = 160  # points per side of the reference
MIN_SAMPLES = 12  # points of a side that must be inside the query
_FLOOR = 2.0  # grey levels: steps from noise and compression
_OFFSETS = np.arange(-REACH, REACH + 1)


def seam(rgb: np.ndarray, to_query: np.ndarray, reference_size: tuple[int, int]) -> float:
    """Log of (step across the border / steps next to it): about 0 for continuing content, up to 4 for a hard cut.

    `rgb` (h, w, 3) uint8 is the query, `to_query` (3, 3) maps reference pixels to it. Averaged over the visible
    samples of the border. NaN if no part of the border is inside the query.
    """
    smooth = cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(np.float32)
    height, width = rgb.shape[:2]
    along, beyond = _sides(*reference_size)
    mapped, depth = project(to_query, np.concatenate([along, beyond]).reshape(-1, 2))
    border, outside = mapped.reshape(2, 4, SAMPLES, 2)
    before = depth.reshape(2, 4, SAMPLES).all(axis=0)
    tangent = np.gradient(border, axis=1)
    across = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    across *= np.sign((across * (outside - border)).sum(-1, keepdims=True))
    length = np.linalg.norm(across, axis=-1, keepdims=True)
    across = across / np.maximum(length, 1e-6)
    ends = np.stack([border - REACH * across, border + REACH * across])
    inside = ((ends >= 0) & (ends <= (width - 1, height - 1))).all(axis=(0, 3))
    good = before & (length[..., 0] > 1e-6) & inside
    good &= good.sum(axis=1, keepdims=True) >= MIN_SAMPLES
    counts = good.sum(axis=1)
    if not counts.any():
        return float("nan")
    spots = (border[good][:, None] + _OFFSETS[None, :, None] * across[good][:, None]).astype(np.float32)
    profiles = cv2.remap(smooth, spots[..., 0], spots[..., 1], cv2.INTER_LINEAR)  # (samples, offsets, 3)
    sides = np.split(profiles, np.cumsum(counts)[:-1])
    total = sum(_cut(side) * count for side, count in zip(sides, counts.tolist(), strict=True) if count)
    return total / int(counts.sum())


def _cut(profiles: np.ndarray) -> float:
    """The strongest log ratio over WIDTHS, for profiles (k, 2·REACH + 1, 3) across the border, inside to outside."""
    best = -np.inf
    for width in WIDTHS:
        red, green, blue = np.moveaxis(np.abs(profiles[:, width:] - profiles[:, :-width]), 2, 0)
        steps = np.maximum(np.maximum(red, green), blue).mean(axis=0)
        centre = np.arange(len(steps)) + width / 2 - REACH  # the middle of each step
        across = steps[np.abs(centre) <= _SLACK].max()
        outside = steps[np.abs(centre) > _SLACK + width / 2].mean()
        best = max(best, float(np.log((across + _FLOOR) / (outside + _FLOOR))))
    return best


@functools.lru_cache(maxsize=64)
def _sides(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples (4, SAMPLES, 2) along the four sides of a picture, and the points one pixel further out.

    The border is half a pixel outside the outer pixels.
    """
    corners = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)])
    along = np.linspace(corners, np.roll(corners, -1, axis=0), SAMPLES, axis=1)
    return along, along + np.array([(0, -1), (1, 0), (0, 1), (-1, 0)], float)[:, None]
