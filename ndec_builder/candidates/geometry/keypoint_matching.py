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
    squares = (query**2).sum(1)[:, None] + (reference**2).sum(1)[None, :]
    distances = squares - 2 * (query @ reference.T)  # (n, k), exact below 2²⁴
    nearest = distances.argmin(axis=1)
    rows = np.arange(len(query))
    best = distances[rows, nearest]
    second = np.partition(distances, 1, axis=1)[:, 1]
    kept = (best < ratio**2 * second) & (distances.argmin(axis=0)[nearest] == rows)
    return np.stack([rows[kept], nearest[kept]], axis=1)
