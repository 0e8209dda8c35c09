"""Thumbnails: what they say of blurred, cropped, pasted and mirrored copies, against other pictures; against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from ndec_builder.training.fused.thumbnails import THUMBS, compare_thumbnails, make_thumbnail
from support.pictures import scene


def grey(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L"))


def thumbnails(query: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return compare_thumbnails(make_thumbnail(query), make_thumbnail(reference))


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9), dtype=np.uint8)
    return Image.fromarray(coarse).resize((300, 220), Image.Resampling.BICUBIC)


def pasted(one: Image.Image) -> Image.Image:
    canvas = picture(99).resize((460, 330))
    canvas.paste(one, (120, 60))
    return canvas


@pytest.mark.parametrize(
    ("edit", "signal"),
    [
        (lambda one: one.filter(ImageFilter.GaussianBlur(6)), 0),
        (lambda one: ImageOps.mirror(one).point(lambda v: 40 + v // 2), 0),
        (pasted, 1),
        (lambda one: ImageOps.mirror(pasted(one)), 1),
        (lambda one: one.crop((60, 40, 260, 190)), 2),
        (lambda one: ImageOps.mirror(one.crop((60, 40, 260, 190))), 2),
    ],
)
def test_an_edited_copy_correlates_in_its_own_signal(edit, signal: int) -> None:  # type: ignore[no-untyped-def]
    originals = [picture(seed) for seed in range(8)]
    own = [thumbnails(grey(edit(one)), grey(one))[signal] for one in originals]
    others = [thumbnails(grey(edit(one)), grey(other))[signal]
              for one, other in zip(originals, originals[1:] + originals[:1], strict=True)]  # fmt: skip
    assert min(own) > 0.8
    assert np.median(others) < np.min(own) - 0.15


def test_the_pair_and_its_reverse_differ() -> None:
    whole, part = grey(picture(1)), grey(picture(1).crop((60, 40, 260, 190)))
    there, back = thumbnails(part, whole), thumbnails(whole, part)
    assert there[1] == pytest.approx(back[2], abs=0.02) and there[2] == pytest.approx(back[1], abs=0.02)
    assert there[2] > 0.8 > there[1]


def test_the_whole_is_numpys_correlation() -> None:
    one, other = grey(scene(1, (32, 32))), grey(scene(2, (32, 32)))
    small = [np.asarray(Image.fromarray(x)).astype(float) for x in (one, other)]
    expected = max(np.corrcoef(a.ravel(), small[1].ravel())[0, 1] for a in (small[0], small[0][:, ::-1]))
    assert thumbnails(one, other)[0] == pytest.approx(expected, abs=0.03)  # it goes through 48 px


def test_flat_and_tiny_pictures_say_nothing() -> None:
    flat, tiny, thin = np.full((50, 60), 7, np.uint8), np.full((1, 1), 3, np.uint8), np.zeros((2, 300), np.uint8)
    for one in (flat, tiny, thin):
        for other in (flat, tiny, thin, grey(picture(0))):
            found = thumbnails(one, other)
            assert found.shape == (len(THUMBS),) and np.isfinite(found).all()
            assert (np.abs(found) <= 1).all()
