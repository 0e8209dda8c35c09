from __future__ import annotations

import numpy as np
import pytest

from ndec_builder.candidates.search.score_normalization import Normalization, normalized
from ndec_builder.core.errors import UsageError


def unit16(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize(
    ("factor", "neighbours", "mode"), [(1.0, 3, "mean"), (2.0, 10, "mean"), (0.5, 4, "min"), (1.0, 99, "mean")]
)
def test_against_plain_sorting(factor, neighbours, mode):
    rng = np.random.default_rng(neighbours)
    queries, background = unit16(rng.normal(size=(40, 24))), unit16(rng.normal(size=(30, 24)))
    scores = -np.sort(-(queries.astype(np.float64) @ background.astype(np.float64).T), axis=1)[:, :neighbours]
    want = factor * (scores[:, -1] if mode == "min" else scores.mean(axis=1))
    offsets = Normalization(factor, neighbours, mode).offsets(queries, background)
    np.testing.assert_allclose(offsets, want, atol=1e-6)
    raw = rng.random(40).astype(np.float32)
    assert normalized(raw, offsets).dtype == np.float32
    np.testing.assert_allclose(normalized(raw, offsets), raw - want, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "max"}, "'max' is unknown; it is one of mean, min"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"factor": float("nan")}, "factor is nan"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(UsageError, match=message):
        Normalization(**options)
