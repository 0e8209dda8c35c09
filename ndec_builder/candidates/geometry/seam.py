"""Measures whether the query has a cut along the projected border of the reference, or its content continues there.

A copy that was padded or pasted on other content has a cut. A picture of which the reference is a crop has none.

AUC on 160 photos at 320 px, pasted copies against reverse crops: 1.00 for hard and rounded edges, .998 for soft ones
(σ 1.5 px), .97 for feathered ones (σ 4), .79 (σ 8), with the border misplaced by up to 2 px and 1 %.
"""

from __future__ import annotations

import cv2
import numpy as np

from ndec_builder.candidates.geometry.homography import project

REACH = 16  # px measured on each side of the border
_SLACK = 3  # px that the border may be misplaced by
WIDTHS = (2, 6, 12)  # px between compared pixels: the first finds hard edges, the last soft ones
SAMPLES = 160  # points per side of the reference
MIN_SAMPLES = 12  # points of a side that must be inside the query
_FLOOR = 2.0  # grey levels: steps from noise and compression


def seam(rgb: np.ndarray, to_query: np.ndarray, reference_size: tuple[int, int]) -> float:
    """Log of (step across the border / steps next to it): about 0 for continuing content, up to 4 for a hard cut.

    `rgb` (h, w, 3) uint8 is the query, `to_query` (3, 3) maps reference pixels to it. Averaged over the visible
    samples of the border. NaN if no part of the border is inside the query.
    """
    smooth = cv2.GaussianBlur(rgb, (0, 0), 0.7).astype(np.float32)
    height, width = rgb.shape[:2]
    total, weight = 0.0, 0
    for start, stop, outward in _sides(reference_size):
        along = np.linspace(start, stop, SAMPLES)
        border, before = project(to_query, along)
        beyond, before_too = project(to_query, along + outward)
        normal = beyond - border
        tangent = np.gradient(border, axis=0)
        across = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
        across *= np.sign((across * normal).sum(1, keepdims=True))
        length = np.linalg.norm(across, axis=1, keepdims=True)
        good = before & before_too & (length[:, 0] > 1e-6)
        across = across / np.maximum(length, 1e-6)
        ends = np.concatenate([border - REACH * across, border + REACH * across], axis=1)
        good &= (ends >= 0).all(1) & (ends[:, [0, 2]] <= width - 1).all(1) & (ends[:, [1, 3]] <= height - 1).all(1)
        if good.sum() < MIN_SAMPLES:
            continue
        offsets = np.arange(-REACH, REACH + 1)
        spots = (border[good][:, None] + offsets[None, :, None] * across[good][:, None]).astype(np.float32)
        profiles = cv2.remap(smooth, spots[..., 0], spots[..., 1], cv2.INTER_LINEAR)  # (samples, offsets, 3)
        total += _cut(profiles) * int(good.sum())
        weight += int(good.sum())
    return total / weight if weight else float("nan")


def _cut(profiles: np.ndarray) -> float:
    """The strongest log ratio over WIDTHS, for profiles (k, 2·REACH + 1, 3) across the border, inside to outside."""
    best = -np.inf
    for width in WIDTHS:
        steps = np.abs(profiles[:, width:] - profiles[:, :-width]).max(axis=2).mean(axis=0)
        centre = np.arange(len(steps)) + width / 2 - REACH  # the middle of each step
        across = steps[np.abs(centre) <= _SLACK].max()
        outside = steps[np.abs(centre) > _SLACK + width / 2].mean()
        best = max(best, float(np.log((across + _FLOOR) / (outside + _FLOOR))))
    return best


def _sides(size: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The four sides of a picture: start, stop, outward step. The border is half a pixel outside the outer pixels."""
    w, h = size
    corners = [np.array(c) for c in ((-0.5, -0.5), (w - 0.5, -0.5), (w - 0.5, h - 0.5), (-0.5, h - 0.5))]
    outward = [np.array(o, float) for o in ((0, -1), (1, 0), (0, 1), (-1, 0))]
    return [(corners[i], corners[(i + 1) % 4], outward[i]) for i in range(4)]
