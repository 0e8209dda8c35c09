"""Compare the thumbnails of a pair: blurred or filtered copies may share no keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

THUMBS = ("thumb_whole", "thumb_reference_inside", "thumb_query_inside")
SQUARE = 32  # px per side when full pictures are compared
LONG = 48  # px, longer side of the picture that is searched
SCALES = (0.85, 0.65, 0.5, 0.34)  # longer sides of the template, as shares of LONG
_LEAST = 10  # px: a smaller template fits anywhere
_FLAT = 0.1  # grey levels: a part of a picture with a smaller standard deviation correlates with nothing


@dataclass(frozen=True, eq=False)
class SearchableThumbnail:
    """All that comparing one picture with others needs, computed once per picture.

    Spectra are those of `scipy.fft.rfft2` in float32, of LONG × LONG px with zeros around the picture. Templates are
    smaller versions of the picture with mean 0 and length 1, plain and mirrored.
    """

    square: np.ndarray  # (SQUARE, SQUARE) float32, mean 0 and length 1; all 0 without texture
    size: tuple[int, int]  # height and width, the longer one LONG
    spectrum: np.ndarray  # of the picture minus its mean
    sums: np.ndarray  # (2, height + 1, width + 1) float64: integral images of these values and of their squares
    template_sizes: tuple[tuple[int, int], ...]  # height and width
    template_spectra: np.ndarray  # (templates, 2, …), conjugate


def make_thumbnail(grey: np.ndarray) -> SearchableThumbnail:
    """The thumbnail of a picture (h, w) uint8."""
    small = _resized(grey.astype(np.float32), _fitting(grey, LONG))
    templates = [_resized(small, _fitting(small, scale * LONG)) for scale in SCALES]
    templates = [one for one in templates if min(one.shape) >= _LEAST and one.std() >= 1]
    spectra = [
        np.conj(fft.rfft2(np.stack([unit, unit[:, ::-1]]), (LONG, LONG))) for unit in map(centred_unit, templates)
    ]
    values = (small - small.mean()).astype(np.float64)
    sums = np.zeros((2, small.shape[0] + 1, small.shape[1] + 1))
    sums[:, 1:, 1:] = np.stack([values, values**2]).cumsum(axis=1).cumsum(axis=2)
    return SearchableThumbnail(
        square=centred_unit(_resized(small, (SQUARE, SQUARE))),
        size=small.shape,
        spectrum=fft.rfft2(values.astype(np.float32), (LONG, LONG)),
        sums=sums,
        template_sizes=tuple(one.shape for one in templates),
        template_spectra=np.stack(spectra) if spectra else np.zeros((0, 2, LONG, LONG // 2 + 1), np.complex64),
    )


def compare_thumbnails(query: SearchableThumbnail, reference: SearchableThumbnail) -> np.ndarray:
    """THUMBS of a pair, (3,) float64 in −1..1; the query also mirrored, the larger value counts.

    Correlation of the full pictures; of the reference with its best position in the query; of the query with its best
    position in the reference. 0 where a picture has no texture, or never fits into the other.
    """
    whole = whole_correlation(query.square, reference.square)
    found = [whole, _best_place(query, reference), _best_place(reference, query)]
    return np.clip(found, -1.0, 1.0)


def whole_correlation(query: np.ndarray, reference: np.ndarray) -> float:
    """The correlation of two squares, the query plain or mirrored; the larger value counts."""
    return max(float((query * reference).sum()), float((query[:, ::-1] * reference).sum()))


def _best_place(picture: SearchableThumbnail, other: SearchableThumbnail) -> float:
    """The largest correlation of a template of `other`, plain or mirrored, with a part of `picture`; 0 if none fits."""
    height, width = picture.size
    fitting = [n for n, (tall, wide) in enumerate(other.template_sizes) if tall <= height and wide <= width]
    if not fitting:
        return 0.0
    # Correlation by Fourier transform. A template that stays inside the picture does not reach around its border.
    products = fft.irfft2(picture.spectrum * other.template_spectra[fitting], (LONG, LONG))
    best = 0.0
    for number, product in zip(fitting, products, strict=True):
        tall, wide = other.template_sizes[number]
        total, squares = (
            one[tall:, wide:] - one[:-tall, wide:] - one[tall:, :-wide] + one[:-tall, :-wide] for one in picture.sums
        )
        variation = squares - total**2 / (tall * wide)  # of each part, times its pixels
        textured = variation > tall * wide * _FLAT**2
        lengths = np.sqrt(np.where(textured, variation, np.inf))
        best = max(best, float((product[:, : lengths.shape[0], : lengths.shape[1]] / lengths).max()))
    return best


def centred_unit(picture: np.ndarray) -> np.ndarray:
    """The picture with mean 0 and length 1; zeros without texture."""
    centred = picture - picture.mean()
    length = np.sqrt((centred * centred).sum())
    result: np.ndarray = centred / length if length > 1e-3 else np.zeros_like(centred)
    return result


def _fitting(picture: np.ndarray, longer: float) -> tuple[int, int]:
    """Width and height with the longer side as given."""
    factor = longer / max(picture.shape)
    return max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    result: np.ndarray = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return result
