"""Fits a query to a reference: the homography between them, and signals that tell copies from other pictures.

    geometry = fit_geometry(query_rgb, reference_rgb)  # two arrays
    geometry = fit_stepwise(describe_quickly(query), describe_quickly(reference))  # reuses keypoints for many pairs

It does not depend on workspaces: mining, the annotation page and the fused scorer use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from ndec_builder.candidates.geometry import alignment
from ndec_builder.candidates.geometry.homography import Fit, epipolar_share, fit_homography, jacobian
from ndec_builder.candidates.geometry.keypoint_matching import match_keypoints
from ndec_builder.candidates.geometry.keypoints import KEYPOINT_SIDE, DescribedPicture, describe_quickly
from ndec_builder.candidates.geometry.seam import seam

ENOUGH_INLIERS = 14  # of a fit that needs no finer keypoints
FEW_MATCHES = 6  # with fewer, finer keypoints rarely give a fit: MIN_INLIERS is 8
SIGNALS = (
    "inliers",
    "inlier_share",
    "matches",
    "match_density",
    "query_inside",
    "reference_covered",
    "seam",
    "local_correlation",
    "median_correlation",
    "agreeing_share",
    "global_correlation",
    "shift",
    "perspective",
    "stretch",
    "scale",
    "epipolar_share",
    "mirrored",
)


@dataclass(frozen=True, eq=False)
class Geometry:
    """A fitted pair. Without a fit: homography None, counts as found, shares 0, all other signals NaN."""

    homography: np.ndarray | None  # (3, 3) float64: pixels of the given query → pixels of the given reference
    mirrored: bool  # the query was mirrored; the homography contains it
    matches: int  # matched keypoints
    inliers: int  # matches that agree with the homography
    inlier_share: float  # inliers / matches
    match_density: float = 0.0  # matches / keypoints of the picture that has fewer
    query_inside: float = 0.0  # share of the query's area that lands inside the reference
    reference_covered: float = 0.0  # share of the reference's area that the query covers
    seam: float = np.nan  # log ratio: a cut along the border of the reference in the query; NaN: no visible border
    local_correlation: float = np.nan  # 20 % quantile of the correlation over tiles after alignment
    median_correlation: float = np.nan  # median of the same
    agreeing_share: float = np.nan  # share of tiles with a correlation of at least .9
    global_correlation: float = np.nan  # over all pixels that both cover
    shift: float = np.nan  # 80 % quantile of the best shift of tiles, in working pixels: parallax, motion
    perspective: float = np.nan  # change of the depth of the homography across the inliers; 0: affine
    stretch: float = np.nan  # log ratio of its two local scales; 0: none
    scale: float = np.nan  # log of the local scale, in working pixels
    epipolar_share: float = np.nan  # share of the inliers of the fundamental matrix that agree with the homography

    def vector(self) -> np.ndarray:
        """SIGNALS as (17,) float64; NaN for signals without a measurement."""
        return np.array([float(getattr(self, name)) for name in SIGNALS])


def fit_geometry(query_rgb: np.ndarray, reference_rgb: np.ndarray, working_side: int = KEYPOINT_SIDE) -> Geometry:
    """Fit two pictures (h, w, 3) uint8, also with the query mirrored. Equal pixels give equal numbers.

    Raises ValueError for arrays of a different shape or type.
    """
    return fit_stepwise(describe_quickly(query_rgb, working_side), describe_quickly(reference_rgb, working_side))


def fit_stepwise(query: DescribedPicture, reference: DescribedPicture) -> Geometry:
    """Fit two pictures of `describe_quickly`; where their few keypoints leave it open, fit the finer ones.

    It is open with a fit of fewer than ENOUGH_INLIERS, and without a fit from FEW_MATCHES on. Such fits are less
    exact, which costs a model that learns from people's labels .01 of its AUC (docs/geometry.md).
    """
    coarse = _match_both(query, reference)
    most = max(len(one.query) for one in coarse)
    inliers = max(one.inliers for one in coarse)
    if inliers >= ENOUGH_INLIERS or (inliers == 0 and most < FEW_MATCHES):
        return _geometry(query, reference, *coarse)
    return fit_pictures(query.finer, reference.finer)


def fit_pictures(query: DescribedPicture, reference: DescribedPicture) -> Geometry:
    """Fit two described pictures, also with the query mirrored; more inliers win, a tie goes to the plain query."""
    return _geometry(query, reference, *_match_both(query, reference))


def fit_if_better(
    query: DescribedPicture,
    reference: DescribedPicture,
    inliers: int,
    measured_as: Callable[[DescribedPicture], DescribedPicture],
) -> Geometry | None:
    """`fit_pictures` if it has more inliers than these, else None. measured_as: what a fitted pair is measured on."""
    matched = _match_both(query, reference)
    if max(one.inliers for one in matched) <= inliers:
        return None
    return _geometry(measured_as(query), measured_as(reference), *matched)


@dataclass(frozen=True, eq=False)
class _Matched:
    """Matched points (m, 2), (m, 2) float32 and their homography."""

    query: np.ndarray
    reference: np.ndarray
    fit: Fit | None

    @property
    def inliers(self) -> int:
        return int(self.fit.inliers.sum()) if self.fit else 0


def _match_both(query: DescribedPicture, reference: DescribedPicture) -> tuple[_Matched, _Matched]:
    """The matches and fits of the plain and of the mirrored query; no fit of the latter where it could not win."""
    straight = _matched(query.points, query.descriptors, reference, 0)
    return straight, _matched(*query.mirrored_keypoints(), reference, straight.inliers)


def _matched(points: np.ndarray, descriptors: np.ndarray, reference: DescribedPicture, above: int) -> _Matched:
    pairs = match_keypoints(descriptors, reference.descriptors)
    here, there = points[pairs[:, 0]], reference.points[pairs[:, 1]]
    return _Matched(here, there, fit_homography(here, there) if len(pairs) > above else None)


def _geometry(query: DescribedPicture, reference: DescribedPicture, straight: _Matched, flipped: _Matched) -> Geometry:
    is_mirrored = flipped.inliers > straight.inliers
    best = flipped if is_mirrored else straight
    fewest = min(len(query.points), len(reference.points))
    density = len(best.query) / fewest if fewest else 0.0
    if best.fit is None:
        return Geometry(None, False, len(best.query), 0, 0.0, density)
    return _measured(query.mirrored() if is_mirrored else query, reference, best, best.fit, is_mirrored, density)


def _measured(
    query: DescribedPicture, reference: DescribedPicture, matched: _Matched, fit: Fit, is_mirrored: bool, density: float
) -> Geometry:
    matrix, inliers = fit.matrix, int(fit.inliers.sum())
    centre = matched.query[fit.inliers].mean(axis=0).astype(np.float64)
    back = np.linalg.inv(matrix)
    back /= back[2] @ np.append(matched.reference[fit.inliers].mean(axis=0), 1.0)  # depth 1 at the inliers
    agreed = alignment.measure_agreement(alignment.align_pair(query, reference, matrix, centre))
    large, small = np.linalg.svd(jacobian(matrix, centre), compute_uv=False)
    given = np.linalg.inv(reference.to_working) @ matrix @ query.to_working
    return Geometry(
        homography=given / given[2, 2],
        mirrored=is_mirrored,
        matches=len(matched.query),
        inliers=inliers,
        inlier_share=inliers / len(matched.query),
        match_density=density,
        query_inside=alignment.inside_share(matrix, query.size, reference.size),
        reference_covered=alignment.inside_share(back, reference.size, query.size),
        seam=seam(query.rgb, back, reference.size),
        local_correlation=agreed.local,
        median_correlation=agreed.median,
        agreeing_share=agreed.agreeing,
        global_correlation=agreed.whole,
        shift=agreed.shift,
        perspective=_perspective(matrix, query.size, centre),
        stretch=float(np.log(large / small)),
        scale=float(np.log(large * small) / 2),
        epipolar_share=epipolar_share(matched.query, matched.reference, fit),
    )


def _perspective(matrix: np.ndarray, size: tuple[int, int], centre: np.ndarray) -> float:
    """Change of the depth over half the diagonal of the query, relative to the depth at `centre`."""
    depth = matrix[2] @ np.append(centre, 1.0)
    return float(np.hypot(*matrix[2, :2]) / depth * np.hypot(*size) / 2)


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """One thread for OpenCV and for the matrix products of numpy: workers that run side by side use all cores.

    Threads that wait for each other cost such products up to ten times their CPU time.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        cv2.setNumThreads(before)
