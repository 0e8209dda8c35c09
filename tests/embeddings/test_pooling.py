"""GeM against the formula in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ndec_builder.embeddings.backbones.pooling import GeM


@pytest.mark.parametrize("p", [1.0, 3.0, 7.0])
def test_gem_equals_the_formula(p: float) -> None:
    maps = np.random.default_rng(0).gamma(1.0, 2.0, (4, 6, 5, 7))
    expected = np.power(np.power(np.maximum(maps, 1e-6), p).sum((2, 3)) / 35, 1 / p)
    assert GeM(p)(torch.tensor(maps, dtype=torch.float32)).numpy() == pytest.approx(expected, rel=1e-5)


def test_limits_and_negatives() -> None:
    maps = torch.rand(2, 3, 4, 4)
    assert torch.allclose(GeM(1.0)(maps), maps.mean((2, 3)))
    assert torch.allclose(GeM(80.0)(maps), maps.amax((2, 3)), rtol=0.05)
    assert torch.allclose(GeM()(-maps), torch.full((2, 3), 1e-6))


def test_stays_float32_under_autocast_and_has_a_gradient_at_zero() -> None:
    maps = torch.zeros(1, 2, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = GeM()(maps.bfloat16())
    assert pooled.dtype == torch.float32
    pooled.sum().backward()
    assert torch.isfinite(maps.grad).all()
