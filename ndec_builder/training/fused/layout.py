"""Compare complete pictures: a filter keeps the layout whatever it does to the tones, and editors whirl and tile.

Correlations and homographies miss these: tones that are no line of the reference's (solarised, threshold), pixels that
no homography moves (whirl, pinch, lens), and a picture repeated side by side. All sums are of whole numbers, so they
are exact in any order.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

LAYOUT = ("tones_explained", "bent", "bent_gain", "in_tiles")
_SIDE = 96  # px
_TONES = 16  # steps of the reference's tones
_RINGS, _ANGLES = 24, 48  # of the largest disk
_WHIRLS = np.deg2rad([angle for angle in range(-150, 151, 15) if angle])
_LENSES = (-0.6, -0.45, -0.3, -0.15, 0.15, 0.3, 0.45, 0.6)
_COUNTS = (2, 3, 4)  # copies per side of a tiled picture
_AS_GOOD = 0.98
_CELL = 24  # px per side, of such a copy


@dataclass(frozen=True, eq=False)
class Layout:
    """A small version of a picture, as compared with others."""

    tones: np.ndarray  # (side, side) uint8
    polar: np.ndarray  # (rings, angles) uint8: the largest disk around the centre, an ellipse of the given picture
    small: np.ndarray  # (cell, cell) float64 whole numbers

    @cached_property
    def bent(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of the bent disks, (bends,) float64. Of references only."""
        disks = self.polar.ravel()[_BENDS].astype(np.float64)
        means = disks @ _WEIGHTS / _WEIGHTS.sum()
        return means, (disks * disks) @ _WEIGHTS / _WEIGHTS.sum() - means**2

    @cached_property
    def tiling(self) -> tuple[float, np.ndarray]:
        """How far the picture is one picture several times, 0..1, and that one (cell, cell). Of queries only.

        The share of the variation that all copies of the best tiling have in common, beyond chance.
        """
        tones, best, copy = self.tones.astype(np.float64), 0.0, np.zeros((_CELL, _CELL))
        whole = float(tones.var())
        for count, mirrored in itertools.product(_COUNTS, (False, True)):
            side = _SIDE // count
            cells = tones.reshape(count, side, count, side).transpose(0, 2, 1, 3).copy()
            if mirrored:  # like a kaleidoscope
                cells[1::2] = cells[1::2, :, ::-1]
                cells[:, 1::2] = cells[:, 1::2, :, ::-1]
            mean, chance = cells.mean(axis=(0, 1)), 1 / count**2
            share = (float(mean.var()) / whole - chance) / (1 - chance) if whole >= 1 else 0.0
            if share > _AS_GOOD * best:  # a picture tiled four times is also one tiled twice: the smaller copies count
                best = share
                copy = np.rint(cv2.resize(mean, (_CELL, _CELL), interpolation=cv2.INTER_AREA))
        return best, copy


def make_layout(grey: np.ndarray) -> Layout:
    """The layout of a picture (h, w) uint8."""
    tones = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    polar = cv2.remap(tones, *_POLAR, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    small = cv2.resize(grey, (_CELL, _CELL), interpolation=cv2.INTER_AREA).astype(np.float64)
    return Layout(tones, polar, small)


def compare_layouts(query: Layout, reference: Layout) -> np.ndarray:
    """LAYOUT of a pair, (4,) float64; the query also mirrored, the better orientation counts.

    The share of the variation of the query's tones that the reference's tones explain, 0..1; the correlation of the
    disk around the centre with that of the reference, bent by the best whirl or lens (its absolute value: negatives
    count), and how much better that is than unbent; how far the query is one picture several times × the correlation
    of that picture with the reference.
    """
    explained = max(_explained(query.tones[:, turn], reference.tones) for turn in (slice(None), slice(None, None, -1)))
    both = np.abs(_bent_correlations(np.stack([query.polar, query.polar[:, _MIRRORED]]), reference))
    bent = max(both, key=lambda values: float(values.max()))
    share, copy = query.tiling
    tile = max(_correlation(copy, small) for small in (reference.small, reference.small[:, ::-1]))
    return np.array([explained, bent.max(), bent.max() - bent[0], share * tile])


def _explained(query: np.ndarray, reference: np.ndarray) -> float:
    """The correlation ratio: the part of the query's variance that is between the steps of the reference's tones."""
    steps, values = (reference // (256 // _TONES)).ravel(), query.astype(np.float64).ravel()
    count, total = np.bincount(steps, minlength=_TONES), np.bincount(steps, values, _TONES)
    constant = values.sum() ** 2 / len(values)
    whole = float((values * values).sum() - constant)
    return float((total**2 / np.maximum(count, 1)).sum() - constant) / whole if whole >= len(values) else 0.0


def _bent_correlations(polar: np.ndarray, reference: Layout) -> np.ndarray:
    """(n, bends) float64: of n disks with the reference's, unbent first, then by each whirl and lens."""
    values, (means, variances) = polar.reshape(len(polar), -1).astype(np.float64), reference.bent
    weighted, area = values * _WEIGHTS, _WEIGHTS.sum()
    mean = weighted.sum(axis=1, keepdims=True) / area
    variance = (weighted * values).sum(axis=1, keepdims=True) / area - mean**2
    both = weighted @ reference.polar.ravel()[_BENDS].astype(np.float64).T / area
    result: np.ndarray = (both - mean * means) / np.sqrt(np.maximum(variance * variances, 1.0))
    return result


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    covariance = (one * other).mean() - one.mean() * other.mean()
    return float(covariance / np.sqrt(max(one.var() * other.var(), 1.0)))


def _disk() -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Where the disk's pixels are, for `cv2.remap`; their weights; the pixels of each bend; the mirrored angles."""
    radius = (np.arange(_RINGS) + 0.5) / _RINGS
    angle = (np.arange(_ANGLES) + 0.5) / _ANGLES * 2 * np.pi
    x, y = (radius[:, None] * wave(angle)[None] * _SIDE / 2 + _SIDE / 2 - 0.5 for wave in (np.cos, np.sin))
    rings, angles = np.arange(_RINGS)[:, None], np.arange(_ANGLES)[None]
    bends = [rings * _ANGLES + angles]
    for whirl in _WHIRLS:  # as editors do it: the full angle in the centre, none at the border
        moved = np.rint(whirl * (1 - radius) ** 2 / (2 * np.pi) * _ANGLES).astype(np.int64)[:, None]
        bends.append(rings * _ANGLES + (angles + moved) % _ANGLES)
    for amount in _LENSES:  # pinch and implode
        far = radius * np.sin(np.pi / 2 * radius) ** -amount
        ring = np.clip(np.floor(far * _RINGS).astype(np.int64), 0, _RINGS - 1)[:, None]
        bends.append(ring * _ANGLES + angles)
    places = np.stack([bend.ravel() for bend in bends])
    weights = np.repeat(2.0 * np.arange(_RINGS) + 1, _ANGLES)  # the areas of the rings
    mirrored = (_ANGLES // 2 - 1 - np.arange(_ANGLES)) % _ANGLES
    return (x.astype(np.float32), y.astype(np.float32)), weights, places, mirrored


_POLAR, _WEIGHTS, _BENDS, _MIRRORED = _disk()
