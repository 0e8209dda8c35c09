"""Recipes: replay, determinism, mixture and sizes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.errors import UsageError
from ndec_builder.edits.operations import apply_edits
from ndec_builder.edits.recipes import EDIT_RECIPES, edit_image, edit_json
from ndec_builder.edits.settings import EDIT_RECIPE_NAMES
from support.pictures import scene


@pytest.mark.parametrize("recipe", sorted(EDIT_RECIPES))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), width=st.integers(1, 150), height=st.integers(1, 150), given_pictures=st.booleans())
def test_recorded_edits_replay_exactly(recipe: str, seed: int, width: int, height: int, given_pictures: bool) -> None:
    image = scene(seed % 997, (100, 100)).resize((width, height))
    backgrounds = [scene(1), scene(2)] if given_pictures else []
    edited = edit_image(image, recipe, np.random.default_rng(seed), backgrounds)
    stored = json.loads(edit_json(edited, recipe, seed))
    assert stored["recipe"] == recipe and stored["seed"] == seed
    again = apply_edits(image, stored["edits"], backgrounds)
    assert np.array_equal(np.asarray(edited.image), np.asarray(again))
    assert min(edited.image.size) >= 32
    assert EDIT_RECIPES[recipe].least <= len(edited.edits) <= EDIT_RECIPES[recipe].most
    assert edited.adds_content == stored["adds_content"]


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (1, 1), (31, 33)])
def test_thin_pictures_become_at_least_32_px(size: tuple[int, int]) -> None:
    for recipe in EDIT_RECIPES:
        for seed in range(5):
            assert min(edit_image(scene(1).resize(size), recipe, np.random.default_rng(seed)).image.size) >= 32


@pytest.mark.slow
def test_copy_mixture() -> None:
    """1–4 operations, about 35 % with a crop (binomial: 600 draws, three standard deviations are 6 points)."""
    image = scene(1, (48, 48))
    copies = [edit_image(image, "copy", np.random.default_rng(seed)) for seed in range(600)]
    counts = [len(copy.edits) for copy in copies]
    assert set(counts) == {1, 2, 3, 4}
    crops = np.mean([any(edit["operation"] == "crop" for edit in copy.edits) for copy in copies])
    assert crops == pytest.approx(0.35, abs=0.06)
    assert len({edit["operation"] for copy in copies for edit in copy.edits}) == len(EDIT_RECIPES["copy"].steps)
    adding = np.mean([copy.adds_content for copy in copies])
    assert 0.25 < adding < 0.7


def test_crop_recipe_only_crops_and_light_keeps_all() -> None:
    for seed in range(20):
        crop = edit_image(scene(2), "crop", np.random.default_rng(seed))
        assert [edit["operation"] for edit in crop.edits] == ["crop"] and 0.15 < crop.content_share < 0.85
        light = edit_image(scene(2), "light", np.random.default_rng(seed))
        assert light.content_share == pytest.approx(1) and not light.adds_content


def test_probabilities_and_bounds_are_sane() -> None:
    for recipe in EDIT_RECIPES.values():
        assert all(0 < probability <= 1 for _, probability, _ in recipe.steps)
        assert 1 <= recipe.least <= recipe.most <= len(recipe.steps)
        assert all(low <= high for _, _, ranges in recipe.steps for low, high in ranges.values())


def test_the_command_line_offers_exactly_the_recipes() -> None:
    assert sorted(EDIT_RECIPE_NAMES) == sorted(EDIT_RECIPES)


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'copy'"):
        edit_image(scene(1), "copyy", np.random.default_rng(0))
