"""Features of a pair for the fused scorer: descriptor scores and geometry, as one row of numbers.

The order matters: "is q a copy of r" is a different question from "is r a copy of q".
"""

from __future__ import annotations

import numpy as np

from ndec_builder.training.fused.edges import EDGES
from ndec_builder.training.fused.layout import LAYOUT
from ndec_builder.training.fused.pair_signals import PAIR_SIGNALS
from ndec_builder.training.fused.thumbnails import THUMBS

PAIR_FEATURES = (
    "score", "score_normalized", "verified", "log_inliers", "inlier_share", "log_matches", "match_density",
    "query_inside", "query_outside", "reference_covered", "seam", "seam_seen", "local_correlation",
    "median_correlation", "agreeing_share", "global_correlation", "compared", "shift", "perspective", "stretch",
    "scale", "epipolar_share", "mirrored", "log_query_over_reference", *THUMBS, *EDGES, *LAYOUT,
)  # fmt: skip
BACKGROUND_NEIGHBOURS = 5  # neighbours in the background set; score_normalized subtracts their mean score

BACKGROUND_IMAGES = 1000
_TILED = 0.8  # `in_tiles` from which a query is taken for tiles of the reference


def features(
    score: np.ndarray, background: np.ndarray, signals: np.ndarray, ratio: np.ndarray | None = None
) -> np.ndarray:
    """Rows (n, len(FEATURES)) float32, finite unless all signals of the pair are NaN (an image could not be read).

    score: (n,) cosine · background: (n,) mean cosine of the query's BACKGROUND_NEIGHBOURS best training images ·
    signals: (n, 30) of `pair_vector`, NaN where nothing could be measured · ratio: (n,) query_over_reference
    of an ASL network, None without one (its feature is then 0).
    """
    value = {name: signals[:, column].astype(np.float64) for column, name in enumerate(PAIR_SIGNALS)}
    verified = np.isfinite(value["scale"])  # a homography was fitted

    def where_fitted(numbers: np.ndarray) -> np.ndarray:
        return np.where(verified, np.nan_to_num(numbers), 0.0)

    # all of a tiled copy is inside the reference, although a homography maps only one of the tiles there
    inside = np.where(value["in_tiles"] >= _TILED, 1.0, value["query_inside"])
    compared = verified & np.isfinite(value["local_correlation"])
    seam_seen = verified & np.isfinite(value["seam"])
    columns = {
        "score": score,
        "score_normalized": score - background,
        "verified": verified,
        "log_inliers": where_fitted(np.log1p(value["inliers"])),
        "inlier_share": where_fitted(value["inlier_share"]),
        "log_matches": np.log1p(value["matches"]),
        "match_density": value["match_density"],
        "query_inside": where_fitted(inside),
        "query_outside": where_fitted(1 - inside),
        "reference_covered": where_fitted(value["reference_covered"]),
        "seam": where_fitted(value["seam"]),
        "seam_seen": seam_seen,
        "local_correlation": where_fitted(value["local_correlation"]),
        "median_correlation": where_fitted(value["median_correlation"]),
        "agreeing_share": where_fitted(value["agreeing_share"]),
        "global_correlation": where_fitted(value["global_correlation"]),
        "compared": compared,
        "shift": where_fitted(value["shift"]),
        "perspective": where_fitted(np.log1p(np.clip(value["perspective"], 0, 10))),
        "stretch": where_fitted(value["stretch"]),
        "scale": where_fitted(np.clip(value["scale"], -2.5, 2.5)),
        "epipolar_share": where_fitted(value["epipolar_share"]),
        "mirrored": where_fitted(value["mirrored"]),
        "log_query_over_reference": np.zeros(len(score)) if ratio is None else np.log(ratio),
        **{name: np.nan_to_num(value[name]) for name in (*THUMBS, *EDGES, *LAYOUT)},
    }
    return np.stack([np.asarray(columns[name], dtype=np.float32) for name in PAIR_FEATURES], axis=1)


def background_rows(count: int) -> np.ndarray:
    """Rows of the training images used as background: all, or BACKGROUND_IMAGES evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, BACKGROUND_IMAGES)).round().astype(np.int64))


def background_scores(queries: np.ndarray, background: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
    """Mean of each query's BACKGROUND_NEIGHBOURS best cosines against the background vectors, (n,) float64.

    queries (n, d), background (m, d) float32, L2-normed · own: (n,) row of the background that the query was made from,
    which is skipped; −1: none.
    """
    means = np.empty(len(queries))
    for start in range(0, len(queries), 1024):
        part = slice(start, start + 1024)
        scores = queries[part].astype(np.float32) @ background.T.astype(np.float32)
        if own is not None:
            rows = np.flatnonzero(own[part] >= 0)
            scores[rows, own[part][rows]] = -np.inf
        best = np.sort(scores, axis=1)[:, ::-1][:, :BACKGROUND_NEIGHBOURS].astype(np.float64)
        means[part] = np.where(np.isfinite(best), best, 0.0).mean(axis=1)
    return means
