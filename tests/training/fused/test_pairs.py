"""The synthetic pairs: kinds and truth as documented, the same for the same seed, no rival of the same group."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.training.data import TrainingSet
from ndec_builder.training.fused.measure import MEASURED_PAIRS, unit_rows
from ndec_builder.training.fused.pair_signals import PAIR_SIGNALS
from ndec_builder.training.fused.pairs import (
    PairSample,
    contained,
    recorded_crop_box,
    rivals,
    samples_of_image,
    samples_of_pair,
)
from ndec_builder.training.fused.run import far_rivals, of_editor_copies
from support.pictures import scene


def test_an_image_gives_copies_a_reverse_crop_and_crops_that_are_no_copies() -> None:
    picture, two_crops = scene(0), 0
    for seed in range(30):
        samples = samples_of_image(4, picture, np.random.default_rng(seed), [scene(9)], copies=2)
        kinds = [sample.kind for sample in samples]
        assert kinds[:3] == ["copy", "copy", "reverse"]
        assert [sample.is_copy for sample in samples][:3] == [True, True, False]
        assert samples[0].reference is None
        reverse = samples[2]
        assert reverse.reference is not None
        assert reverse.reference.width * reverse.reference.height < 0.85 * picture.width * picture.height
        two_crops += kinds.count("two_crops")
    assert 15 < two_crops <= 30


def test_equal_seeds_give_equal_pixels() -> None:
    first, second = (samples_of_image(0, scene(1), np.random.default_rng(5), [scene(9)], 2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.query.tobytes() == other.query.tobytes()


def test_a_hard_pair_is_passed_on_whole() -> None:
    latter, former = scene(1, (200, 150)), scene(2)
    samples = samples_of_pair(7, 3, (latter, former), np.random.default_rng(0), [])
    hard = [sample for sample in samples if sample.kind == "hard"]
    assert [(s.source, s.row, s.is_copy) for s in hard] == [(7, 3, False)] * 3
    for sample in hard:  # only scaled: the aspect, and so all of the content, is still there
        assert sample.query.width / sample.query.height == pytest.approx(200 / 150, rel=0.03)
    assert [(s.source, s.row) for s in samples if s.kind == "copy_of_hard"] == [(7, 7), (3, 3)]


def test_rivals_are_the_closest_of_other_groups_and_classes() -> None:
    images = pa.table({"image_id": list("abcdef"), "group": ["x", "x", None, "y", None, "z"]})
    data = TrainingSet(images, 6, np.array([0, 1, 2, 0, 3, 4]), np.zeros((0, 2), np.int64), np.zeros(0, bool))
    sample = PairSample("copy", True, scene(0), None, 0, 0)
    scores = np.array([1.0, 0.9, 0.5, 0.8, 0.5, 0.4])
    found = rivals(sample, scores, data, 2)
    assert [(rival.kind, rival.is_copy, rival.row) for rival in found] == [("rival", False, 2), ("rival", False, 4)]


@pytest.mark.parametrize(
    ("inner", "outer", "share"),
    [
        ([0.2, 0.2, 0.4, 0.4], [0.0, 0.0, 1.0, 1.0], 1.0),
        ([0.0, 0.0, 0.4, 0.4], [0.2, 0.0, 1.0, 1.0], 0.5),
        ([0.0, 0.0, 0.2, 0.2], [0.5, 0.5, 1.0, 1.0], 0.0),
    ],
)
def test_contained_share(inner: list[float], outer: list[float], share: float) -> None:
    assert contained(inner, outer) == pytest.approx(share)


def test_crop_box_is_read_from_the_record() -> None:
    edits = ({"operation": "flip", "parameters": {}}, {"operation": "crop", "parameters": {"box": [0, 0, 0.5, 1]}})
    assert recorded_crop_box(edits) == [0, 0, 0.5, 1]


def test_copies_by_image_editors_come_last_and_change_no_other_pair() -> None:
    plain = samples_of_image(0, scene(1), np.random.default_rng(5), [scene(9)], 2)
    more = samples_of_image(0, scene(1), np.random.default_rng(5), [scene(9)], 2, editor_copies=3)
    assert [s.query.tobytes() for s in more[: len(plain)]] == [s.query.tobytes() for s in plain]
    extra = more[len(plain) :]
    assert [(s.kind, s.is_copy, s.row) for s in extra] == [("copy", True, 0)] * 3
    assert all(s.query.width <= scene(1).width and s.query.height <= scene(1).height for s in extra)


def test_hard_pairs_also_come_with_effects_of_image_editors() -> None:
    pictures = scene(1, (200, 150)), scene(2)
    plain = samples_of_pair(7, 3, pictures, np.random.default_rng(0), [scene(9)])
    more = samples_of_pair(7, 3, pictures, np.random.default_rng(0), [scene(9)], editor_copies=4)
    assert [s.query.tobytes() for s in more[: len(plain)]] == [s.query.tobytes() for s in plain]
    extra = more[len(plain) :]
    assert [(s.kind, s.is_copy, s.row) for s in extra] == [("hard_edited", False, 3), ("copy_of_hard", True, 3)] * 4


def test_editor_copies_and_their_rivals_are_recognised() -> None:
    kind = np.array(["copy", "copy", "reverse", "copy", "copy", "copy", "copy", "rival", "rival", "rival", "hard"])
    source = np.array([5, 5, 5, 5, 2, 2, 2, 5, 5, 2, 5])
    query = np.array([0, 1, 2, 3, 4, 5, 6, 0, 3, 6, 9])
    found = of_editor_copies(kind, source, query, copies=2)
    assert np.flatnonzero(found).tolist() == [3, 6, 8, 9]
    assert not of_editor_copies(kind, source, query, copies=3).any()


def test_far_rivals_are_unrelated_images_with_their_own_cosine() -> None:
    """Whitening that changes nothing, so each cosine is a dot of the given unit vectors."""
    generator = np.random.default_rng(0)
    vectors, made = (unit_rows(generator.normal(size=(n, 4)).astype(np.float32)) for n in (6, 3))
    images = pa.table({"image_id": list("abcdef"), "group": ["g", "g", None, None, "h", "h"]})
    data = SimpleNamespace(images=images, classes=np.arange(6))
    known: Any = SimpleNamespace(data=data, vectors=vectors, whitening=Whitening(np.zeros(4, np.float32), np.eye(4)))
    rows = [("copy", 0, 0, np.nan), ("rival", 1, 0, np.nan), ("rival", 1, 0, 0.1), ("rival", 4, 2, np.nan)]
    values = [
        dict.fromkeys(PAIR_SIGNALS, 0.5)
        | {"kind": kind, "is_copy": kind == "copy", "group": "x", "score": 0.9, "background": 0.3, "source": source,
           "image": 3, "query": query, "cut": -1, "scale": scale}
        for kind, source, query, scale in rows
    ] * 20  # fmt: skip
    found = far_rivals(pa.Table.from_pylist(values, MEASURED_PAIRS), made, known, seed=0).to_pylist()
    assert {row["kind"] for row in found} == {"far_rival"} and not any(row["is_copy"] for row in found)
    assert {row["source"] for row in found} == {1, 4} and len({row["image"] for row in found}) > 3
    groups = images["group"].to_pylist()
    assert all(groups[row["image"]] != groups[row["source"]] for row in found)  # neither itself nor one of its group
    expected = [float(made[row["query"]] @ vectors[row["image"]]) for row in found]
    np.testing.assert_allclose([row["score"] for row in found], expected, atol=1e-6)
    assert {row["background"] for row in found} == {0.3}
