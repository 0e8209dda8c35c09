"""Matches of keypoints against a search pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.candidates.geometry.keypoint_matching import match_keypoints


def one_by_one(query: np.ndarray, reference: np.ndarray, ratio: float) -> list[tuple[int, int]]:
    gaps = ((query[:, None].astype(np.int64) - reference[None].astype(np.int64)) ** 2).sum(axis=2)
    found = []
    for row, own in enumerate(gaps):
        first, second = sorted(own)[:2]
        nearest = int(np.flatnonzero(own == first)[0])
        mutual = int(np.flatnonzero(gaps[:, nearest] == gaps[:, nearest].min())[0]) == row
        if mutual and np.float32(first) < ratio**2 * np.float32(second):
            found.append((row, nearest))
    return found


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(2, 9), st.sampled_from([2, 4, 256]), st.integers(0, 2**20))
def test_matches_are_mutual_and_clear_and_ties_go_to_the_lower_index(n: int, k: int, values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, reference = (rng.integers(0, values, (count, 128)).astype(np.float32) for count in (n, k))
    shared = min(n, k) // 2
    reference[:shared] = np.clip(query[:shared] + rng.integers(-1, 2, (shared, 128)), 0, 255)
    before = query.copy(), reference.copy()
    assert [tuple(pair) for pair in match_keypoints(query, reference).tolist()] == one_by_one(query, reference, 0.8)
    np.testing.assert_array_equal(query, before[0])
    np.testing.assert_array_equal(reference, before[1])


@pytest.mark.parametrize(("n", "k"), [(0, 5), (5, 0), (5, 1)])
def test_nothing_is_matched_without_a_second_nearest(n: int, k: int) -> None:
    assert match_keypoints(np.ones((n, 128), np.float32), np.ones((k, 128), np.float32)).shape == (0, 2)
