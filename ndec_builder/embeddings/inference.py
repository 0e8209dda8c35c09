"""Runs a backbone for inference: in the precision of the hardware, in its folded form if it has one.

Descriptors depend only on the images, the shape of the batch and the precision. One thread computes a batch, so the
number of batches computed in parallel changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ndec_builder.core.errors import UsageError
from ndec_builder.embeddings.backbones import Backbone


def use_bf16(setting: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16; `auto`: if the hardware has it (on a CPU AMX or AVX512-BF16)."""
    if setting not in ("auto", "on", "off"):
        raise UsageError(f"bf16 = {setting!r} is unknown; it is one of auto, on, off")
    if setting != "auto":
        return setting == "on"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # no public function tells this in all supported versions of torch; without one, use float32
    answers = (getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(answers)


class Inference:
    """Pixels (n, h, w, 3) uint8 on the host → descriptors (n, dim) float32 on the backbone's device."""

    def __init__(self, backbone: Backbone, bf16: str) -> None:
        self.backbone, self.device = backbone, backbone.device
        self.half = use_bf16(bf16, self.device) and backbone.autocast
        fold: Any = getattr(backbone.trunk, "for_inference", None)
        self.folded = fold(torch.bfloat16 if self.half else torch.float32) if fold else None

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """`pixels` may be in pinned memory; the copy does not block."""
        with torch.inference_mode():
            batch = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)  # channels_last without a copy
            images = normalise(batch, self.backbone)
            if self.folded is not None:
                return self.backbone.pooled(self.folded(images))
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
                descriptors: torch.Tensor = self.backbone(images)
            return descriptors.float()


def to_host(descriptors: torch.Tensor) -> np.ndarray:
    array: np.ndarray = descriptors.cpu().numpy()
    return array


def normalise(batch: torch.Tensor, backbone: Backbone) -> torch.Tensor:
    """(n, 3, h, w) uint8 on any device → float32 (x/255 - mean) / std there, channels_last."""
    import torch

    mean = torch.tensor(backbone.mean, device=batch.device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=batch.device).view(1, 3, 1, 1)
    images = batch.contiguous(memory_format=torch.channels_last).float()
    return images.mul_(1 / (255 * std)).sub_(mean / std)
