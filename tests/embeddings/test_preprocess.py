"""Pictures as arrays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.preprocess import longest_side, square, to_array, to_pixels
from support.pictures import scene


@pytest.mark.parametrize("size", [(1, 90), (90, 1), (7, 7), (700, 300)])
def test_shape_and_type_for_any_picture(size: tuple[int, int]) -> None:
    array = to_array(scene(1).resize(size), 32)
    assert array.shape == (3, 32, 32) and array.dtype == np.uint8 and array.transpose(1, 2, 0).flags["C_CONTIGUOUS"]


def test_channels_first_and_no_change_at_the_same_size() -> None:
    image = scene(2, (40, 40))
    assert np.array_equal(to_array(image, 40), np.asarray(image).transpose(2, 0, 1))


def test_the_whole_picture_is_squashed_not_cropped() -> None:
    image = Image.new("RGB", (300, 50))
    image.paste((255, 0, 0), (0, 0, 100, 50))
    red = to_array(image, 60)[0] > 127
    assert red[:, :19].all() and not red[:, 21:].any()


def test_normalise() -> None:
    batch = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    got = Backbone.normalised(SimpleNamespace(mean=mean, std=std), torch.from_numpy(batch))  # type: ignore[arg-type]
    expected = (batch / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    assert got.numpy() == pytest.approx(expected, abs=1e-6)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_resized_as_pillow_does_within_two_grey_levels() -> None:
    picture = scene(3, (300, 200))
    expected = np.asarray(picture.resize((96, 64), Image.Resampling.BICUBIC), int)
    got = to_pixels(picture, (96, 64))
    assert got.shape == (64, 96, 3) and np.abs(got - expected).max() <= 2


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1024, 768), (512, 384)),
        ((768, 1024), (384, 512)),
        ((100, 100), (512, 512)),
        ((1024, 700), (512, 352)),
        ((4000, 10), (512, 32)),
    ],
)
def test_targets(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert longest_side(512)(*size) == shape
    assert square(224)(*size) == (224, 224)
