"""EfficientNet-Lite0, the default model: code and weights are Python packages."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ndec_builder.embeddings.backbones.base import Backbone
from ndec_builder.embeddings.backbones.weights import file_of, read_state
from ndec_builder.embeddings.model_names import ModelName

# The weights come from TensorFlow, whose input is (x - 127) / 128 with x in 0…255.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3


class LiteTrunk(nn.Module):
    """EfficientNet-Lite up to its last feature map: (n, 3, h, w) → (n, 1280, h/32, w/32)."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.net.extract_features(images)
        return maps


def build(model: ModelName) -> Backbone:
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name(model.architecture)
    net.load_state_dict(read_state(file_of(model)))
    net._fc = nn.Identity()  # the classifier is not part of a descriptor
    return Backbone(LiteTrunk(net), model, 224, LITE_MEAN, LITE_STD, "Apache-2.0")
