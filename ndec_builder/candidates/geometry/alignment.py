"""Aligns two pictures and measures how far they cover each other and how well their tiles agree."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from ndec_builder.candidates.geometry.homography import jacobian, project
from ndec_builder.candidates.geometry.keypoints import DescribedPicture

GRID = 80  # points per side for measuring areas: shares are exact to about 1 %
_TILE = 32  # px
_TILE_STEP = 24  # px between tiles: they overlap, so the border of one is inside another
SHIFT = 8.0  # px; a tile that moves further has no match
AGREEING = 0.9  # correlation above which a tile shows the same pixels
_MIN_VALID = 0.8  # share of a tile that both pictures must cover
_MIN_CONTRAST = 3.0  # standard deviation in grey levels; a tile with less carries no information


@dataclass(frozen=True, eq=False)
class AlignedPair:
    """Both pictures in the frame of the coarser one: grey (h, w) float32; valid (h, w) bool: pixels that both cover."""

    query: np.ndarray
    reference: np.ndarray
    valid: np.ndarray
    in_query: bool  # whether this is the frame of the query


@dataclass(frozen=True)
class Agreement:
    """Correlations after alignment, −1..1; NaN if no tile can be compared."""

    local: float  # 20 % quantile over tiles
    median: float  # of the tiles
    agreeing: float  # share of the tiles with a correlation of at least AGREEING
    whole: float  # over all pixels that both cover
    shift: float  # 80 % quantile of the best shift of tiles, px: parallax and motion shift them


_NO_AGREEMENT = Agreement(np.nan, np.nan, np.nan, np.nan, np.nan)


def inside_share(matrix: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> float:
    """Share of a picture (width, height) that a homography of pixels maps inside another picture, 0..1."""
    (w, h), (tw, th) = source, target
    mapped, before = project(matrix, _grid(w, h))
    inside = before & (mapped >= -0.5).all(1) & (mapped[:, 0] <= tw - 0.5) & (mapped[:, 1] <= th - 0.5)
    return float(inside.mean())


@functools.lru_cache(maxsize=64)
def _grid(width: int, height: int) -> np.ndarray:
    """GRID × GRID points spread over a picture, (n, 2)."""
    x, y = ((np.arange(GRID) + 0.5) / GRID * side - 0.5 for side in (width, height))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def align_pair(
    query: DescribedPicture, reference: DescribedPicture, matrix: np.ndarray, centre: np.ndarray
) -> AlignedPair:
    """Warp the finer picture onto the coarser one. `matrix`: query → reference; `centre` (2,) of the inliers."""
    scale = float(np.sqrt(abs(np.linalg.det(jacobian(matrix, centre)))))
    in_query = scale > 1  # one query pixel covers several reference pixels: the reference is finer
    fine, coarse = (reference, query) if in_query else (query, reference)
    ratio = max(scale, 1 / scale)
    sharp: np.ndarray = fine.grey.astype(np.float32)
    if ratio > 1.2:  # remove detail that the coarser picture cannot show
        sharp = cv2.GaussianBlur(sharp, (0, 0), 0.5 * ratio)
    to_coarse = np.linalg.inv(matrix) if in_query else matrix
    size = coarse.size
    warped = cv2.warpPerspective(sharp, to_coarse, size, flags=cv2.INTER_LINEAR)
    filled = cv2.warpPerspective(np.ones(fine.grey.shape, np.uint8), to_coarse, size, flags=cv2.INTER_NEAREST) > 0
    still, moved = (cv2.GaussianBlur(one, (0, 0), 1.0) for one in (coarse.grey.astype(np.float32), warped))
    valid = cv2.erode(filled.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    return AlignedPair(still, moved, valid, True) if in_query else AlignedPair(moved, still, valid, False)


def measure_agreement(aligned: AlignedPair) -> Agreement:
    """Correlate the aligned pictures tile by tile, without tiles that lack contrast in both or are partly empty."""
    valid = aligned.valid
    if valid.sum() < _TILE:
        return _NO_AGREEMENT
    whole = correlation(aligned.query[valid], aligned.reference[valid])
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    tall, wide = (min(_TILE, int(ends[-1] - ends[0]) + 1) for ends in (rows, columns))
    starts = (_starts(rows[0], rows[-1] + 1, tall), _starts(columns[0], columns[-1] + 1, wide))
    count, a, b, aa, bb, ab = _tile_sums(aligned, (wide, tall), starts)
    kept = count >= _MIN_VALID * tall * wide
    count, a, b, aa, bb, ab = (values[kept] for values in (count, a, b, aa, bb, ab))
    first, second = (np.maximum(squares / count - (sums / count) ** 2, 0) for sums, squares in ((a, aa), (b, bb)))
    clear = np.maximum(first, second) >= _MIN_CONTRAST**2
    if not clear.any():
        return Agreement(np.nan, np.nan, np.nan, whole, np.nan)
    covariance = ab / count - a * b / count**2
    values = (covariance / np.sqrt(np.maximum(first * second, 1e-6)))[clear]
    textured = np.zeros(kept.shape, bool)
    textured[kept] = np.minimum(first, second) >= _MIN_CONTRAST**2
    low, middle = map(float, np.quantile(values, (0.2, 0.5)))
    return Agreement(
        low, middle, float((values >= AGREEING).mean()), whole, _shift(aligned, textured, starts, (wide, tall))
    )


def _tile_sums(
    aligned: AlignedPair, size: tuple[int, int], starts: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Sums over the valid pixels of each tile: count, query, reference, their squares and product, each (n, m)."""
    valid = aligned.valid.astype(np.float64)
    centre = float(aligned.query[aligned.valid].mean(dtype=np.float64))  # subtracted: squares stay small
    a, b = ((one.astype(np.float64) - centre) * valid for one in (aligned.query, aligned.reference))
    rows, columns = starts[0] + size[1] // 2, starts[1] + size[0] // 2
    sums = [
        cv2.boxFilter(one, cv2.CV_64F, size, normalize=False, borderType=cv2.BORDER_CONSTANT)[np.ix_(rows, columns)]
        for one in (valid, a, b, a * a, b * b, a * b)
    ]
    return tuple(sums)


def _shift(
    aligned: AlignedPair, textured: np.ndarray, starts: tuple[np.ndarray, np.ndarray], size: tuple[int, int]
) -> float:
    """80 % quantile of the shift of the centres of textured tiles (n, m) bool between the pictures, in px up to SHIFT.

    NaN without a textured tile.
    """
    if not textured.any():
        return float("nan")
    row, column = np.nonzero(textured)
    points = np.stack([starts[1][column] + size[0] / 2, starts[0][row] + size[1] / 2], axis=1).astype(np.float32)
    valid = aligned.valid
    target, source = aligned.reference, aligned.query
    here, there = source[valid], target[valid]
    gain = there.std() / max(float(here.std()), 1e-3)  # differences in brightness and contrast must not count as motion
    source = np.where(valid, (source - here.mean()) * gain + there.mean(), target)
    before, after = (np.clip(np.rint(one), 0, 255).astype(np.uint8) for one in (source, target))
    starts_at = points[:, None]
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, starts_at, starts_at.copy(), winSize=(25, 25), maxLevel=1)
    ways = np.linalg.norm(moved[:, 0] - points, axis=1)[found.ravel() > 0]
    return float(np.quantile(np.minimum(ways, SHIFT), 0.8)) if len(ways) else float("nan")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two samples in float64; 0 when one is constant."""
    a, b = a.astype(np.float64) - a.mean(dtype=np.float64), b.astype(np.float64) - b.mean(dtype=np.float64)
    norm = np.sqrt((a * a).sum() * (b * b).sum())  # not a @ a: its last bits depend on the number of threads
    return float((a * b).sum() / norm) if norm > 1e-9 else 0.0


def _starts(low: int, high: int, length: int) -> np.ndarray:
    """Tile starts in [low, high), about STEP apart, the last one ending at `high`."""
    count = max(1, int(np.ceil((high - low - length) / _TILE_STEP)) + 1)
    return np.unique(np.rint(np.linspace(low, high - length, count)).astype(int))
