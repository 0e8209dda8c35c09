"""Compare the thumbnails of a pair: blurred or filtered copies may share no keypoints."""

from __future__ import annotations

import cv2
import numpy as np

from ndec_builder.candidates.geometry.fitting import SIGNALS, fit_pictures
from ndec_builder.candidates.geometry.keypoints import DescribedPicture

THUMBS = ("thumb_whole", "thumb_reference_inside", "thumb_query_inside")
PAIR_SIGNALS = (*SIGNALS, *THUMBS)
SQUARE = 32  # px per side when full pictures are compared
LONG = 48  # px, longer side of the picture that is searched
SCALES = (0.85, 0.65, 0.5)  # longer sides of the template, as shares of LONG
_LEAST = 10  # px: a smaller template fits anywhere


def pair_vector(query: DescribedPicture, reference: DescribedPicture) -> np.ndarray:
    """PAIR_SIGNALS of a pair as (20,) float64: the geometry's, then the thumbnails'."""
    return np.concatenate([fit_pictures(query, reference).vector(), thumbnails(query.grey, reference.grey)])


def thumbnails(query: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """THUMBS of two grey pictures (h, w) uint8, (3,) float64 in −1..1; the query also mirrored, the larger one counts.

    Correlation of the full pictures; of the reference with its best position in the query; of the query with its best
    position in the reference. 0 where a picture has no texture, or never fits into the other.
    """
    (query, query_square), (reference, reference_square) = (_shrunk(one) for one in (query, reference))
    templates = _templates(query), _templates(reference)
    rows = []
    for step in (1, -1):
        rows.append([
            _correlation(query_square[:, ::step], reference_square),
            _best_place(np.ascontiguousarray(query[:, ::step]), templates[1]),
            _best_place(reference, [np.ascontiguousarray(one[:, ::step]) for one in templates[0]]),
        ])  # fmt: skip
    return np.max(rows, axis=0)


def _shrunk(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture with its longer side at LONG, and squeezed into a square, both float32."""
    small = _resized(picture.astype(np.float32), _fitting(picture, LONG))
    return small, _resized(small, (SQUARE, SQUARE))


def _templates(small: np.ndarray) -> list[np.ndarray]:
    found = [_resized(small, _fitting(small, scale * LONG)) for scale in SCALES]
    return [one for one in found if min(one.shape) >= _LEAST and one.std() >= 1]


def _best_place(picture: np.ndarray, templates: list[np.ndarray]) -> float:
    """The largest correlation of a template with a part of `picture`; 0 if none fits."""
    best = 0.0
    for template in templates:
        if template.shape[0] > picture.shape[0] or template.shape[1] > picture.shape[1]:
            continue
        found = cv2.matchTemplate(picture, template, cv2.TM_CCOEFF_NORMED)
        found = found[np.abs(found) <= 1.0]  # OpenCV divides by nearly 0 on flat parts
        best = max(best, float(found.max(initial=0.0)))
    return best


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-6 else 0.0


def _fitting(picture: np.ndarray, longer: float) -> tuple[int, int]:
    """Width and height with the longer side as given."""
    factor = longer / max(picture.shape)
    return max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    result: np.ndarray = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return result
