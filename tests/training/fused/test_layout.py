"""Layouts: what they say of filtered, bent and tiled copies, against other pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from ndec_builder.edits.compositions import tile
from ndec_builder.edits.effects import lens, whirl
from ndec_builder.training.fused.layout import LAYOUT, Layout, compare_layouts, make_layout
from support.pictures import scene, textured


def layout(picture: Image.Image) -> Layout:
    return make_layout(np.asarray(picture.convert("L")))


def signals(query: Image.Image, reference: Image.Image) -> dict[str, float]:
    return dict(zip(LAYOUT, compare_layouts(layout(query), layout(reference)).tolist(), strict=True))


def test_the_reference_explains_tones_that_are_a_function_of_its_own() -> None:
    reference = textured(2).convert("L").resize((96, 96))
    query = reference.point([(37 * (value // 16)) % 256 for value in range(256)])
    assert signals(query, reference)["tones_explained"] == pytest.approx(1)
    grey, steps = np.asarray(textured(3).convert("L").resize((96, 96))).astype(float), np.asarray(reference) // 16
    between = sum((steps == step).sum() * (grey[steps == step].mean() - grey.mean()) ** 2 for step in np.unique(steps))
    turned = sum(  # the better orientation counts
        (steps == step).sum() * (grey[:, ::-1][steps == step].mean() - grey.mean()) ** 2 for step in np.unique(steps)
    )
    found = signals(Image.fromarray(grey.astype(np.uint8)), reference)["tones_explained"]
    whole = ((grey - grey.mean()) ** 2).sum()
    assert found == pytest.approx(max(between, turned) / whole, abs=1e-9)


@pytest.mark.parametrize(
    "change", [ImageOps.invert, ImageOps.mirror, lambda one: ImageOps.mirror(ImageOps.invert(one))]
)
def test_a_negative_and_a_mirrored_picture_have_the_same_layout(change) -> None:  # type: ignore[no-untyped-def]
    found = signals(change(textured(4)), textured(4))
    assert found["tones_explained"] > 0.95 and found["bent"] > 0.99 and found["bent_gain"] < 0.01


@pytest.mark.parametrize("bend", [lambda one: whirl(one, 90), lambda one: ImageOps.mirror(whirl(one, -75)),
                                  lambda one: lens(one, 0.5), lambda one: lens(one, -0.5)])  # fmt: skip
def test_a_bent_picture_agrees_when_the_reference_is_bent_alike(bend) -> None:  # type: ignore[no-untyped-def]
    own, other = signals(bend(scene(5)), scene(5)), signals(bend(scene(5)), scene(6))
    assert own["bent"] > 0.85 > 0.5 > other["bent"]
    assert own["bent_gain"] > 0.1 > signals(scene(5), scene(5))["bent_gain"]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_tiled_picture_shows_the_reference_several_times(count: int, mirrored: bool) -> None:
    reference = textured(7, (360, 240))
    assert signals(tile(reference, count, mirrored), reference)["in_tiles"] > 0.95
    assert signals(reference, reference)["in_tiles"] < 0.5
    assert signals(tile(textured(8, (360, 240)), count, mirrored), reference)["in_tiles"] < 0.5


def test_flat_and_tiny_pictures_agree_with_nothing() -> None:
    flat, tiny, real = (layout(one) for one in (Image.new("L", (50, 60), 7), Image.new("L", (1, 1)), textured(9)))
    for query, reference in ((flat, real), (real, flat), (tiny, flat), (flat, flat)):
        found = compare_layouts(query, reference)
        assert np.isfinite(found).all()
        assert np.abs(found).max() < 0.05
