"""Generalised-mean pooling (GeM; Radenović, Tolias & Chum, TPAMI 2019, eq. 3)."""

from __future__ import annotations

import torch
from torch import nn

EPSILON = 1e-6  # keeps the gradient of x^p finite where an activation is 0


class GeM(nn.Module):
    """f_c = (1/|Ω| Σ_u max(x_cu, ε)^p)^(1/p): p = 1 is the mean, p → ∞ the maximum. (n, c, h, w) → (n, c), float32.

    `p` is a constant, not learned: descriptors of a frozen trunk must not depend on a training run.
    """

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool maps (n, c, h, w) of any float type to (n, c) float32.

        >>> GeM(p=1.0)(torch.tensor([[[[1.0, 3.0]]]]))
        tensor([[2.]])
        """
        with torch.autocast(maps.device.type, enabled=False):  # bfloat16 has too few digits for a cube and its root
            powers = maps.float().clamp(min=EPSILON).pow(self.p)
            return powers.mean(dim=(-2, -1)).pow(1.0 / self.p)
