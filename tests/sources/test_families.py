"""Groups: joined by name or looks, in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.demo.corpus.look_alike_groups import group_names
from ndec_builder.demo.corpus.package_rules import family_key, name_key


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("animals/tiger_01.png", "tiger"),
        ("animals/Tiger2.png", "tiger"),
        ("people/krug_02b.png", "krug"),
        ("rain/tigre01_architetto_01.png", "tigre#_architetto"),
        ("maps/hungary.png", "hungary"),
        ("maps/hungary_regions.png", "hungary"),
        ("x/007.png", "007"),
    ],
)
def test_family_names(path: str, key: str) -> None:
    assert name_key(path) == key


def test_a_family_stays_in_its_folder_unless_the_rule_says_otherwise() -> None:
    assert family_key("openclipart-png", "a/tiger1.png") != family_key("openclipart-png", "b/tiger1.png")
    monuments = [family_key("gcompris-qt-data", f"{rcc}.rcc/tajMahal.webp") for rcc in ("categorization", "explore")]
    assert monuments[0] == monuments[1]
    assert family_key("gcompris-qt-data", "lang.rcc/giraffe.webp") != family_key(
        "gcompris-qt-data", "x.rcc/giraffe.webp"
    )


def test_views_of_opencv_are_named_and_nothing_else_is_joined() -> None:
    assert family_key("opencv-doc", "data/aloeL.jpg") == family_key("opencv-doc", "data/aloeR.jpg") is not None
    assert family_key("opencv-doc", "data/pic1.png") is None


def test_groups_join_names_and_look_alikes() -> None:
    ids = ["a", "b", "c", "d", "e"]
    names = group_names(ids, ["x", None, "x", None, "y"], [(1, 2)], {"y"})
    assert names == ["family/a", "family/a", "family/a", "d", "e"]
    assert group_names(ids, ["y", None, None, None, "y"], [], {"y"})[0] == "scene/a"


@given(
    st.lists(st.sampled_from(["f", "g", None]), min_size=8, max_size=8),
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=8),
    st.permutations(range(8)),
)
def test_groups_do_not_depend_on_the_order(
    families: list[str | None], pairs: set[tuple[int, int]], order: list[int]
) -> None:
    ids = [f"i{n}" for n in range(8)]
    plain = dict(zip(ids, group_names(ids, families, pairs, set()), strict=True))
    place = {old: new for new, old in enumerate(order)}
    moved = group_names(
        [ids[i] for i in order], [families[i] for i in order], {(place[i], place[j]) for i, j in pairs}, set()
    )
    assert dict(zip([ids[i] for i in order], moved, strict=True)) == plain
    # by another route: repeat merging until nothing changes
    label = {i: i for i in range(8)}
    edges = list(pairs) + [(i, j) for i in range(8) for j in range(8) if families[i] and families[i] == families[j]]
    for _ in range(8):
        for i, j in edges:
            label[i] = label[j] = min(label[i], label[j])
    for i in range(8):
        for j in range(8):
            assert (label[i] == label[j]) == (plain[ids[i]] == plain[ids[j]])
