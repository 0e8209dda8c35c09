"""Transparent pictures get a background that their content shows on."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ndec_builder.core.decode import decode


def decoded(image: Image.Image, form: str = "PNG") -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"lossless": True} if form == "WEBP" else {}))
    return decode(buffer.getvalue())


def lettering(colour: tuple[int, ...], mode: str = "RGBA", others: tuple[int, ...] | None = None) -> Image.Image:
    image = Image.new(mode, (100, 60), (0,) * len(colour))
    ImageDraw.Draw(image).rectangle((20, 20, 69, 39), fill=colour)
    if others:
        ImageDraw.Draw(image).rectangle((20, 40, 69, 52), fill=others)
    return image


@pytest.mark.parametrize(
    ("image", "background"),
    [
        (lettering((255, 255, 255, 255)), 64),
        (lettering((255, 250, 208, 255)), 64),
        (lettering((255, 250, 200, 255)), 255),  # pale yellow shows on white
        (lettering((0, 0, 0, 255)), 255),
        (lettering((255, 255, 255, 255), others=(200, 0, 0, 255)), 64),  # more white than red
        (lettering((200, 0, 0, 255), others=(255, 255, 255, 255)), 255),
        (lettering((255, 255), "LA"), 64),
        (lettering((20, 255), "LA"), 255),
        (Image.new("RGBA", (100, 60), (255, 255, 255, 0)), 255),  # nothing to see
    ],
)
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_the_background(image: Image.Image, background: int, form: str) -> None:
    picture = decoded(image, form)
    assert picture.getpixel((2, 2)) == (background,) * 3
    assert picture.info["flattened_on"] == {64: "dark", 255: "white"}[background]
    np.testing.assert_array_equal(
        np.asarray(picture)[25, 30], np.asarray(image.convert("RGBA"))[25, 30, :3] if image.getbbox() else 255
    )


def test_rounded_corners_of_a_light_picture_stay_white() -> None:
    image = Image.new("RGBA", (100, 100), (250, 250, 250, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 10))
    assert decoded(image).getpixel((2, 2)) == (255, 255, 255)


def test_two_white_logos_differ() -> None:
    first, second = (Image.new("RGBA", (100, 60), (255, 255, 255, 0)) for _ in range(2))
    ImageDraw.Draw(first).rectangle((10, 10, 40, 40), fill=(255,) * 4)
    ImageDraw.Draw(second).ellipse((50, 10, 90, 50), fill=(255,) * 4)
    difference = np.abs(np.asarray(decoded(first), int) - np.asarray(decoded(second), int))
    assert difference.max() == 255 - 64
