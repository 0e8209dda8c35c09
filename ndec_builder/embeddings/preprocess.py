"""Pictures → the arrays that a backbone takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch

    from ndec_builder.embeddings.backbones import Backbone


def to_array(image: Image.Image, size: int) -> np.ndarray:
    """Squash a picture to (3, size, size) uint8, RGB, bicubic with antialiasing.

    Squashed rather than cropped to a square: a centre crop would drop content at the borders, and what is seen there
    is what tells a copy from a hard negative. Query and reference are squashed alike.
    """
    # reducing_gap: large pictures are first reduced by a whole factor, several times faster and not visibly different
    square = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def normalise(batch: torch.Tensor, backbone: Backbone) -> torch.Tensor:
    """(n, 3, h, w) uint8 on any device → float32 (x/255 - mean) / std there, channels_last."""
    import torch

    mean = torch.tensor(backbone.mean, device=batch.device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=batch.device).view(1, 3, 1, 1)
    return ((batch.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
