"""Replay, size limits and error texts of the single operations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from ndec_builder.core.errors import NdecError
from ndec_builder.edits.filters import jitter
from ndec_builder.edits.layers import HashedPictures
from ndec_builder.edits.operations import OPERATIONS, apply_edits, replay
from ndec_builder.edits.recipes import EDIT_RECIPES
from ndec_builder.edits.samplers import SAMPLERS
from support.pictures import scene

RANGES = {name: ranges for recipe in EDIT_RECIPES.values() for name, _, ranges in recipe.steps}
ADDING = {"pad", "text", "sticker", "overlay", "underlay", "blend", "frame", "meme", "screenshot", "collage"}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def record(name: str, seed: int, backgrounds: tuple[Image.Image, ...] = ()) -> dict:
    return {"operation": name, "parameters": SAMPLERS[name](np.random.default_rng(seed), RANGES[name], backgrounds)}


def test_every_operation_has_a_sampler_and_is_in_a_recipe() -> None:
    assert set(OPERATIONS) == set(SAMPLERS) == set(RANGES)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), width=st.integers(1, 120), height=st.integers(1, 120), given_pictures=st.booleans())
def test_replay_from_json_gives_equal_pixels(
    name: str, seed: int, width: int, height: int, given_pictures: bool
) -> None:
    image = scene(seed % 1000, (96, 96)).resize((width, height))
    backgrounds = (scene(1), scene(2, (64, 80))) if given_pictures else ()
    made = record(name, seed, backgrounds)
    first = replay(image, [made], backgrounds)
    again = apply_edits(image, json.loads(json.dumps([made])), backgrounds)
    assert np.array_equal(pixels(first.image), pixels(again))
    assert first.image.mode == "RGB" and min(first.image.size) >= 32
    assert 0 <= first.content_share <= 1
    assert first.adds_content == (name in ADDING)


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"jpeg"}))
def test_each_operation_changes_a_picture(name: str) -> None:
    image = scene(3)
    after = apply_edits(image, [record(name, 5)])
    assert after.size != image.size or not np.array_equal(pixels(after), pixels(image))


def test_the_input_is_not_changed() -> None:
    image = scene(4)
    before = pixels(image).copy()
    for name in OPERATIONS:
        apply_edits(image, [record(name, 1)])
    assert np.array_equal(pixels(image), before)


def test_crop_flip_and_pad_against_array_slices() -> None:
    array = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    crop = apply_edits(image, [{"operation": "crop", "parameters": {"box": [0.1, 0.25, 0.6, 0.75]}}])
    assert np.array_equal(pixels(crop), array[20:60, 10:60])
    assert np.array_equal(pixels(apply_edits(image, [{"operation": "flip", "parameters": {}}])), array[:, ::-1])
    padding = {"margins": [0.1, 0.5, 0.2, 0.0], "fill": [1, 2, 3]}
    padded = apply_edits(image, [{"operation": "pad", "parameters": padding}])
    assert np.array_equal(
        pixels(padded),
        np.pad(array, ((40, 0), (10, 20), (0, 0)), constant_values=0)
        + np.where(np.pad(np.ones((80, 100, 1)), ((40, 0), (10, 20), (0, 0))) == 0, [1, 2, 3], 0).astype(np.uint8),
    )


def test_underlay_keeps_every_pixel_of_the_image() -> None:
    image, background = scene(5, (60, 40)), scene(6)
    parameters = {"box": [0.2, 0.3, 0.7, 0.8], "background": {"seed": 3}}
    result = pixels(apply_edits(image, [{"operation": "underlay", "parameters": parameters}], [background]))
    assert result.shape == (80, 120, 3)
    assert np.array_equal(result[24:64, 24:84], pixels(image))


def test_perspective_puts_the_corners_where_it_says() -> None:
    image = Image.new("RGB", (200, 100), (255, 255, 255))
    parameters = {"corners": [[0.2, 0.2], [0.9, 0.1], [0.8, 0.9], [0.1, 0.8]], "fill": [0, 0, 0]}
    result = pixels(apply_edits(image, [{"operation": "perspective", "parameters": parameters}]))[..., 0]
    shoelace = 0.5 * abs(0.2 * 0.1 - 0.9 * 0.2 + 0.9 * 0.9 - 0.8 * 0.1 + 0.8 * 0.8 - 0.1 * 0.9 + 0.1 * 0.2 - 0.2 * 0.8)
    assert (result > 127).mean() == pytest.approx(shoelace, abs=0.01)
    assert result[50, 100] == 255 and result[5, 5] == 0


def test_noise_has_the_requested_deviation() -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    noisy = apply_edits(grey, [{"operation": "noise", "parameters": {"sigma": 10.0, "seed": 1}}])
    assert pixels(noisy).std() == pytest.approx(10, rel=0.02)


def test_a_changed_background_is_an_error() -> None:
    made = record("underlay", 1, (scene(1), scene(2)))
    with pytest.raises(NdecError, match="not among the 1 backgrounds"):
        apply_edits(scene(3), [made], [scene(9)])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"operation": "crob", "parameters": {}}, "'crob' is unknown.*did you mean 'crop'"),
        ({"operation": "blur", "parameters": {"sigma": 1}}, "cannot replay"),
        (
            {
                "operation": "sticker",
                "parameters": {"shape": "cat", "centre": [0, 0], "diameter": 1, "colour": [0, 0, 0]},
            },
            "sticker 'cat' is unknown",
        ),
    ],
)
def test_bad_records(bad: dict, message: str) -> None:
    with pytest.raises(NdecError, match=message):
        apply_edits(scene(1), [bad])


@settings(max_examples=25, deadline=None)
@given(brightness=st.floats(0, 3), contrast=st.floats(0, 3), saturation=st.floats(0, 3), number=st.integers(0, 9))
def test_jitter_has_the_pixels_of_pillow(brightness: float, contrast: float, saturation: float, number: int) -> None:
    image = scene(number, (40, 30))
    expected = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(brightness)).enhance(contrast)
    expected = ImageEnhance.Color(expected).enhance(saturation)
    np.testing.assert_array_equal(pixels(jitter(image, brightness, contrast, saturation)), pixels(expected))


def test_hashed_backgrounds_give_the_records_of_a_list() -> None:
    pictures = [scene(1), scene(2, (64, 80))]
    found = [record("overlay", 3, backgrounds) for backgrounds in (pictures, HashedPictures(pictures))]  # type: ignore[arg-type]
    assert found[0] == found[1]
    one, two = (apply_edits(scene(4), found[:1], backgrounds) for backgrounds in (pictures, HashedPictures(pictures)))
    np.testing.assert_array_equal(pixels(one), pixels(two))
    with pytest.raises(NdecError, match="background number"):
        apply_edits(scene(4), found[:1], HashedPictures(pictures[::-1]))
