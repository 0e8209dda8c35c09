"""Whitening against its definition and against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.whitening import Whitening


def features(count: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, width)) @ rng.standard_normal((width, width)) + 3).astype(np.float32)


def test_covariance_of_the_fitted_images_is_the_identity() -> None:
    x = features(500, 20)
    y = Whitening.fit(x, 12).apply(x).astype(np.float64)
    assert y.shape == (500, 12)
    assert np.cov(y.T) == pytest.approx(np.eye(12), abs=1e-3)
    assert y.mean(0) == pytest.approx(np.zeros(12), abs=1e-4)


def test_equals_scikit_learn_up_to_signs() -> None:
    x = features(300, 15)
    theirs = PCA(8, whiten=True, svd_solver="full").fit_transform(x.astype(np.float64))
    assert np.abs(Whitening.fit(x, 8).apply(x)) == pytest.approx(np.abs(theirs), abs=1e-3)


def test_fewer_images_than_dimensions() -> None:
    x = features(6, 30)
    whitening = Whitening.fit(x, 256)
    assert whitening.dim == 5
    assert np.cov(whitening.apply(x).T) == pytest.approx(np.eye(5), abs=1e-3)


def test_shrinkage_pulls_variances_to_their_mean() -> None:
    x = features(400, 10)
    variances = np.sort(np.linalg.eigvalsh(np.cov(x.T.astype(np.float64))))[::-1]
    for alpha in (0.0, 0.3, 1.0):
        got = Whitening.fit(x, 10, alpha).apply(x).var(axis=0, ddof=1)
        assert got == pytest.approx(variances / ((1 - alpha) * variances + alpha * variances.mean()), rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 100))
def test_a_row_does_not_depend_on_its_company(count: int, width: int, seed: int) -> None:
    x = features(count, width, seed)
    whitening = Whitening.fit(x, 8)
    together = whitening.apply(x)
    assert all(np.array_equal(whitening.apply(x[i : i + 1])[0], together[i]) for i in range(count))


@pytest.mark.slow
def test_the_number_of_threads_does_not_show() -> None:
    features = np.random.default_rng(0).normal(size=(1000, 960)).astype(np.float32) ** 2
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(Whitening.fit(features, 64, 0.1).fingerprint)
    assert found[0] == found[1]


def test_deterministic_with_fixed_signs_and_round_trip(tmp_path: Path) -> None:
    x = features(50, 9)
    whitening, again = Whitening.fit(x, 5, 0.1), Whitening.fit(x.copy(), 5, 0.1)
    assert whitening.fingerprint == again.fingerprint
    assert (whitening.matrix[np.arange(5), np.abs(whitening.matrix).argmax(1)] > 0).all()
    first, second = whitening.save(tmp_path / "a.npz"), again.save(tmp_path / "b.npz")
    assert first.read_bytes() == second.read_bytes()
    assert Whitening.load(first).fingerprint == whitening.fingerprint
    assert Whitening.fit(x + 1, 5, 0.1).fingerprint != whitening.fingerprint


@pytest.mark.parametrize(
    ("x", "dim", "shrinkage", "message"),
    [
        (np.ones((1, 4)), 2, 0.0, "cannot be fitted on 1 image;"),
        (np.ones((0, 4)), 2, 0.0, "cannot be fitted on 0 images"),
        (np.ones((5, 4)), 2, 0.0, "all have the same descriptor"),
        (features(5, 4), 0, 0.0, "dim=0"),
        (features(5, 4), 2, 1.5, "shrinkage=1.5"),
    ],
)
def test_bad_fits(x: np.ndarray, dim: int, shrinkage: float, message: str) -> None:
    with pytest.raises(NdecError, match=message):
        Whitening.fit(x, dim, shrinkage)


def test_bad_files_and_widths(tmp_path: Path) -> None:
    with pytest.raises(NdecError, match="takes 4-d features, got 7-d"):
        Whitening.fit(features(9, 4), 2).apply(np.ones((1, 7)))
    path = tmp_path / "whitening.npz"
    for content in (None, b"nothing"):
        if content:
            path.write_bytes(content)
        with pytest.raises(NdecError, match=r"whitening\.npz cannot be read as a whitening"):
            Whitening.load(path)
    np.savez(path, mean=np.ones(3), matrix=np.ones((2, 5)))
    with pytest.raises(NdecError, match="arrays of the shapes"):
        Whitening.load(path)
