"""Fits the homography between two pictures to matched points; rejects implausible ones."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MIN_INLIERS = 8  # unrelated pictures rarely have more
THRESHOLD = 3.0  # px at working size
_ITERATIONS = 2000
_CONFIDENCE = 0.999
MAX_SCALE = 12.0  # a crop of a crop; larger values come from a few points close together
MAX_STRETCH = 4.0  # ratio of the two local scales; no edit squashes more
MIN_SPREAD = 6.0  # px, smallest standard deviation of the inliers: a line or a cluster fixes no homography


@dataclass(frozen=True, eq=False)
class Fit:
    """A homography (3, 3) float64 of working pixels, query → reference, and the matches (m,) bool that fit it."""

    matrix: np.ndarray
    inliers: np.ndarray


def fit_homography(query: np.ndarray, reference: np.ndarray) -> Fit | None:
    """Fit points (m, 2) → (m, 2) with USAC_MAGSAC; None for fewer than MIN_INLIERS or an implausible result.

    The sampler of OpenCV starts from a fixed state: equal points give equal matrices.
    """
    if len(query) < MIN_INLIERS:
        return None
    matrix, mask = cv2.findHomography(query, reference, cv2.USAC_MAGSAC, THRESHOLD, None, _ITERATIONS, _CONFIDENCE)
    if matrix is None or not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-9:
        return None
    matrix = matrix.astype(np.float64) / matrix[2, 2]
    if abs(np.linalg.det(matrix)) < 1e-9:
        return None
    inliers = mask.ravel().astype(bool) & (transfer_error(matrix, query, reference) <= THRESHOLD)
    simple = _affine(matrix, query, reference, inliers)
    if simple is not None:
        matrix, inliers = simple
    if inliers.sum() < MIN_INLIERS or not is_plausible(matrix, query[inliers], reference[inliers]):
        return None
    return Fit(matrix, inliers)


def _affine(
    matrix: np.ndarray, query: np.ndarray, reference: np.ndarray, inliers: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """The least-squares affine map over the inliers if the homography is not clearly better (BIC), else None.

    Most edits are affine, and a map with two parameters fewer extrapolates better beyond the points.
    """
    number = int(inliers.sum())
    if number < MIN_INLIERS:
        return None
    rough, _ = cv2.estimateAffine2D(query[inliers], reference[inliers], None, cv2.RANSAC, THRESHOLD, _ITERATIONS)
    if rough is None:
        return None
    simple = np.vstack([rough, [0.0, 0.0, 1.0]])
    for _ in range(2):  # the second time over the points that agree with the first map
        chosen = inliers & (transfer_error(simple, query, reference) <= THRESHOLD)
        if chosen.sum() < MIN_INLIERS:
            return None
        ones = np.column_stack([query[chosen], np.ones(chosen.sum())]).astype(np.float64)
        solution = np.linalg.lstsq(ones, reference[chosen].astype(np.float64), rcond=None)[0]
        simple = np.vstack([solution.T, [0.0, 0.0, 1.0]])
    ours, theirs = (
        np.minimum(transfer_error(one, query[inliers], reference[inliers]), THRESHOLD) for one in (simple, matrix)
    )
    # BIC with 2n coordinates and two parameters fewer, times four: most edits are affine
    if number * np.log(((ours**2).sum() + 1e-9) / ((theirs**2).sum() + 1e-9)) > 4 * np.log(2 * number):
        return None
    return simple, transfer_error(simple, query, reference) <= THRESHOLD


def is_plausible(matrix: np.ndarray, query: np.ndarray, reference: np.ndarray) -> bool:
    """Whether a homography keeps orientation, scale and shape near its points, and the points are spread out."""
    if min(_spread(query), _spread(reference)) < MIN_SPREAD:
        return False
    depths = np.column_stack([query, np.ones(len(query))]) @ matrix[2]
    if depths.min() <= 0:  # some points behind the camera (the matrix is scaled so that its last entry is 1)
        return False
    centre = query.mean(axis=0)
    if np.linalg.det(jacobian(matrix, centre)) <= 0:
        return False  # mirrored pictures are matched as mirrored ones
    large, small = np.linalg.svd(jacobian(matrix, centre), compute_uv=False)
    return bool(large <= MAX_STRETCH * small and 1 / MAX_SCALE <= np.sqrt(large * small) <= MAX_SCALE)


def _spread(points: np.ndarray) -> float:
    """The smallest standard deviation of points (n, 2) over all directions, in px."""
    x, y = (points - points.mean(axis=0, dtype=np.float64)).T
    xx, yy, xy = ((a * b).sum() / (len(points) - 1) for a, b in ((x, x), (y, y), (x, y)))
    return float(np.sqrt(max((xx + yy) / 2 - np.hypot((xx - yy) / 2, xy), 0.0)))  # the smaller eigenvalue


def jacobian(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The local linear map (2, 2) of a homography at a point (2,)."""
    x, y, w = matrix @ np.array([point[0], point[1], 1.0])
    return np.array([(matrix[0, :2] * w - x * matrix[2, :2]) / w**2, (matrix[1, :2] * w - y * matrix[2, :2]) / w**2])


def project(matrix: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map points (n, 2) float64; return the mapped points (n, 2) and whether each is before the horizon (n,) bool."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    before = mapped[:, 2] > 1e-9
    depth = np.where(before, mapped[:, 2], 1.0)
    return mapped[:, :2] / depth[:, None], before


def transfer_error(matrix: np.ndarray, query: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance (n,) float64, in px of the reference, between mapped points and their matches."""
    mapped, before = project(matrix, query.astype(np.float64))
    return np.where(before, np.linalg.norm(mapped - reference, axis=1), np.inf)


def epipolar_share(query: np.ndarray, reference: np.ndarray, fit: Fit) -> float:
    """Share of the inliers of a fundamental matrix that also agree with the homography, 0..1.

    If a camera moved in a scene with depth, some points keep the epipolar lines but not the plane. An edited copy has
    no such points. 1 if no fundamental matrix is found.
    """
    if len(query) < MIN_INLIERS:
        return 1.0
    try:
        _, mask = cv2.findFundamentalMat(query, reference, cv2.FM_RANSAC, 1.0, 0.99, 200)  # MAGSAC: three times slower
    except cv2.error:  # points of one plane fix no fundamental matrix; some versions of OpenCV then raise
        return 1.0
    if mask is None or not mask.any():
        return 1.0
    agreed = mask.ravel().astype(bool)
    return float((agreed & fit.inliers).sum() / agreed.sum())
