"""torchvision ResNets for published checkpoints: the depth is read from the weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.model_names import ModelName

DEPTHS = {6: "resnet50", 23: "resnet101", 36: "resnet152"}  # blocks of layer3 → architecture


class InstanceBatchNorm(nn.Module):
    """IBN-a (Pan et al., ECCV 2018): instance norm on the first half of the channels, batch norm on the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)  # the names are those of the published checkpoints
        self.BN = nn.BatchNorm2d(channels - self.split)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.IN(maps[:, : self.split]), self.BN(maps[:, self.split :])], dim=1)


def resnet_for(names: Iterable[str], layer3: str, model: ModelName) -> nn.Module:
    """The ResNet (without weights) that weights of these names belong to; `layer3` is the prefix of its third layer.

    Raises NdecError for a depth that is not one of DEPTHS.
    """
    import torchvision

    blocks = {name.removeprefix(layer3).split(".")[0] for name in names if name.startswith(layer3)}
    if len(blocks) not in DEPTHS:
        raise NdecError(
            f"{model.weights}: {len(blocks)} blocks named {layer3}N; expected a ResNet-50, -101 or -152 with "
            f"{', '.join(map(str, DEPTHS))} of them"
        )
    net: nn.Module = getattr(torchvision.models, DEPTHS[len(blocks)])(weights=None)
    return net
