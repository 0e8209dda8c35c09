"""Compare the edges of a pair: filters of image editors change all tones and leave the outlines where they are.

Inverting a picture turns the frame of each SIFT keypoint by 180°, so its descriptor is the same numbers in another
order. Where a pair has few inliers, both orders of each keypoint of the query are matched: some filters (solarise,
edge, emboss) invert only a part of the picture.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from ndec_builder.candidates.geometry import alignment
from ndec_builder.candidates.geometry.fitting import Geometry, fit_if_better, fit_pictures
from ndec_builder.candidates.geometry.homography import project
from ndec_builder.candidates.geometry.keypoints import DescribedPicture
from ndec_builder.training.fused.thumbnails import SQUARE, centred_unit

EDGES = ("by_edges", "edge_local", "edge_median", "edge_whole", "thumb_edges", "thumb_negative")
_FEW_INLIERS = 20  # with fewer, inverted keypoints are matched as well
_STRENGTH = 8.0  # grey levels of an edge, times the root of its gradient: weak outlines count too
_GRID = 16  # points per side
_TILE = 32  # px
_LEAST_EDGE = 4.0  # standard deviation of the strength in a tile; with less it has no edge
_BLUR = 1.5  # px: edges are thin, and homographies are exact to about a pixel


def _inverted_order() -> np.ndarray:
    """The order of the 128 SIFT numbers in the inverted picture, (128,) int64: 4 rows and 4 columns reversed."""
    row, column, direction = np.meshgrid(np.arange(4), np.arange(4), np.arange(8), indexing="ij")
    return ((3 - row) * 4 + 3 - column).ravel() * 8 + direction.ravel()


INVERTED_ORDER = _inverted_order()


def edge_map(grey: np.ndarray) -> np.ndarray:
    """Strength of the edges of a picture (h, w) uint8, the same type; tones do not matter.

    In whole numbers, because the last bit of a filter in float32 depends on the alignment of the memory.
    """
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    across, down = (cv2.Sobel(smooth, cv2.CV_16S, *order, ksize=3).astype(np.int32) for order in ((1, 0), (0, 1)))
    strength = np.sqrt(across * across + down * down)
    np.sqrt(strength, out=strength)  # faster than a power; rounded to whole numbers, both are the same
    strength *= _STRENGTH
    whole = np.minimum(np.rint(strength, out=strength), 255, out=strength).astype(np.uint8)
    result: np.ndarray = cv2.GaussianBlur(whole, (0, 0), _BLUR)
    return result


def edge_square(grey: np.ndarray) -> np.ndarray:
    """The edges of the complete picture, (SQUARE, SQUARE) float32 with mean 0 and length 1; all 0 without any."""
    small: np.ndarray = cv2.resize(edge_map(grey), (SQUARE, SQUARE), interpolation=cv2.INTER_AREA)
    return centred_unit(small.astype(np.float32))


def fit_either_tone(query: DescribedPicture, reference: DescribedPicture) -> tuple[Geometry, bool]:
    """The geometry of a pair, and whether it needed inverted keypoints.

    In that case its correlations compare edges. More inliers win, a tie goes to the plain keypoints.
    """
    plain = fit_pictures(query, reference)
    if plain.inliers >= _FEW_INLIERS or not len(query.points):
        return plain, False
    both = replace(
        query,
        points=np.concatenate([query.points, query.points]),
        descriptors=np.concatenate([query.descriptors, query.descriptors[:, INVERTED_ORDER]]),
    )
    other = fit_if_better(both, reference, plain.inliers, lambda one: replace(one, grey=edge_map(one.grey)))
    return (plain, False) if other is None else (other, True)


def edge_agreement(query: DescribedPicture, reference: DescribedPicture, geometry: Geometry) -> tuple[float, ...]:
    """edge_local, edge_median and edge_whole of a fitted pair: correlations of aligned edges; NaN without any."""
    if geometry.homography is None:
        return np.nan, np.nan, np.nan
    if geometry.mirrored:
        query = query.mirrored()
    matrix = reference.to_working @ geometry.homography @ np.linalg.inv(query.to_working)
    centre = _middle_of_overlap(matrix, query.size, reference.size)
    if centre is None:
        return np.nan, np.nan, np.nan
    aligned = alignment.align_pair(query, reference, matrix, centre)
    valid = cv2.erode(aligned.valid.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0) > 0
    if valid.sum() < _TILE**2 / 2:
        return np.nan, np.nan, np.nan
    greys = (np.clip(np.rint(one), 0, 255).astype(np.uint8) for one in (aligned.query, aligned.reference))
    one, other = (edge_map(grey).astype(np.int64) for grey in greys)
    values = _tile_correlations(one, other, valid)
    local, median = np.quantile(values, (0.2, 0.5)) if len(values) else (np.nan, np.nan)
    return float(local), float(median), alignment.correlation(one[valid], other[valid])


def _tile_correlations(one: np.ndarray, other: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Correlation of whole numbers in tiles of about _TILE px, (n,) float64, not in half-empty or flat ones."""
    rows, columns = (np.linspace(0, side, max(1, round(side / _TILE)) + 1).astype(int)[:-1] for side in valid.shape)

    def summed(values: np.ndarray) -> np.ndarray:
        inside = np.where(valid, values, 0)
        sums: np.ndarray = np.add.reduceat(np.add.reduceat(inside, rows, axis=0), columns, axis=1).ravel()
        return sums.astype(np.float64)

    pixels = np.add.reduceat(np.add.reduceat(np.ones(valid.shape, np.int64), rows, axis=0), columns, axis=1).ravel()
    count = summed(np.ones(valid.shape, np.int64))
    a, b, aa, bb, ab = (summed(values) for values in (one, other, one * one, other * other, one * other))
    kept = count > pixels / 2
    count, a, b, aa, bb, ab = (values[kept] for values in (count, a, b, aa, bb, ab))
    first, second = (np.maximum(squares / count - (sums / count) ** 2, 0) for sums, squares in ((a, aa), (b, bb)))
    seen = np.maximum(first, second) >= _LEAST_EDGE**2
    covariance = ab / count - a * b / count**2
    result: np.ndarray = (covariance / np.sqrt(np.maximum(first * second, 1.0)))[seen]
    return np.clip(result, -1, 1)


def _middle_of_overlap(matrix: np.ndarray, size: tuple[int, int], target: tuple[int, int]) -> np.ndarray | None:
    """The mean of the points of the query that land inside the reference, (2,); None without any."""
    x, y = ((np.arange(_GRID) + 0.5) / _GRID * side - 0.5 for side in size)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    mapped, before = project(matrix, points)
    inside = before & (mapped >= 0).all(axis=1) & (mapped < np.array(target)).all(axis=1)
    return points[inside].mean(axis=0) if inside.any() else None
