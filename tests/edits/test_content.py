"""The share of the original that is still visible, against counting marked pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ndec_builder.edits.content import UNIT_SQUARE, area, clip
from ndec_builder.edits.operations import OPERATIONS, replay
from ndec_builder.edits.recipes import EDIT_RECIPES, edit_image
from ndec_builder.edits.samplers import SAMPLERS

# whose own colours or stripes look like places of the original, or that repeat it
COLOURED = {"tile", "underlay", "collage", "meme", "screenshot", "frame", "rephotograph"}
GEOMETRY = {name for name, operation in OPERATIONS.items() if operation.matrix is not None}


def coordinates(width: int, height: int) -> Image.Image:
    """Every pixel holds its own place: red = x, green = y; blue marks it as original."""
    x = np.linspace(0, 250, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 250, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, np.full_like(x, 255)], -1).round().astype(np.uint8))


def seen_share(image: Image.Image) -> float:
    """Area of the convex hull of all places found again in a picture made from `coordinates`."""
    pixels = np.asarray(image)
    # Bicubic interpolation makes brighter, so other, places next to a border, also where the picture ends.
    inside = cv2.erode((pixels[..., 2] == 255).astype(np.uint8), np.ones((5, 5)), borderValue=0) > 0
    hull = cv2.convexHull(pixels[inside][:, :2].astype(np.float32))
    return cv2.contourArea(hull) / 250**2


@pytest.mark.parametrize(
    ("box", "share"),
    [([0, 0, 0.5, 0.5], 0.25), ([0.1, 0.2, 0.9, 0.7], 0.4), ([0, 0, 1, 1], 1), ([0.5, 0, 0.75, 1], 0.25)],
)
def test_crop_share_is_the_area_of_the_box(box: list[float], share: float) -> None:
    edited = replay(coordinates(200, 100), [{"operation": "crop", "parameters": {"box": box}}])
    assert edited.content_share == pytest.approx(share)


def test_crops_multiply_and_padding_changes_nothing() -> None:
    half = {"operation": "crop", "parameters": {"box": [0, 0, 0.5, 1]}}
    padding = {"operation": "pad", "parameters": {"margins": [0, 0, 1, 0], "fill": [0, 0, 0]}}
    image = coordinates(200, 100)
    assert replay(image, [half, half]).content_share == pytest.approx(0.25)
    assert replay(image, [padding]).content_share == pytest.approx(1)
    assert replay(image, [padding, half]).content_share == pytest.approx(1)  # the padding was cut off again
    assert replay(image, [half, padding, half, half]).content_share == pytest.approx(0.25)


def test_turning_a_square_by_45_degrees_cuts_its_corners() -> None:
    turn = {"operation": "rotate", "parameters": {"angle": 45.0, "expand": False, "fill": [0, 0, 0]}}
    edited = replay(coordinates(200, 200), [turn])
    assert edited.content_share == pytest.approx(2 * (np.sqrt(2) - 1))  # a regular octagon of width 1
    turn["parameters"]["expand"] = True
    assert replay(coordinates(200, 200), [turn]).content_share == pytest.approx(1, abs=0.01)


def test_overlay_hides_and_a_crop_can_cut_it_off() -> None:
    cover = {"operation": "overlay", "parameters": {"box": [0.5, 0, 1, 1], "opacity": 1.0, "background": {"seed": 1}}}
    left = {"operation": "crop", "parameters": {"box": [0, 0, 0.5, 1]}}
    image = coordinates(200, 100)
    assert replay(image, [cover]).content_share == pytest.approx(0.5)
    assert replay(image, [cover, left]).content_share == pytest.approx(0.5)
    assert replay(image, [left, cover]).content_share == pytest.approx(0.25)
    cover["parameters"]["opacity"] = 0.5
    assert replay(image, [cover]).content_share == pytest.approx(0.75)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), names=st.lists(st.sampled_from(sorted(GEOMETRY - COLOURED)), min_size=1, max_size=3))
@example(seed=405668588, names=["crop", "pad", "rotate"])  # the border of the original runs into that of the picture
def test_share_of_any_geometry_equals_counting_places(seed: int, names: list[str]) -> None:
    rng = np.random.default_rng(seed)
    ranges = {name: r for recipe in EDIT_RECIPES.values() for name, _, r in recipe.steps}
    records = [{"operation": name, "parameters": SAMPLERS[name](rng, ranges[name], ())} for name in names]
    for record in records:
        if "fill" in record["parameters"]:
            record["parameters"]["fill"] = [0, 0, 0]
    # the count loses about two pixels at each border: up to .04 of 480 × 360, .02 of this
    edited = replay(coordinates(960, 720), records)
    assert edited.content_share == pytest.approx(seen_share(edited.image), abs=0.04)


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.floats(-0.5, 1.5) for _ in range(4)]))
def test_clip_of_a_rectangle_is_the_overlap(corners: tuple[float, float, float, float]) -> None:
    left, right = sorted(corners[:2])
    top, bottom = sorted(corners[2:])
    rectangle = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    overlap = max(0.0, min(right, 1) - max(left, 0)) * max(0.0, min(bottom, 1) - max(top, 0))
    assert area(clip(rectangle)) == pytest.approx(overlap)
    assert area(UNIT_SQUARE) == 1


def test_views_report_a_wide_range_of_shares() -> None:
    shares = [edit_image(coordinates(64, 64), "view", np.random.default_rng(i)).content_share for i in range(60)]
    assert min(shares) < 0.4 and max(shares) > 0.75
