"""Structure: twins by re-saving, resizing, recolouring and mirroring are found, different pictures are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from ndec_builder.demo.corpus.dedupe import SAME, content_share, is_plain, keep_one, mirrored, structure, twins
from support.pictures import scene


def drawing(colour: str = "red", mark: str = "cross", margin: int = 20, size: int = 160) -> Image.Image:
    """A sign on white: same frame, the mark differs from sign to sign."""
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    low, high = margin, size - margin
    draw.polygon([(size // 2, low), (low, high), (high, high)], outline=colour, width=8)
    middle = (size // 2 - 20, size // 2, size // 2 + 20, size // 2 + 40)
    if mark == "cross":
        draw.line(middle, fill="black", width=6)
        draw.line((middle[0], middle[3], middle[2], middle[1]), fill="black", width=6)
    else:
        draw.ellipse(middle, fill="black")
    return image


def cosine(a: Image.Image, b: Image.Image) -> float:
    """Written out: the best of colour and grey edges, with and without mirroring."""
    first = structure(a)
    return max(float(first[row] @ structure(other)[row]) for other in (b, ImageOps.mirror(b)) for row in (0, 1))


def resaved(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize(
    "twin",
    [
        resaved(scene(1)),
        scene(1).resize((96, 72)),
        scene(1).convert("L").convert("RGB"),
        ImageOps.mirror(scene(1)),
        ImageOps.expand(scene(1), 30, "white"),
        ImageOps.invert(scene(1)),
    ],
    ids=["resaved", "smaller", "grey", "mirrored", "bordered", "inverted"],
)
def test_copies_are_twins(twin: Image.Image) -> None:
    vectors = np.stack([structure(im) for im in (scene(1), scene(2), twin)])
    assert twins(vectors) == [(0, 2)]


def test_a_recolour_is_a_twin_but_a_different_sign_in_the_same_frame_is_not() -> None:
    assert cosine(drawing("red"), drawing("blue")) >= SAME
    assert 0.5 < cosine(drawing("red"), drawing("red", "dot")) < SAME


def test_plain_pictures_match_nothing() -> None:
    plain = structure(Image.new("RGB", (64, 64), "navy"))
    assert not plain.any()
    assert twins(np.stack([plain, plain])) == []


def test_structure_has_unit_length() -> None:
    vector = structure(scene(3))
    assert vector.shape == (2, 1024) and vector.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vector, axis=1), 1, atol=1e-5)


def test_mirrored_structure_is_the_structure_of_the_mirrored_picture() -> None:
    square = scene(4, (128, 128))
    expected = structure(ImageOps.mirror(square))
    np.testing.assert_allclose(mirrored(structure(square)[None])[0], expected, atol=1e-4)


def test_content_share() -> None:
    image = Image.new("RGB", (100, 100), "white")
    image.paste((0, 0, 0), (40, 40, 60, 60))
    assert content_share(image) == pytest.approx(0.04)
    assert content_share(Image.new("RGB", (10, 10), "red")) == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_twins_equal_a_plain_double_loop_for_any_block(seed: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(9, 2, 1024)).astype(np.float32)
    vectors[5:7] = vectors[:2] + 0.3 * vectors[5:7]
    vectors[7:, 1] = vectors[2:4, 1].reshape(2, 32, 32)[..., ::-1].reshape(2, 1024)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    flipped = vectors.reshape(9, 2, 32, 32)[..., ::-1].reshape(9, 2, 1024)
    expected = [
        (i, j)
        for i in range(9)
        for j in range(i + 1, 9)
        if max(vectors[i, row] @ other[j, row] for other in (vectors, flipped) for row in (0, 1)) >= SAME
    ]
    assert {(0, 5), (2, 7)} <= set(expected)
    assert twins(vectors, block=block) == expected


@pytest.mark.slow
@given(st.integers(1, 12), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))))
def test_kept_pictures_have_no_twin_and_dropped_ones_had_one(count: int, drawn: set[tuple[int, int]]) -> None:
    pairs = [(i, j) for i, j in drawn if i < j < count]
    kept = set(keep_one(count, pairs))
    assert not any(i in kept and j in kept for i, j in pairs)
    for index in set(range(count)) - kept:
        assert any(j == index and i in kept for i, j in pairs)


def test_plain_pictures() -> None:
    fog = Image.fromarray(np.random.default_rng(0).integers(248, 256, (60, 60, 3), dtype=np.uint8))
    assert is_plain(fog) and is_plain(Image.new("RGB", (60, 60), "red"))
    assert not is_plain(scene(1)) and not is_plain(drawing())
