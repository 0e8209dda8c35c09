"""The precision that descriptors are computed in: part of the fingerprint of every cache of descriptors."""

from __future__ import annotations

import numpy as np
import torch

from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.inference import use_bf16

_SETTINGS = {"float32": "off", "bfloat16": "on"}
# Largest distance, relative to the length, of a float32 descriptor stored as float16 to the same computed again: 0.0003
# measured. In bfloat16 the distance is 0.001 for two layers and 0.04 for efficientnet-lite0.
_ROUNDED = 0.0006


def precision_of(bf16: str, backbone: Backbone, device: str = "") -> str:
    """float32 or bfloat16: what `Inference` computes in on this machine. device: default: that of the backbone."""
    where = torch.device(device) if device else backbone.device
    return "bfloat16" if use_bf16(bf16, where) and backbone.autocast else "float32"


def bf16_for(precision: str | None, backbone: Backbone, device: str = "") -> str:
    """The setting `bf16` that computes in this precision: auto where this machine does that anyway, else on or off.

    None: the precision was not recorded, so auto.
    """
    known = precision is not None and precision != precision_of("auto", backbone, device)
    return _SETTINGS[str(precision)] if known else "auto"


def stored_precision(backbone: Backbone, pixels: np.ndarray, stored: np.ndarray) -> str:
    """The precision that the stored descriptors (n, dim) float16 of pixels (n, h, w, 3) uint8 were computed in.

    For caches of earlier versions, which did not record it. They are compared with descriptors that torch computes in
    float32.
    """
    with torch.inference_mode():
        batch = torch.from_numpy(pixels).to(backbone.device).permute(0, 3, 1, 2)
        exact = backbone(backbone.normalised(batch)).double().cpu().numpy()
    distance = np.linalg.norm(exact - stored.astype(np.float64)) / np.linalg.norm(exact)
    return "float32" if distance <= _ROUNDED else "bfloat16"
