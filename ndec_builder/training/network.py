"""Trunk and head as one network, for training both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.training.model import Head


class WholeNetwork(nn.Module):
    """(n, 3, size, size) uint8 → (n, dim) float32 of free norm.

    The trunk stays in evaluation mode. It keeps its pretrained batch statistics, which batches of a few images with
    many views each would spoil, and it has no dropout, so that a step depends only on weights and batch.
    """

    def __init__(self, backbone: Backbone, head: Head, bf16: bool) -> None:
        super().__init__()
        parameters = list(backbone.trunk.parameters())
        if not parameters:
            raise NdecError(
                f"the model {backbone.name} has no trainable weights (a frozen TorchScript file?); "
                "train with the trunk frozen, or use a different backbone"
            )
        for parameter in parameters:  # one by one: a TorchScript module has no requires_grad_
            parameter.requires_grad_(True)
        self.backbone, self.head, self.bf16 = backbone, head, bf16

    def train(self, mode: bool = True) -> WholeNetwork:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        inputs = self.backbone.normalised(images)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.backbone(inputs)
        output: Tensor = self.head(features.float(), keep)
        return output
