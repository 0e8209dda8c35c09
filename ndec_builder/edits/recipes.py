"""Recipes: named mixtures of operations as plain data, and the function that samples from them.

A recipe is a list of steps (operation, probability, parameter ranges) in order: changes of the picture itself first,
then what is pasted on it, then encoding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.core.errors import UsageError, nearest
from ndec_builder.edits.operations import Edited, replay
from ndec_builder.edits.samplers import SAMPLERS, Ranges


@dataclass(frozen=True)
class EditRecipe:
    """Between `least` and `most` steps are applied, each with its own probability."""

    steps: tuple[tuple[str, float, Ranges], ...]
    least: int
    most: int


_JITTER: Ranges = {"brightness": (0.6, 1.5), "contrast": (0.6, 1.5), "saturation": (0.3, 1.8)}
_ASPECT = (0.75, 1.33)

EDIT_RECIPES: dict[str, EditRecipe] = {
    # Edited copies like those of DISC21: 1–4 operations, about one in three with a crop.
    "copy": EditRecipe(
        (
            ("crop", 0.42, {"share": (0.2, 0.8), "aspect": _ASPECT}),
            ("flip", 0.15, {}),
            ("rotate", 0.10, {"angle": (-35, 35)}),
            ("perspective", 0.08, {"inward": (0, 0.2)}),
            ("jitter", 0.25, _JITTER),
            ("grayscale", 0.08, {}),
            ("tint", 0.08, {"opacity": (0.1, 0.35)}),
            ("vignette", 0.05, {"strength": (0.3, 0.9)}),
            ("blur", 0.10, {"radius": (0.004, 0.02)}),
            ("sharpen", 0.05, {"percent": (80, 250)}),
            ("noise", 0.08, {"sigma": (5, 30)}),
            ("pixelate", 0.05, {"share": (0.01, 0.025)}),
            ("shuffle", 0.03, {"share": (0.05, 0.3), "radius": (0.005, 0.02)}),
            ("pad", 0.10, {"margin": (0, 0.3)}),
            ("underlay", 0.12, {"share": (0.25, 0.7)}),
            ("overlay", 0.06, {"share": (0.05, 0.3), "opacity": (0.7, 1)}),
            ("sticker", 0.12, {"diameter": (0.1, 0.4)}),
            ("text", 0.18, {"height": (0.06, 0.2)}),
            ("resize", 0.15, {"factor": (0.4, 1), "squash": (0.8, 1.25)}),
            ("jpeg", 0.30, {"quality": (20, 80)}),
        ),
        least=1,
        most=4,
    ),
    "crop": EditRecipe((("crop", 1.0, {"share": (0.2, 0.8), "aspect": _ASPECT}),), least=1, most=1),
    # A crop, then operations that remove detail but add nothing: views that show less than their original.
    "edited-crop": EditRecipe(
        (
            ("crop", 1.0, {"share": (0.2, 0.95), "aspect": _ASPECT}),
            ("flip", 0.20, {}),
            ("rotate", 0.08, {"angle": (-35, 35)}),
            ("perspective", 0.08, {"inward": (0, 0.2)}),
            ("jitter", 0.40, _JITTER),
            ("grayscale", 0.10, {}),
            ("tint", 0.10, {"opacity": (0.1, 0.35)}),
            ("vignette", 0.06, {"strength": (0.3, 0.9)}),
            ("blur", 0.15, {"radius": (0.004, 0.02)}),
            ("sharpen", 0.06, {"percent": (80, 250)}),
            ("noise", 0.10, {"sigma": (5, 30)}),
            ("pixelate", 0.08, {"share": (0.01, 0.025)}),
            ("shuffle", 0.05, {"share": (0.05, 0.3), "radius": (0.005, 0.02)}),
            ("resize", 0.20, {"factor": (0.4, 1), "squash": (0.8, 1.25)}),
            ("jpeg", 0.35, {"quality": (20, 80)}),
        ),
        least=2,
        most=5,
    ),
    # What people do in an image editor or an app: one effect or composition, often with a usual edit and encoding.
    "editor": EditRecipe(
        (
            ("crop", 0.15, {"share": (0.4, 0.9), "aspect": _ASPECT}),
            ("flip", 0.08, {}),
            ("invert", 0.07, {}),
            ("curve", 0.08, {"contrast": (2, 8), "gamma": (0.6, 1.7)}),
            ("threshold", 0.05, {"level": (0.35, 0.65)}),
            ("posterise", 0.07, {"levels": (2, 6)}),
            ("edge", 0.05, {"radius": (1, 2)}),
            ("emboss", 0.05, {"depth": (1, 4)}),
            ("oil", 0.06, {"radius": (2, 5)}),
            ("cartoon", 0.06, {"levels": (4, 7), "radius": (1, 3)}),
            ("halftone", 0.05, {"cell": (0.008, 0.03)}),
            ("whirl", 0.05, {"angle": (30, 150)}),
            ("lens", 0.05, {"amount": (0.2, 0.6)}),
            ("ripple", 0.05, {"amplitude": (0.01, 0.05), "wavelength": (0.1, 0.5)}),
            ("blend", 0.08, {"opacity": (0.2, 0.6)}),
            ("tile", 0.05, {"count": (2, 4)}),
            ("frame", 0.07, {"width": (0.01, 0.12)}),
            ("meme", 0.07, {"height": (0.1, 0.3)}),
            ("screenshot", 0.07, {"bar": (0.06, 0.25), "margin": (0.02, 0.5)}),
            ("collage", 0.05, {"gap": (0, 0.05)}),
            ("rephotograph", 0.06, {"inward": (0, 0.12), "stripes": (0.02, 0.2), "period": (3, 12), "glow": (0, 0.6)}),
            ("resize", 0.15, {"factor": (0.4, 1), "squash": (0.8, 1.25)}),
            ("jpeg", 0.40, {"quality": (30, 90)}),
        ),
        least=1,
        most=3,
    ),
    # What sharing does to a picture that nobody edits: re-encoding, scaling, small colour changes.
    "light": EditRecipe(
        (
            ("jitter", 0.4, {"brightness": (0.9, 1.1), "contrast": (0.9, 1.1), "saturation": (0.85, 1.15)}),
            ("resize", 0.6, {"factor": (0.5, 1), "squash": (1, 1)}),
            ("jpeg", 0.8, {"quality": (50, 90)}),
        ),
        least=1,
        most=3,
    ),
    # Training views: the operations and probabilities of the BoT baseline, which the paper's simple baseline uses.
    "view": EditRecipe(
        (
            ("crop", 1.0, {"share": (0.2, 1), "aspect": _ASPECT}),
            ("flip", 0.5, {}),
            ("rotate", 0.3, {"angle": (-50, 50)}),
            ("perspective", 0.3, {"inward": (0, 0.2)}),
            ("jitter", 0.8, _JITTER),
            ("grayscale", 0.3, {}),
            ("blur", 0.5, {"radius": (0.002, 0.012)}),
            ("pixelate", 0.3, {"share": (0.01, 0.03)}),
            ("shuffle", 0.3, {"share": (0.05, 0.3), "radius": (0.005, 0.02)}),
            ("pad", 0.3, {"margin": (0, 0.25)}),
            ("underlay", 0.3, {"share": (0.3, 0.8)}),
            ("overlay", 0.2, {"share": (0.05, 0.3), "opacity": (0.5, 1)}),
            ("sticker", 0.3, {"diameter": (0.1, 0.4)}),
            ("text", 0.3, {"height": (0.06, 0.2)}),
            ("text", 0.3, {"height": (0.06, 0.2)}),
        ),
        least=1,
        most=15,
    ),
}


def edit_image(
    image: Image.Image, recipe: str, rng: np.random.Generator, backgrounds: Sequence[Image.Image] = ()
) -> Edited:
    """Make one edited copy with a recipe. Replaying its `edits` with `operations.apply_edits` gives the same pixels.

    Raises UsageError for an unknown recipe.
    """
    edits: list[dict[str, Any]] = [
        {"operation": name, "parameters": SAMPLERS[name](rng, ranges, backgrounds)}
        for name, _, ranges in _choose(find_recipe(recipe), rng)
    ]
    return replay(image, edits, backgrounds)


def find_recipe(name: str) -> EditRecipe:
    """The recipe of that name. Raises UsageError with the nearest name."""
    if name not in EDIT_RECIPES:
        raise UsageError(
            f"the recipe {name!r} is unknown; known: {', '.join(EDIT_RECIPES)}{nearest(name, EDIT_RECIPES)}"
        )
    return EDIT_RECIPES[name]


def edit_json(edited: Edited, recipe: str, seed: int) -> str:
    """The `edit` column of the edits table: how the copy was made, as canonical JSON."""
    return json.dumps(
        {
            "recipe": recipe,
            "seed": seed,
            "edits": list(edited.edits),
            "content_share": round(edited.content_share, 6),
            "adds_content": edited.adds_content,
        },
        sort_keys=True,
    )


def _choose(recipe: EditRecipe, rng: np.random.Generator) -> list[tuple[str, float, Ranges]]:
    """Choose steps by probability. Too many are cut at random; too few are filled up by probability."""
    chances = np.array([probability for _, probability, _ in recipe.steps])
    chosen = np.flatnonzero(rng.random(len(chances)) < chances)
    if len(chosen) > recipe.most:
        chosen = rng.choice(chosen, recipe.most, replace=False)
    elif len(chosen) < recipe.least:
        left = np.setdiff1d(np.arange(len(chances)), chosen)
        more = rng.choice(left, recipe.least - len(chosen), replace=False, p=chances[left] / chances[left].sum())
        chosen = np.concatenate([chosen, more])
    return [recipe.steps[int(index)] for index in np.sort(chosen)]
