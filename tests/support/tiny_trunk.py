"""A TorchScript trunk of a few hundred weights, for tests that need descriptors but not good ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


class TinyNet(nn.Module):
    """(n, 3, h, w) → (n, 24, h/8, w/8), non-negative."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.Conv2d(8, 24, 3, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.first(images))))


def tiny_model(folder: Path) -> str:
    """Write it with random weights from a seed; returns the name of the model, for inputs of 32 px."""
    path = folder / "tiny.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.jit.script(TinyNet().eval()).save(str(path))
    return f"{path}@32"
