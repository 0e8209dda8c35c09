"""A TorchScript trunk of a few hundred weights, for tests that need descriptors but not good ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ndec_builder.embeddings import inference
from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.engines import precision as precision_module
from ndec_builder.embeddings.engines import trunk_source


class TinyNet(nn.Module):
    """(n, 3, h, w) → (n, channels, h/8, w/8), non-negative."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.second = nn.Conv2d(8, channels, 3, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.first(images))))


def tiny_model(folder: Path, channels: int = 24) -> str:
    """Write it with random weights from a seed; returns the name of the model, for inputs of 32 px."""
    path = folder / "tiny.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.jit.script(TinyNet(channels).eval()).save(str(path))
    return f"{path}@32"


def allow_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchScript trunks are always float32; let them be computed in bfloat16 as other models are."""
    real = Backbone.__init__

    def init(self: Backbone, *given: Any, **named: Any) -> None:
        real(self, *given, **named | {"autocast": True})

    monkeypatch.setattr(Backbone, "__init__", init)


def with_processor(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """bf16 = auto computes in this precision, whatever the processor has (torch emulates bfloat16)."""

    def use_bf16(setting: str, device: torch.device) -> bool:
        return precision == "bfloat16" if setting == "auto" else setting == "on"

    for module in (inference, precision_module, trunk_source):
        monkeypatch.setattr(module, "use_bf16", use_bf16)
    trunk_source._opened.cache_clear()
