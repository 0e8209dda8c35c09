"""Edges of a pair: they agree where a filter changed all tones, and inverted keypoints find the homography."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from ndec_builder.candidates.geometry.fitting import fit_pictures
from ndec_builder.candidates.geometry.keypoints import DescribedPicture, describe_picture
from ndec_builder.training.fused import edges
from ndec_builder.training.fused.edges import (
    INVERTED_ORDER,
    edge_agreement,
    edge_map,
    edge_square,
    fit_either_tone,
)
from ndec_builder.training.fused.pair_signals import PAIR_SIGNALS, pair_vector, prepare_picture
from support.pictures import textured


def described(picture: Image.Image) -> DescribedPicture:
    return describe_picture(np.asarray(picture.convert("RGB")))


def signal(query: Image.Image, reference: Image.Image, name: str) -> float:
    pictures = [prepare_picture(np.asarray(one.convert("RGB"))) for one in (query, reference)]
    return float(pair_vector(*pictures)[PAIR_SIGNALS.index(name)])


@pytest.mark.slow
def test_opencv_describes_the_inverted_picture_in_the_inverted_order() -> None:
    plain, negative = described(textured(1)), described(ImageOps.invert(textured(1)))
    places = {tuple(np.rint(point)): row for row, point in enumerate(negative.points)}
    same = [(row, places[key]) for row, point in enumerate(plain.points) if (key := tuple(np.rint(point))) in places]
    assert len(same) > 0.8 * len(plain.points)
    gaps = [np.abs(plain.descriptors[one, INVERTED_ORDER] - negative.descriptors[other]).mean() for one, other in same]
    assert np.median(gaps) < 2 < np.median([np.abs(plain.descriptors[i] - negative.descriptors[j]).mean()
                                            for i, j in same])  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_negative_is_aligned(mirrored: bool) -> None:
    query = ImageOps.invert(textured(2))
    query = ImageOps.mirror(query) if mirrored else query
    pair = described(query), described(textured(2))
    assert fit_pictures(*pair).homography is None
    geometry, by_edges = fit_either_tone(*pair)
    assert by_edges and geometry.mirrored is mirrored and geometry.homography is not None
    corners = np.array([[[0, 0], [319, 0], [319, 239]]], np.float32)
    expected = corners.copy()
    if mirrored:
        expected[..., 0] = 319 - expected[..., 0]
    found = cv2.perspectiveTransform(corners, geometry.homography)
    assert np.abs(found - expected).max() < 1.5
    assert geometry.local_correlation > 0.9  # of edges


@pytest.mark.slow
def test_a_pair_with_enough_inliers_keeps_its_geometry() -> None:
    pair = described(textured(3).rotate(7)), described(textured(3))
    geometry, by_edges = fit_either_tone(*pair)
    assert not by_edges
    np.testing.assert_array_equal(geometry.vector(), fit_pictures(*pair).vector())


@pytest.mark.slow
def test_edges_agree_after_a_change_of_all_tones_and_not_for_another_picture() -> None:
    reference = textured(4)
    negative, other = ImageOps.invert(reference), textured(5)
    assert signal(ImageOps.solarize(reference.crop((40, 30, 300, 220)), 120), reference, "edge_median") > 0.5
    assert signal(negative, reference, "thumb_edges") == pytest.approx(1, abs=0.01)
    assert signal(negative, reference, "thumb_negative") == pytest.approx(1, abs=0.01)
    assert np.isnan(signal(other, reference, "edge_median"))
    assert max(signal(other, reference, name) for name in ("thumb_edges", "thumb_negative")) < 0.6


def test_a_negative_has_the_same_edges() -> None:
    grey = np.asarray(textured(6).convert("L"))
    gaps = np.abs(edge_map(255 - grey).astype(int) - edge_map(grey))
    assert gaps.mean() < 0.2 and gaps.max() <= 8  # rounding of the blurred greys


def test_edges_have_the_strength_of_the_formula() -> None:
    grey = np.asarray(textured(7).convert("L"))
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    across, down = (cv2.Sobel(smooth, cv2.CV_16S, *order, ksize=3).astype(np.float64) for order in ((1, 0), (0, 1)))
    strength = np.minimum(np.rint(8 * (across**2 + down**2) ** 0.25), 255).astype(np.uint8)
    np.testing.assert_array_equal(edge_map(grey), cv2.GaussianBlur(strength, (0, 0), 1.5))


@pytest.mark.slow
def test_edges_are_computed_only_for_inverted_keypoints_that_win(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(edges, "edge_map", lambda grey: made.append(1) or edge_map(grey))
    fit_either_tone(described(textured(2)), described(textured(3)))
    assert not made
    fit_either_tone(described(ImageOps.invert(textured(2))), described(textured(2)))
    assert len(made) == 2


def test_flat_and_tiny_pictures_have_no_edges() -> None:
    for grey in (np.full((50, 60), 7, np.uint8), np.full((1, 1), 3, np.uint8), np.zeros((2, 300), np.uint8)):
        assert not edge_square(grey).any()
    flat, real = described(Image.new("RGB", (40, 30), (200, 10, 30))), described(textured(7))
    geometry, by_edges = fit_either_tone(flat, real)
    assert geometry.homography is None and not by_edges
    assert np.isnan(edge_agreement(flat, real, geometry)).all()
    assert fit_either_tone(real, flat)[0].homography is None
