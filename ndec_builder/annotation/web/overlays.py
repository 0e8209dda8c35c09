"""Query and reference aligned by the fitted homography, as an animated flip and as a difference picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ndec_builder.candidates.geometry.fitting import fit_geometry

_WORKING_SIDE = 1200  # px, long side of each picture before the fit
CANVAS_SIDE = 1500  # px, long side of the result
FLIP_MS = 650  # for each picture: long enough to look at one spot
_MARGIN = 1.0  # how far the query may extend beyond the reference, in widths and heights of the reference
_GREY = 60
_GAIN = 2  # the difference is multiplied by this


@dataclass(frozen=True, eq=False)
class AlignedPictures:
    """Both pictures on one canvas, (h, w, 3) uint8, and where each has pixels, (h, w) bool."""

    query: np.ndarray
    reference: np.ndarray
    in_query: np.ndarray
    in_reference: np.ndarray
    mirrored: bool


def align_pictures(query: Image.Image, reference: Image.Image) -> AlignedPictures | None:
    """Warp the query onto the reference, on a canvas that contains both. None if no geometry is found."""
    left, right = (_small(image) for image in (query, reference))
    geometry = fit_geometry(left, right)
    if geometry.homography is None:
        return None
    frame = _frame(geometry.homography, left.shape, right.shape)
    if frame is None:
        return None
    shift, size = frame
    warped = [_warp(left, shift @ geometry.homography, size), _warp(right, shift, size)]
    return AlignedPictures(warped[0][0], warped[1][0], warped[0][1], warped[1][1], geometry.mirrored)


def fit_frames(query: Image.Image, reference: Image.Image) -> AlignedPictures:
    """Both pictures scaled to fit into one frame and centred: what is shown if no geometry is found."""
    pictures = [_small(image) for image in (query, reference)]
    width, height = (max(picture.shape[axis] for picture in pictures) for axis in (1, 0))
    warped = []
    for picture in pictures:
        scale = min(width / picture.shape[1], height / picture.shape[0])
        left, top = (width - scale * picture.shape[1]) / 2, (height - scale * picture.shape[0]) / 2
        warped.append(_warp(picture, np.array([[scale, 0, left], [0, scale, top], [0, 0, 1.0]]), (width, height)))
    return AlignedPictures(warped[0][0], warped[1][0], warped[0][1], warped[1][1], mirrored=False)


def render_flip(query: Image.Image, reference: Image.Image) -> bytes:
    """Animated WebP that alternates between the two pictures: aligned, or else fitted into one frame."""
    aligned, note = _overlay(query, reference)
    frames = [_titled(aligned.query, f"QUERY{note}"), _titled(aligned.reference, f"REFERENCE{note}")]
    more = {"save_all": True, "append_images": frames[1:], "duration": FLIP_MS, "loop": 0, "method": 0}
    return _save(frames[0], "WEBP", quality=90, **more)


def render_difference(query: Image.Image, reference: Image.Image) -> bytes:
    """JPEG of the absolute difference (largest channel, doubled) where both have pixels.

    Blue: pixels of the query only; orange: of the reference only. Without a geometry the fitted frames are compared.
    """
    aligned, note = _overlay(query, reference)
    return _save(_titled(difference_pixels(aligned), f"DIFFERENCE{note}"), "JPEG", quality=90)


def _overlay(query: Image.Image, reference: Image.Image) -> tuple[AlignedPictures, str]:
    """(the pictures on one canvas, a note for the title)."""
    aligned = align_pictures(query, reference)
    if aligned is None:
        return fit_frames(query, reference), " (not aligned: no common geometry found)"
    return aligned, " (mirrored)" if aligned.mirrored else ""


def difference_pixels(aligned: AlignedPictures) -> np.ndarray:
    """The picture of `render_difference` without its title, (h, w, 3) uint8."""
    gap = cv2.absdiff(aligned.query, aligned.reference).max(axis=2).astype(np.int32) * _GAIN
    shown = np.repeat(np.clip(gap, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    tints: list[tuple[np.ndarray, np.ndarray, tuple[float, float, float]]] = [
        (aligned.in_query & ~aligned.in_reference, aligned.query, (0.35, 0.5, 1.0)),
        (aligned.in_reference & ~aligned.in_query, aligned.reference, (1.0, 0.6, 0.2)),
    ]
    for where, picture, tint in tints:
        shown[where] = (picture[where].mean(axis=1, keepdims=True) * np.array(tint)).astype(np.uint8)
    shown[~(aligned.in_query | aligned.in_reference)] = _GREY
    return shown


VIEWS: dict[str, tuple[Callable[[Image.Image, Image.Image], bytes], str]] = {
    "flip.webp": (render_flip, "image/webp"),
    "difference.jpg": (render_difference, "image/jpeg"),
}


def _small(image: Image.Image) -> np.ndarray:
    copy = image.copy()
    copy.thumbnail((_WORKING_SIDE, _WORKING_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(copy)


def _frame(homography: np.ndarray, query: tuple[int, ...], reference: tuple[int, ...]) -> Any:
    """(reference pixels → canvas (3, 3), canvas size (w, h)); None if a corner of the query maps to infinity."""
    (qh, qw), (rh, rw) = query[:2], reference[:2]
    corners = homography @ np.array([[0, qw, qw, 0], [0, 0, qh, qh], [1, 1, 1, 1]], np.float64)
    if (corners[2] <= 1e-9).any():
        return None
    x, y = corners[0] / corners[2], corners[1] / corners[2]
    left, top = max(min(0.0, x.min()), -_MARGIN * rw), max(min(0.0, y.min()), -_MARGIN * rh)
    right, bottom = min(max(float(rw), x.max()), (1 + _MARGIN) * rw), min(max(float(rh), y.max()), (1 + _MARGIN) * rh)
    scale = min(CANVAS_SIDE / max(right - left, bottom - top), 2.0)
    size = (max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1))
    return np.array([[scale, 0, -left * scale], [0, scale, -top * scale], [0, 0, 1.0]]), size


def _warp(picture: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(the picture on the canvas, grey outside; the mask of its pixels)."""
    inside = cv2.warpPerspective(np.full(picture.shape[:2], 255, np.uint8), matrix, size, flags=cv2.INTER_NEAREST) > 0
    moved = cv2.warpPerspective(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved[~inside] = _GREY
    return moved, inside


def _titled(picture: np.ndarray, title: str) -> Image.Image:
    """The picture with its title on a strip above it, which hides no pixel; small letters for a narrow picture."""
    fonts = (ImageFont.load_default(size) for size in range(20, 4, -1))
    font = next((font for font in fonts if font.getlength(title) <= picture.shape[1] - 16), ImageFont.load_default(5))
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + 30), (20, 20, 20))
    image.paste(Image.fromarray(picture), (0, 30))
    ImageDraw.Draw(image).text((8, 2), title, (240, 240, 240), font)
    return image


def _save(image: Image.Image, format_: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()
