"""Roles: no group in both splits, no picture in two parts, the same for any order of the pictures."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.demo.corpus.role_assignment import (
    MIN_PICTURES,
    TEST_COUNTS,
    TRAIN_COUNTS,
    Cast,
    PictureCard,
    Roles,
    assign_roles,
)


def make(family_sizes: list[int], singles: int, films: int = 0) -> list[PictureCard]:
    """Families named by number; the first `films` of them belong to one unit."""
    pictures = [
        PictureCard(f"f{f:03d}-{m}", f"family/{f}", "film" if f < films else f"family/{f}", f % 3 == 0)
        for f, size in enumerate(family_sizes)
        for m in range(size)
    ]
    return pictures + [PictureCard(f"s{n:04d}", f"s{n:04d}", f"s{n:04d}", n % 2 == 0) for n in range(singles)]


def parts(cast: Cast) -> list[str]:
    return cast.gallery + cast.natural + cast.crops + cast.distractors


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(2, 20), max_size=25),
    st.integers(0, 120),
    st.integers(0, 4),
    st.integers(0, 3),
    st.sampled_from([0.05, 0.25, 1.0]),
)
def test_nothing_is_shared(sizes: list[int], singles: int, films: int, seed: int, scale: float) -> None:
    pictures = make(sizes, singles, films)
    if len(pictures) < MIN_PICTURES:
        with pytest.raises(NdecError, match="bring at least"):
            assign_roles(pictures, seed, scale)
        return
    roles = assign_roles(pictures, seed, scale)
    shuffled = list(pictures)
    random.Random(seed).shuffle(shuffled)
    assert assign_roles(shuffled, seed, scale) == roles
    everything = parts(roles.test) + parts(roles.train) + roles.backgrounds
    assert len(everything) == len(set(everything))
    by_id = {picture.image_id: picture for picture in pictures}
    units = [{by_id[i].unit for i in ids} for ids in (parts(roles.test), parts(roles.train), roles.backgrounds)]
    assert not units[0] & units[1] and not units[2] & (units[0] | units[1])
    for cast in (roles.test, roles.train):
        check_cast(cast, by_id)


def check_cast(cast: Cast, by_id: dict[str, PictureCard]) -> None:
    gallery = {by_id[i].group for i in cast.gallery}
    assert {by_id[i].group for i in cast.natural} <= gallery
    assert set(cast.copied) <= set(cast.gallery)
    for group in gallery:
        assert sum(by_id[i].group == group for i in cast.natural) <= 6
    if len(cast.natural) >= 20:
        assert len(cast.natural) >= 1.5 * len(cast.crops)


def plenty() -> Roles:
    return assign_roles(make([4] * 260, 2200), 0)


def test_the_planned_numbers_are_reached_with_enough_pictures() -> None:
    roles = plenty()
    for cast, numbers in ((roles.test, TEST_COUNTS), (roles.train, TRAIN_COUNTS)):
        assert len(cast.gallery) + len(cast.crops) == numbers.gallery
        assert len(cast.natural) == numbers.natural
        assert len(cast.crops) == min(numbers.crops, numbers.natural // 3)
        assert len(cast.copied) == numbers.copies
        assert len(cast.distractors) == numbers.distractors


def test_photos_come_first_as_reverse_crops_and_sources_of_copies() -> None:
    roles = plenty()
    photo = {picture.image_id: picture.photo for picture in make([4] * 260, 2200)}
    for cast in (roles.test, roles.train):
        assert all(photo[i] for i in cast.crops)
        assert all(photo[i] for i in cast.copied)


def test_a_different_seed_gives_a_different_choice() -> None:
    pictures = make([3] * 30, 200)
    assert assign_roles(pictures, 0, 0.1) != assign_roles(pictures, 1, 0.1)


def test_few_scenes_still_fill_every_part() -> None:
    roles = assign_roles(make([8, 8, 8], 0), 0)
    for cast in (roles.test, roles.train):
        assert cast.gallery and cast.natural and cast.crops and cast.copied


def test_the_most_typical_of_a_family_are_used_first() -> None:
    members = [PictureCard(f"m{n}", "family/m", "family/m", True, typical=n / 10) for n in range(5)]
    roles = assign_roles(members + make([], 40), 0)
    cast = roles.test if roles.test.natural else roles.train
    assert "m4" in cast.gallery
    assert cast.natural == ["m1", "m2", "m3"]
