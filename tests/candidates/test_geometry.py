"""Geometry of pairs whose truth is known: synthetic homographies, crops and wholes, pasted and mirrored copies."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from ndec_builder.candidates.geometry import fitting
from ndec_builder.candidates.geometry.fitting import (
    ENOUGH_INLIERS,
    SIGNALS,
    Geometry,
    fit_geometry,
    fit_pictures,
    fit_stepwise,
    single_threaded,
)
from ndec_builder.candidates.geometry.homography import is_plausible, project
from ndec_builder.candidates.geometry.keypoints import describe_picture, describe_quickly
from ndec_builder.core.decode import decode
from support.pictures import textured

WIDTH, HEIGHT = 320, 240
WHOLE = np.asarray(textured(1))
OTHER = np.asarray(textured(2))
BOX = (slice(50, 200), slice(70, 270))  # rows, columns of the crop
CORNERS = np.array([[0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1]], float)


def off_by(geometry: Geometry, truth: np.ndarray, points: np.ndarray) -> float:
    """Largest distance, in px of the reference, between where points land and where they should."""
    assert geometry.homography is not None
    return float(np.linalg.norm(project(geometry.homography, points)[0] - project(truth, points)[0], axis=1).max())


@pytest.mark.slow
@given(
    angle=st.floats(-40, 40), scale=st.floats(0.6, 1.4), tilt=st.floats(-2e-4, 2e-4), shift=st.floats(-30, 30),
    seed=st.integers(1, 20),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_a_synthetic_homography_is_found_again(
    angle: float, scale: float, tilt: float, shift: float, seed: int
) -> None:
    picture = np.asarray(textured(seed))
    turn = np.vstack([cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), angle, scale), [0, 0, 1]])
    truth = np.array([[1, 0, shift], [0, 1, -shift / 2], [tilt, tilt / 2, 1]]) @ turn
    reference = cv2.warpPerspective(picture, truth, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
    found = fit_geometry(picture, reference)
    landed = project(truth, CORNERS)[0]
    inside = CORNERS[((landed > 20) & (landed < np.array([WIDTH - 20, HEIGHT - 20]))).all(1)]
    assert off_by(found, truth, np.array([[WIDTH / 2, HEIGHT / 2]])) < 1.0
    assert len(inside) == 0 or off_by(found, truth, inside) < 3.0
    assert not found.mirrored


def test_the_homography_is_that_of_the_given_pixels_not_of_the_working_size() -> None:
    large = np.asarray(textured(3).resize((1280, 960)))
    crop = large[200:800, 300:1100]
    found = fit_geometry(crop, large)
    assert off_by(found, np.array([[1, 0, 300], [0, 1, 200], [0, 0, 1.0]]), np.array([[0, 0], [799, 599.0]])) < 4.0


def test_a_crop_lies_inside_and_its_whole_does_not() -> None:
    crop = np.ascontiguousarray(WHOLE[BOX])
    share = crop.shape[0] * crop.shape[1] / (WIDTH * HEIGHT)
    copy, reverse = fit_geometry(crop, WHOLE), fit_geometry(WHOLE, crop)
    assert copy.query_inside == pytest.approx(1, abs=0.02)
    assert copy.reference_covered == pytest.approx(share, abs=0.02)
    assert reverse.query_inside == pytest.approx(share, abs=0.02)
    assert reverse.reference_covered == pytest.approx(1, abs=0.02)
    assert np.isnan(copy.seam) and abs(reverse.seam) < 0.6
    assert min(copy.local_correlation, reverse.local_correlation) > 0.9


def pasted(edge: str, seed: int = 2) -> np.ndarray:
    """The crop of WHOLE on another picture, where it was in WHOLE: covers as much as the reverse crop."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    if edge == "rounded":
        cv2.rectangle(mask, (90, 50), (249, 199), 1.0, -1)
        cv2.rectangle(mask, (70, 70), (269, 179), 1.0, -1)
        for x, y in ((90, 70), (249, 70), (90, 179), (249, 179)):
            cv2.circle(mask, (x, y), 20, 1.0, -1)
    else:
        mask[BOX] = 1
    if edge in ("soft", "feathered"):
        mask = cv2.GaussianBlur(mask, (0, 0), {"soft": 1.5, "feathered": 4.0}[edge])
    background = np.asarray(textured(seed), np.float32)
    return np.rint(mask[..., None] * WHOLE + (1 - mask[..., None]) * background).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(("edge", "margin"), [("hard", 0.8), ("rounded", 0.5), ("soft", 0.3), ("feathered", 0.05)])
def test_a_pasted_copy_has_a_seam_and_the_reverse_crop_has_none(edge: str, margin: float) -> None:
    crop = np.ascontiguousarray(WHOLE[BOX])
    reverse = fit_geometry(WHOLE, crop)
    copies = [fit_geometry(pasted(edge, background), crop) for background in (2, 5, 8, 11)]
    inside = [copy.query_inside for copy in copies]
    assert inside == pytest.approx([reverse.query_inside] * 4, abs=0.05)  # it cannot tell them apart
    assert np.mean([copy.seam for copy in copies]) > reverse.seam + margin


def test_a_padded_copy_has_a_seam() -> None:
    padded = cv2.copyMakeBorder(WHOLE, 40, 30, 50, 20, cv2.BORDER_CONSTANT, value=(200, 30, 30))
    found = fit_geometry(padded, WHOLE)
    assert found.query_inside == pytest.approx(WHOLE.size / padded.size, abs=0.02) and found.seam > 1


def test_a_mirrored_copy_is_found_and_its_homography_mirrors() -> None:
    found = fit_geometry(np.ascontiguousarray(WHOLE[:, ::-1]), WHOLE)
    assert found.mirrored and found.query_inside > 0.97 and found.local_correlation > 0.9
    assert off_by(found, np.array([[-1, 0, WIDTH - 1], [0, 1, 0], [0, 0, 1.0]]), CORNERS) < 1.0


def test_mirrored_keypoints_are_those_of_the_mirrored_picture() -> None:
    """Second computation: SIFT on the mirrored pixels."""
    ours = describe_picture(WHOLE).mirrored()
    theirs = describe_picture(np.ascontiguousarray(WHOLE[:, ::-1]))
    np.testing.assert_array_equal(ours.grey, theirs.grey)
    distance = np.linalg.norm(ours.points[:, None] - theirs.points[None], axis=2)
    close = np.argwhere(distance < 0.3)
    similar = [np.linalg.norm(ours.descriptors[i] - theirs.descriptors[j]) < 120 for i, j in close]
    assert len(close) > 0.8 * len(ours.points)
    assert np.mean(similar) > 0.7  # points with two main directions pair up with their other one too


def test_an_identical_pair_is_perfect() -> None:
    found = fit_geometry(WHOLE, WHOLE)
    assert off_by(found, np.eye(3), CORNERS) < 0.01
    assert (found.query_inside, found.reference_covered) == (1, 1)
    assert found.local_correlation > 0.999 and found.agreeing_share == 1 and found.shift < 0.1
    assert found.inlier_share == 1 and found.perspective < 1e-4 and found.stretch < 0.01


def test_moved_parts_are_seen_and_brightness_is_not() -> None:
    brighter = np.clip(WHOLE.astype(np.float32) * 0.7 + 40, 0, 255).astype(np.uint8)
    moved = WHOLE.copy()
    moved[20:120, 20:150] = WHOLE[23:123, 26:156]  # part of the scene stands elsewhere: parallax
    moved[130:220, 160:300] = WHOLE[128:218, 165:305]
    edited, other = fit_geometry(brighter, WHOLE), fit_geometry(moved, WHOLE)
    assert edited.local_correlation > 0.95 > other.local_correlation
    assert edited.shift < 0.5 < 2 < other.shift


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        np.full((240, 320, 3), 128, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((3, 3000, 3), np.uint8),
        WHOLE[:20, :20].copy(),
        np.dstack([np.tile(np.arange(256, dtype=np.uint8), (256, 1))] * 3),
        OTHER,
    ],
    ids=["flat", "one pixel", "a line", "tiny", "ramp", "another picture"],
)
def test_where_nothing_fits_there_is_no_homography_and_no_crash(query: np.ndarray) -> None:
    for found in (fit_geometry(query, WHOLE), fit_geometry(WHOLE, query)):
        assert found.homography is None and found.inliers == 0 and found.query_inside == 0
        assert np.isnan(found.local_correlation) and np.isnan(found.seam)
        assert found.vector().shape == (len(SIGNALS),)


def test_a_repeated_texture_matches_nothing_for_certain() -> None:
    board = np.kron(np.indices((12, 16)).sum(0) % 2, np.ones((20, 20)))[..., None] * np.array([200, 200, 200])
    found = fit_geometry(board.astype(np.uint8), board.astype(np.uint8))
    assert found.homography is None or off_by(found, np.eye(3), CORNERS) < 1


@pytest.mark.parametrize("bad", [WHOLE[..., 0], WHOLE.astype(np.float32), WHOLE[:0], np.zeros((4, 4, 4), np.uint8)])
def test_only_rgb_pictures_are_taken(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a picture"):
        fit_geometry(bad, WHOLE)


def test_implausible_homographies_are_refused() -> None:
    points = np.random.default_rng(0).uniform(0, 300, (30, 2))
    for matrix in (
        np.diag([-1.0, 1, 1]),  # mirrors
        np.diag([40.0, 40, 1]),  # blows up
        np.diag([5.0, 0.5, 1]),  # squashes
        np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1.0]]),  # half of the points behind the camera
    ):
        assert not is_plausible(matrix, points, project(matrix, points)[0])
    assert is_plausible(np.diag([2.0, 1, 1]), points, points * [2, 1])
    on_a_line = np.column_stack([points[:, 0], 2 * points[:, 0]])
    assert not is_plausible(np.eye(3), on_a_line, on_a_line)


@pytest.mark.slow
def test_the_same_pixels_give_the_same_numbers_whatever_the_threads() -> None:
    def found() -> list[np.ndarray]:
        pair = describe_picture(pasted("soft")), describe_picture(WHOLE)
        return [fit_pictures(*pair).vector(), fit_geometry(pasted("soft"), WHOLE).vector()]

    first, before = found(), cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        np.testing.assert_array_equal(found(), first)
    finally:
        cv2.setNumThreads(before)


def test_a_clear_fit_needs_no_finer_keypoints() -> None:
    query, reference = describe_quickly(np.ascontiguousarray(WHOLE[BOX])), describe_quickly(WHOLE)
    expected = fit_pictures(query, reference)
    assert expected.inliers >= ENOUGH_INLIERS
    np.testing.assert_array_equal(fit_stepwise(query, reference).vector(), expected.vector())
    assert "finer" not in query.__dict__


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_weak_fit_is_made_again_with_finer_keypoints(mirrored: bool) -> None:
    crop = np.ascontiguousarray(WHOLE[60:132, 110:206][:, :: -1 if mirrored else 1])
    query, reference = describe_quickly(crop), describe_quickly(WHOLE)
    coarse, found = fit_pictures(query, reference), fit_stepwise(query, reference)
    assert 0 < coarse.inliers < ENOUGH_INLIERS < found.inliers
    side = crop.shape[1] - 1
    truth = np.array(
        [[-1, 0, 110 + side], [0, 1, 60], [0, 0, 1.0]] if mirrored else [[1, 0, 110], [0, 1, 60], [0, 0, 1.0]]
    )
    assert found.mirrored == mirrored and off_by(found, truth, np.array([[0, 0], [side, 71.0]])) < 1.0


def test_pictures_with_nothing_in_common_are_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    query, reference = describe_quickly(WHOLE), describe_quickly(np.full((240, 320, 3), 90, np.uint8))
    found = fit_stepwise(query, reference)
    assert found.homography is None and "finer" not in query.__dict__
    monkeypatch.setattr(fitting, "FEW_MATCHES", 0)
    assert fit_stepwise(query, reference).homography is None and "finer" in query.__dict__


@pytest.mark.parametrize("size", [(1281, 957), (960, 1283)])
def test_the_homography_of_a_jpeg_that_was_scaled_down_is_that_of_its_full_size(size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    textured(3).resize(size).save(buffer, "JPEG", quality=95)
    small, full = decode(buffer.getvalue(), target=lambda w, h: (320, 320)), decode(buffer.getvalue())
    assert small.info["scaled_down"] == 2
    query = describe_quickly(np.asarray(full)[100:800, 150:950])
    found = fit_stepwise(query, describe_quickly(np.asarray(small), scaled_down=2))
    truth = np.array([[1, 0, 150], [0, 1, 100], [0, 0, 1.0]])
    assert off_by(found, truth, np.array([[0, 0], [799, 699.0]])) < 3.0


def test_workers_compute_in_one_thread_and_the_caller_gets_its_threads_back() -> None:
    def counts() -> tuple[int, ...]:
        blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
        return cv2.getNumThreads(), *blas

    with threadpool_limits(2, "blas"):
        before = counts()
        with single_threaded():
            assert set(counts()) == {1}
        assert counts() == before and max(before) > 1
