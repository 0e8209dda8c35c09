"""The losses against numpy and pytorch-metric-learning; the choice of norm pairs against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import CosFaceLoss as LibraryCosFace

from ndec_builder.training.losses import (
    CosFaceLoss,
    NormRatioLoss,
    TripletLoss,
    norms,
    ordered_view_pairs,
    original_copy_pairs,
)


def features(count: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def rows(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_norm_ratio_is_equation_2() -> None:
    x = features(5)
    length = np.linalg.norm(x.numpy().astype(np.float64), axis=1)
    expected = np.mean([np.exp(1 - length[i] / length[j]) for i, j in ((0, 1), (3, 2), (4, 0))])
    assert float(NormRatioLoss()(x, rows(0, 3, 4), rows(1, 2, 0))) == pytest.approx(expected, rel=1e-6)


def test_norm_ratio_of_no_pairs_is_zero_and_a_pair_with_itself_is_refused() -> None:
    x = features(3).requires_grad_()
    assert float(NormRatioLoss()(x, rows(), rows()).detach()) == 0
    with pytest.raises(ValueError, match="same row on both sides"):
        NormRatioLoss()(x, rows(0, 1), rows(2, 1))


def test_gradient_step_raises_the_ratio() -> None:
    x = features(2).requires_grad_()
    before = norms(x)
    NormRatioLoss()(x, rows(0), rows(1)).backward()
    after = norms(x - 0.1 * x.grad)
    assert after[0] > before[0] and after[1] < before[1]


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15])
def test_norm_ratio_stays_finite_for_extreme_norms(scale: float) -> None:
    x = (features(4) * torch.tensor([[scale], [1.0], [scale], [1.0]])).requires_grad_()
    loss = NormRatioLoss()(x, rows(0, 1), rows(1, 2))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("scale", "margin"), [(64.0, 0.35), (16.0, 0.1), (1.0, 0.0)])
def test_cosface_equals_the_librarys(scale: float, margin: float) -> None:
    x, labels = features(10, 6), torch.arange(10) % 7
    ours = CosFaceLoss(6, 7, scale, margin)
    library = LibraryCosFace(num_classes=7, embedding_size=6, margin=margin, scale=scale)
    with torch.no_grad():
        ours.weight.copy_(features(7, 6, seed=1))
        library.W.copy_(ours.weight.T)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    loss, expected = ours(mine, labels), library(theirs, labels)
    loss.backward()
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_cosface_equals_its_formula() -> None:
    x, weight, labels = features(8), features(5, seed=2), torch.arange(8) % 5
    loss = CosFaceLoss(6, 5, 30.0, 0.2)
    with torch.no_grad():
        loss.weight.copy_(weight)
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)  # noqa: E731
    cosine = unit(x.numpy().astype(np.float64)) @ unit(weight.numpy().astype(np.float64)).T
    expected = []
    for row, label in enumerate(labels.tolist()):
        logits = [30 * (c - 0.2 * (k == label)) for k, c in enumerate(cosine[row])]
        expected.append(np.log(np.sum(np.exp(logits))) - logits[label])
    assert float(loss(x, labels).detach()) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(loss(3 * x, labels).detach()) == pytest.approx(np.mean(expected), rel=1e-5)


def test_cosface_of_a_zero_feature_is_finite() -> None:
    loss, x = CosFaceLoss(6, 5), torch.zeros(2, 6, requires_grad=True)
    value = loss(x, rows(0, 4))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(x.grad).all()


view = st.tuples(st.integers(0, 3), st.sampled_from([0.2, 0.5, 0.505, 0.8, 1.0]), st.booleans())


@given(st.lists(view, max_size=14), st.sampled_from([0.0, 0.01, 0.3]))
def test_view_pairs_are_those_of_a_plain_loop(views: list[tuple[int, float, bool]], gap: float) -> None:
    identities = torch.tensor([v[0] for v in views], dtype=torch.int64)
    share = torch.tensor([v[1] for v in views], dtype=torch.float64)
    adds = torch.tensor([v[2] for v in views], dtype=torch.bool)
    more, less = ordered_view_pairs(identities, share, adds, gap)
    expected = [
        (i, j)
        for i, a in enumerate(views)
        for j, b in enumerate(views)
        if a[0] == b[0] and not a[2] and not b[2] and a[1] - b[1] > gap
    ]
    assert list(zip(more.tolist(), less.tolist(), strict=True)) == expected


def test_original_copy_pairs() -> None:
    more, less = original_copy_pairs(rows(0, 3), views=3)
    assert list(zip(more.tolist(), less.tolist(), strict=True)) == [(0, 1), (0, 2), (3, 4), (3, 5)]


def test_triplet_is_the_formula_and_takes_the_farthest_positive() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        features = rng.normal(size=(12, 5))
        anchors, negatives = np.array([0, 4]), np.array([8, 9])
        positives = np.array([[1, 2, 3], [5, 6, 7]])
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        expected = []
        for anchor, own, negative in zip(anchors, positives, negatives, strict=True):
            near = max(np.linalg.norm(unit[anchor] - unit[p]) for p in own)
            expected.append(max(0.0, near - np.linalg.norm(unit[anchor] - unit[negative]) + 0.3))
        rows = [torch.from_numpy(x) for x in (anchors, positives, negatives)]
        assert float(TripletLoss()(torch.from_numpy(features), *rows)) == pytest.approx(np.mean(expected))
    empty = torch.zeros(0, dtype=torch.int64)
    assert float(TripletLoss()(torch.from_numpy(features), empty, empty.view(0, 3), empty)) == 0
