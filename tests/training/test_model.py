"""The head: starts as the whitening, has a free and bounded norm, learns a direction on a toy set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.training.losses import NormRatioLoss, norms
from ndec_builder.training.model import MAX_LOG_LENGTH, class_means, fit_head


def features(count: int = 60, dim: int = 20, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + 2).astype(np.float32)


def test_the_head_starts_as_the_whitening() -> None:
    x = features()
    head = fit_head(x, 8, 0.1, seed=0)
    expected = Whitening.fit(x, 8, 0.1).apply(x)
    np.testing.assert_allclose(head(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_start_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, two, other = (fit_head(features(), 8, 0.1, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.hidden.weight, two.hidden.weight) and not torch.equal(one.hidden.weight, other.hidden.weight)


def test_the_length_is_bounded_whatever_the_branch_says() -> None:
    x = torch.from_numpy(features())
    head = fit_head(x.numpy(), 8, 0.1, seed=0)
    start = norms(head(x)).detach()
    for bias in (1e30, -1e30):
        with torch.no_grad():
            head.log_length.bias.fill_(bias)
        torch.testing.assert_close(norms(head(x)).detach(), start * float(np.exp(np.sign(bias) * MAX_LOG_LENGTH)))


def test_latters_get_the_larger_norm_also_on_unseen_images() -> None:
    """Content is one direction of the features here; the head must find it from pairs alone."""
    rng = np.random.default_rng(1)
    x, content = rng.normal(size=(400, 20)), rng.uniform(0.2, 1, 400)
    x[:, 3] += 4 * content
    x = x.astype(np.float32)
    head = fit_head(x[:300], 16, 0.1, seed=0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
    loss, tensor = NormRatioLoss(), torch.from_numpy(x)

    def above_one(rows: np.ndarray) -> float:
        i, j = rows[np.argsort(-content[rows])][: len(rows) // 2], rows[np.argsort(-content[rows])][len(rows) // 2 :]
        length = norms(head(tensor)).detach().numpy()
        return float((length[i][:, None] > length[j][None]).mean())

    before = above_one(np.arange(300, 400))
    for step in range(150):
        pairs = np.random.default_rng(step).integers(0, 300, (64, 2))
        pairs = pairs[np.abs(content[pairs[:, 0]] - content[pairs[:, 1]]) > 0.05]
        larger = content[pairs[:, 0]] > content[pairs[:, 1]]
        more, less = np.where(larger, *pairs.T), np.where(larger, *pairs.T[::-1])
        value = loss(head(tensor), torch.from_numpy(more), torch.from_numpy(less))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert above_one(np.arange(300, 400)) > max(0.75, before + 0.2)


def test_class_means_against_numpy() -> None:
    x, classes = features(9, 4), np.array([0, 1, 2, 0, 1, 2, 0, 0, 1])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = np.stack([unit[classes == k].mean(axis=0) for k in range(3)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = class_means(torch.from_numpy(x), torch.from_numpy(classes), 3)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_one_image_is_too_few() -> None:
    with pytest.raises(NdecError, match="at least 2 readable basic images, got 1"):
        fit_head(features(1), 4, 0.1, 0)
