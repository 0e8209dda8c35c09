"""The recipe table is the paper's Table 2."""

from __future__ import annotations

import pytest

from ndec_builder.core.errors import UsageError
from ndec_builder.training.recipes import TRAINING_RECIPES, recipe_named
from ndec_builder.training.settings import TRAINING_RECIPE_NAMES


def test_the_table() -> None:
    table = {name: (r.crop_norms, r.pair_norms, r.pair_classes, r.copy_norms) for name, r in TRAINING_RECIPES.items()}
    assert table == {
        "baseline": (False, False, "none", False),
        "asl-crop": (True, False, "none", False),
        "asl-positive": (False, True, "shared", False),
        "asl-negative": (False, True, "own", False),
        "triplet": (False, False, "shared", False),
        "asl": (True, True, "shared", False),
        "asl-code": (True, True, "shared", False),
        "asl-copies": (True, True, "shared", True),
    }


def test_which_recipes_use_and_need_pairs() -> None:
    assert [n for n, r in TRAINING_RECIPES.items() if r.uses_pairs] == [
        "asl-positive", "asl-negative", "triplet", "asl", "asl-code", "asl-copies",
    ]  # fmt: skip
    assert [n for n, r in TRAINING_RECIPES.items() if r.needs_pairs] == ["asl-positive", "asl-negative", "triplet"]
    assert [n for n, r in TRAINING_RECIPES.items() if not r.trains_norms] == ["baseline", "triplet"]
    assert [n for n, r in TRAINING_RECIPES.items() if r.adding] == ["asl-code"]
    assert [n for n, r in TRAINING_RECIPES.items() if r.triplet] == ["triplet"]


def test_the_command_line_offers_exactly_these() -> None:
    assert sorted(TRAINING_RECIPE_NAMES) == sorted(TRAINING_RECIPES)


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(UsageError, match=r"asl-positiv.*did you mean 'asl-positive'"):
        recipe_named("asl-positiv")
