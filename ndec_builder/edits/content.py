"""How much of the original is still visible, tracked with polygons. Exact for every homography.

The visible part of the original starts as the unit square. Each geometric operation maps it with its matrix and clips
it to the canvas. At the end the polygon is mapped back to the original, and its area is the share. Opaque layers hide
a part: their outlines are mapped in the same way and subtracted. Where two layers overlap, the overlap is subtracted
twice, so the share can only be too small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNIT_SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


class VisibleContent:
    """Polygons are (n, 2) float64, in normalised coordinates of the current picture, y down."""

    def __init__(self) -> None:
        self._visible = UNIT_SQUARE.copy()
        self._hidden: list[tuple[np.ndarray, float]] = []
        self._from_original = np.eye(3)

    def move(self, matrix: np.ndarray) -> None:
        """Apply a homography (3, 3) and clip to the canvas."""
        self._from_original = matrix @ self._from_original
        self._visible = clip(transform(matrix, self._visible))
        self._hidden = [(clip(transform(matrix, outline)), opacity) for outline, opacity in self._hidden]

    def hide(self, box: Sequence[float], opacity: float) -> None:
        """Cover a box (left, top, right, bottom) of the current picture with a layer of `opacity` 0–1."""
        left, top, right, bottom = box
        self._hidden.append((clip(self._visible, (left, top, right, bottom)), opacity))

    @property
    def share(self) -> float:
        """Share of the original's area that is still visible, 0..1."""
        back = np.linalg.inv(self._from_original)
        hidden = sum(opacity * area(transform(back, outline)) for outline, opacity in self._hidden)
        return float(np.clip(area(transform(back, self._visible)) - hidden, 0.0, 1.0))


def transform(matrix: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Map points (n, 2) by a homography (3, 3)."""
    points = np.column_stack([polygon, np.ones(len(polygon))]) @ matrix.T
    return points[:, :2] / points[:, 2:]


def clip(polygon: np.ndarray, box: Sequence[float] = (0.0, 0.0, 1.0, 1.0)) -> np.ndarray:
    """Clip a convex polygon (n, 2) to a box (Sutherland–Hodgman); (0, 2) when nothing is left."""
    points = polygon.tolist()  # numbers of Python: five times faster than numpy's for a few points
    for axis, bound, sign in ((0, box[0], 1), (0, box[2], -1), (1, box[1], 1), (1, box[3], -1)):
        kept = []
        for here, there in zip(points, points[1:] + points[:1], strict=True):
            a, b = sign * (here[axis] - bound), sign * (there[axis] - bound)
            if a >= 0:
                kept.append(here)
            if (a < 0) != (b < 0):
                share = a / (a - b)
                kept.append([start + (stop - start) * share for start, stop in zip(here, there, strict=True)])
        points = kept
    return np.array(points, np.float64).reshape(-1, 2)


def area(polygon: np.ndarray) -> float:
    """Area of a simple polygon (n, 2): the shoelace formula."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
