"""The aligned view and the difference of two pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from ndec_builder.annotation.web.overlays import align_pictures, fit_frames, render_difference, render_flip


@pytest.mark.slow
def test_the_aligned_view_shows_differences_and_what_is_outside_the_crop() -> None:
    """A picture and its mirrored crop: the canvas holds the complete picture, equal pixels are black."""
    texture = np.random.default_rng(7).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    whole = Image.fromarray(texture).resize((640, 480), Image.Resampling.BICUBIC)
    box = (160, 120, 480, 360)
    crop = ImageOps.mirror(whole.crop(box))
    aligned = align_pictures(whole, crop)
    assert aligned is not None and aligned.mirrored
    inside = aligned.in_reference & aligned.in_query
    assert aligned.in_query.mean() > 0.97 and abs(inside.mean() - 0.25) < 0.02
    gap = np.abs(aligned.query[inside].astype(int) - aligned.reference[inside].astype(int))
    assert np.median(gap) <= 3 and gap.mean() < 6
    moving = Image.open(io.BytesIO(render_flip(whole, crop)))
    assert moving.n_frames == 2 and moving.format == "WEBP"
    shown = np.asarray(Image.open(io.BytesIO(render_difference(whole, crop))).convert("RGB"))[30:].astype(int)
    outside = ~aligned.in_reference & aligned.in_query
    assert shown[inside].mean() < 20 and (shown[outside][:, 2] > shown[outside][:, 0] + 5).mean() > 0.9  # blue
    flat = Image.new("RGB", (200, 150), (90, 90, 90))
    assert align_pictures(flat, whole) is None


def test_without_geometry_both_pictures_are_fitted_into_one_frame() -> None:
    red, blue = Image.new("RGB", (200, 100), (200, 0, 0)), Image.new("RGB", (100, 100), (0, 0, 200))
    fitted = fit_frames(red, blue)
    assert fitted.query.shape == fitted.reference.shape == (100, 200, 3)
    assert fitted.in_query.all()
    assert fitted.in_reference[:, 50:150].all()
    assert not fitted.in_reference[:, :50].any() and not fitted.in_reference[:, 150:].any()
    flip = Image.open(io.BytesIO(render_flip(red, blue)))
    assert flip.n_frames == 2
    first = np.asarray(flip.convert("RGB"))[30:].astype(int)
    assert abs(first - (200, 0, 0)).mean() < 8
    difference = np.asarray(Image.open(io.BytesIO(render_difference(red, blue))).convert("RGB"))[30:].astype(int)
    assert difference[:, 60:140].mean() > 240  # red against blue, doubled
    assert (difference[:, :40, 2] > difference[:, :40, 0]).all()  # blue: only the query is there


@pytest.mark.parametrize("width", [200, 400, 1200])
def test_the_title_of_a_view_is_never_cut_off(width: int) -> None:
    """The last two columns of the strip above the picture hold no part of a letter."""
    red, blue = (Image.new("RGB", (width, 300), colour) for colour in ("red", "blue"))
    strip = np.asarray(Image.open(io.BytesIO(render_difference(red, blue))).convert("L"))[:30].astype(int)
    assert strip.max() > 60 and strip[:, -2:].max() < 60
