"""Effects and compositions of image editors, against plain loops and array slices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from ndec_builder.edits.layers import pixels_sha256
from ndec_builder.edits.operations import OPERATIONS, apply_edits, replay
from ndec_builder.edits.recipes import EDIT_RECIPES
from ndec_builder.edits.samplers import SAMPLERS
from support.pictures import scene

IMAGE = scene(7, (60, 44))
PIXELS = np.asarray(IMAGE)
GREY = np.asarray(ImageOps.grayscale(IMAGE)).astype(int)


def made(name: str, image: Image.Image = IMAGE, **parameters: Any) -> np.ndarray:
    return np.asarray(replay(image, [{"operation": name, "parameters": parameters}]).image)


def test_invert() -> None:
    assert np.array_equal(made("invert"), 255 - PIXELS)


def test_threshold() -> None:
    assert np.array_equal(made("threshold", level=0.5)[..., 1], np.where(GREY > 127, 255, 0))


def test_posterise_in_three_levels() -> None:
    nearest = [min((0, 127.5, 255), key=lambda level: abs(level - v)) for v in range(256)]
    expected = np.array([math.ceil(level) for level in nearest])
    assert np.array_equal(made("posterise", levels=3), expected[PIXELS])


@pytest.mark.parametrize("contrast", [5.0, -5.0])
def test_a_curve_keeps_black_grey_and_white_and_steepens_or_flattens_the_middle(contrast: float) -> None:
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 32, 0).repeat(3, 2))
    row = made("curve", ramp, contrast=contrast, gamma=1.0)[0, :, 0].astype(int)
    assert row[[0, 255]].tolist() == [0, 255] and abs(row[128] - 128) <= 2 and (np.diff(row) >= 0).all()
    assert (row[160] - row[96] > 64) == (contrast > 0)


def test_gamma_of_a_curve() -> None:
    expected = [round(255 * (v / 255) ** 0.5) for v in range(256)]
    assert np.array_equal(made("curve", contrast=0.0, gamma=2.0), np.array(expected)[PIXELS])


def test_edge_is_the_window_formula() -> None:
    padded = np.pad(PIXELS.astype(int), ((1, 1), (1, 1), (0, 0)), mode="edge")
    for y, x in ((0, 0), (10, 20), (43, 59)):
        expected = np.clip(9 * PIXELS[y, x].astype(int) - padded[y : y + 3, x : x + 3].sum(axis=(0, 1)), 0, 255)
        assert made("edge", radius=1)[y, x].tolist() == expected.tolist()


def test_emboss_is_the_difference_to_the_upper_left() -> None:
    found = made("emboss", depth=2.0)
    for y, x in ((1, 1), (20, 33)):
        expected = np.clip(128 + 2 * (GREY[y, x] - GREY[y - 1, x - 1]), 0, 255)
        assert found[y, x].tolist() == [expected] * 3


def test_oil_is_the_mean_of_the_most_frequent_level() -> None:
    found, level = made("oil", radius=2), GREY * 20 // 256
    levels, pixels = np.pad(level, 2, mode="edge"), np.pad(PIXELS, ((2, 2), (2, 2), (0, 0)), mode="edge")
    for y, x in ((10, 10), (22, 40), (0, 0), (43, 59)):
        window = levels[y : y + 5, x : x + 5]
        mode = np.bincount(window.ravel()).argmax()  # the first of equal counts
        colours = pixels[y : y + 5, x : x + 5][window == mode].astype(int)
        assert found[y, x].tolist() == [math.floor(value + 0.5) for value in colours.mean(axis=0)]


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_a_cartoon_is_a_posterised_median_with_black_lines(radius: int) -> None:
    median = Image.fromarray(PIXELS).filter(ImageFilter.MedianFilter(2 * radius + 1))
    flat = apply_edits(median, [{"operation": "posterise", "parameters": {"levels": 5}}])
    found = made("cartoon", levels=5, radius=radius)
    lines = (found == 0).all(axis=2)
    assert 0 < lines.mean() < 1 and np.array_equal(found[~lines], np.asarray(flat)[~lines])


@pytest.mark.parametrize("grey", [40, 128, 220])
def test_halftone_keeps_the_mean_of_a_grey(grey: int) -> None:
    found = made("halftone", Image.new("RGB", (90, 90), (grey,) * 3), cell=0.06, colour=False)
    assert set(np.unique(found)) == {0, 255}
    assert found.mean() == pytest.approx(grey, abs=2)


def test_bent_pictures_keep_their_border_and_move_the_rest() -> None:
    for name, parameters in (("whirl", {"angle": 90.0}), ("lens", {"amount": 0.5})):
        found = made(name, **parameters)
        assert np.array_equal(found[0, 0], PIXELS[0, 0]) and np.array_equal(found[-1, 0], PIXELS[-1, 0])
        assert (found != PIXELS).any(axis=2).mean() > 0.3


def test_a_whirl_turns_the_centre_by_its_angle() -> None:
    image = Image.new("RGB", (101, 101))
    image.paste((255, 255, 255), (50, 30, 51, 50))  # a line from the centre up
    found = made("whirl", image, angle=90.0)[..., 0].astype(int)
    near = found[45:56, 45:56]  # a quarter turn at the centre: the line leaves it sideways
    assert near[5].sum() > near[:, 5].sum()


def test_a_ripple_moves_columns_by_a_sine() -> None:
    rows = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[:, None, None], 100, 1).repeat(3, 2)
    found = made("ripple", Image.fromarray(rows), amplitude=0.05, wavelength=0.4)[..., 0].astype(float)
    for x in (0, 10, 30, 37):
        assert found[50, x] == pytest.approx(2 * (50 - 5 * math.sin(2 * math.pi * x / 40)), abs=1)


def test_tiles_and_a_kaleidoscope() -> None:
    small = np.asarray(IMAGE.resize((30, 22), Image.Resampling.BICUBIC))
    found = made("tile", count=2, mirrored=False)
    assert np.array_equal(found, np.tile(small, (2, 2, 1)))
    mirrored = made("tile", count=2, mirrored=True)
    assert np.array_equal(mirrored[:22, 30:], small[:, ::-1]) and np.array_equal(mirrored[22:, :30], small[::-1])


def test_blend_is_the_weighted_mean_and_hides_its_share() -> None:
    other = Image.new("RGB", (9, 9), (200, 10, 90))
    background = {"index": 0, "sha256": pixels_sha256(other)}
    record = {"operation": "blend", "parameters": {"opacity": 0.4, "background": background}}
    edited = replay(IMAGE, [record], [other])
    expected = 0.6 * PIXELS + 0.4 * np.array([200, 10, 90])
    assert np.abs(np.asarray(edited.image) - expected).max() <= 1
    assert edited.content_share == pytest.approx(0.6) and edited.adds_content


@pytest.mark.parametrize("name", ["frame", "meme", "screenshot", "collage"])
@pytest.mark.parametrize("seed", range(6))
def test_the_picture_is_where_the_matrix_says(name: str, seed: int) -> None:
    ranges = next(r for n, _, r in EDIT_RECIPES["editor"].steps if n == name)
    record = {"operation": name, "parameters": SAMPLERS[name](np.random.default_rng(seed), ranges, ())}
    edited = replay(IMAGE, [record])
    width, height = edited.image.size
    matrix = OPERATIONS[name].matrix
    assert matrix is not None
    corners = matrix(IMAGE.size, edited.image.size, **record["parameters"]) @ [[0, 1], [0, 1], [1, 1]]
    (left, right), (top, bottom) = (np.rint(corners[i] * side).astype(int) for i, side in ((0, width), (1, height)))
    assert np.array_equal(np.asarray(edited.image)[top:bottom, left:right], PIXELS)
    assert edited.content_share == pytest.approx(1)


def test_a_photo_of_a_screen_has_stripes_and_a_brighter_side() -> None:
    grey, square = Image.new("RGB", (120, 90), (128,) * 3), [[0, 0], [1, 0], [1, 1], [0, 1]]
    found = made("rephotograph", grey, corners=square, fill=[0, 0, 0], stripes=0.2, period=6.0, glow=0.4)[..., 0]
    assert found[:, 90:].mean() > found[:, :30].mean() + 10
    spectrum = np.abs(np.fft.rfft(found[45].astype(float) - found[45].mean()))
    assert abs(int(spectrum[5:].argmax()) + 5 - 120 / 6) <= 1
