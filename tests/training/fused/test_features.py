"""The features of a pair: finite, in the documented order, and the background mean against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ndec_builder.candidates.geometry.fitting import Geometry
from ndec_builder.edits.compositions import tile
from ndec_builder.training.fused.edges import EDGES
from ndec_builder.training.fused.features import (
    BACKGROUND_NEIGHBOURS,
    PAIR_FEATURES,
    background_rows,
    background_scores,
    features,
)
from ndec_builder.training.fused.layout import LAYOUT
from ndec_builder.training.fused.pair_signals import PAIR_SIGNALS, pair_vector, prepare_picture
from ndec_builder.training.fused.thumbnails import THUMBS
from support.pictures import textured

pytestmark = pytest.mark.slow


def column(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[:, PAIR_FEATURES.index(name)]


def test_a_pair_without_a_fit_is_finite_and_says_so() -> None:
    edges = [0, np.nan, np.nan, np.nan, 0.4, -0.2]
    nothing = np.concatenate(
        [Geometry(None, False, 5, 0, 0.0, 0.1).vector(), [0.3, 0.2, 0.1], edges, [0.6, 0.5, 0.1, 0.9]]
    )
    rows = features(np.array([0.7]), np.array([0.4]), nothing[None])
    assert np.isfinite(rows).all()
    assert column(rows, "verified")[0] == 0
    assert column(rows, "log_matches")[0] == pytest.approx(np.log(6))
    assert column(rows, "score_normalized")[0] == pytest.approx(0.3)
    assert [column(rows, name)[0] for name in THUMBS] == pytest.approx([0.3, 0.2, 0.1])
    assert [column(rows, name)[0] for name in EDGES] == pytest.approx([0, 0, 0, 0, 0.4, -0.2])
    assert [column(rows, name)[0] for name in LAYOUT] == pytest.approx([0.6, 0.5, 0.1, 0.9])
    assert column(rows, "query_outside")[0] == 0  # not "all outside": nothing is known


def test_the_rows_of_a_pair_and_its_reverse_differ() -> None:
    coarse = np.random.default_rng(3).integers(0, 256, (55, 75, 3), dtype=np.uint8)  # corners everywhere
    whole = Image.fromarray(coarse).resize((300, 220), Image.Resampling.BICUBIC)
    part = whole.crop((60, 40, 220, 170))
    pictures = [prepare_picture(np.asarray(picture)) for picture in (part, whole)]
    signals = np.stack([pair_vector(*pictures), pair_vector(*pictures[::-1])])
    rows = features(np.full(2, 0.9), np.full(2, 0.5), signals)
    assert column(rows, "verified").all()
    assert column(rows, "query_outside")[0] < 0.05 < 0.3 < column(rows, "query_outside")[1]
    assert column(rows, "seam_seen").tolist() == [0, 1]


def test_a_packed_reference_gives_the_same_signals_in_less_memory() -> None:
    coarse = np.random.default_rng(4).integers(0, 256, (55, 75, 3), dtype=np.uint8)
    whole = Image.fromarray(coarse).resize((300, 220), Image.Resampling.BICUBIC)
    query, reference = (prepare_picture(np.asarray(one)) for one in (whole.rotate(9), whole))
    packed = reference.packed()
    np.testing.assert_array_equal(pair_vector(query, packed.unpacked()), pair_vector(query, reference))
    assert packed.described.rgb.base is None  # a view would keep the colours in memory
    sizes = [one.described.descriptors.nbytes + one.described.rgb.nbytes for one in (packed, reference)]
    assert 0 < 4 * sizes[0] <= sizes[1]


def test_all_of_a_tiled_copy_is_inside_the_reference() -> None:
    reference = textured(7, (360, 240))
    others = reference, tile(reference, 2, True), tile(reference, 2, False)
    whole, *tiled = (prepare_picture(np.asarray(one)) for one in others)
    signals = np.stack([pair_vector(one, whole) for one in (*tiled, whole)])
    rows = features(np.full(3, 0.9), np.full(3, 0.5), signals)
    assert column(rows, "verified").all()
    assert (signals[:2, PAIR_SIGNALS.index("query_inside")] < 0.3).all()
    assert column(rows, "query_inside") == pytest.approx(1, abs=0.01)
    assert column(rows, "query_outside") == pytest.approx(0, abs=0.01)


def test_the_norm_ratio_enters_as_its_logarithm() -> None:
    signals = np.full((2, len(PAIR_SIGNALS)), np.nan)
    signals[:, PAIR_SIGNALS.index("matches")] = 0
    signals[:, PAIR_SIGNALS.index("match_density")] = 0
    rows = features(np.zeros(2), np.zeros(2), signals, np.array([1.0, 2.0]))
    assert column(rows, "log_query_over_reference").tolist() == pytest.approx([0, np.log(2)])


def test_background_scores_leave_the_own_image_out() -> None:
    rng = np.random.default_rng(0)
    unit = lambda n: (v := rng.normal(size=(n, 6))) / np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    background, queries = unit(12).astype(np.float32), unit(7).astype(np.float32)
    own = np.array([-1, 0, 3, 11, -1, 5, 2])
    expected = []
    for query, row in zip(queries, own, strict=True):
        scores = sorted((float(query @ b) for i, b in enumerate(background) if i != row), reverse=True)
        expected.append(sum(scores[:BACKGROUND_NEIGHBOURS]) / BACKGROUND_NEIGHBOURS)
    np.testing.assert_allclose(background_scores(queries, background, own), expected, atol=1e-6)


def test_background_rows_are_all_or_evenly_spread() -> None:
    assert background_rows(4).tolist() == [0, 1, 2, 3]
    many = background_rows(5000)
    assert len(many) == 1000
    assert (many[0], many[-1]) == (0, 4999)
