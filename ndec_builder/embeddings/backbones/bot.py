"""Reads state_dicts of BoT and D²LV: `base.N.*` (a ResNet as a list of layers) and `projector_feat_bn.*`.

    base  conv1 · bn1 · maxpool · relu · layer1 · layer2 · – · layer3 · – · layer4 (stride 1) · GeM (p in base.10.p)

The projector is a batch norm (BoT, the simple baseline), or a sequence of linear layers and batch norms (D²LV). If the
file has `projector_feat_bn_1.*`, that projector is applied second. Classifiers in the file are ignored.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from ndec_builder.embeddings.backbones.pooling import GeM
from ndec_builder.embeddings.backbones.resnet import InstanceBatchNorm, resnet_for
from ndec_builder.embeddings.backbones.weights import file_of, load_into, read_state, strip
from ndec_builder.embeddings.model_names import ModelName

LAYERS = {"4": "layer1", "5": "layer2", "7": "layer3", "9": "layer4"}


class ProjectedNet(nn.Module):
    """(n, 3, h, w) → (n, d) float32."""

    def __init__(self, base: nn.Module, p: float, projectors: list[nn.Sequential]) -> None:
        super().__init__()
        self.base, self.gem, self.projectors = base, GeM(p), nn.Sequential(*projectors)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.gem(self.base(images))
        with torch.autocast(images.device.type, enabled=False):
            descriptors: torch.Tensor = self.projectors(pooled)
        return descriptors


def build(model: ModelName) -> Backbone:
    path = file_of(model)
    state = read_state(path)
    weights = strip(state, "base.", path, "expected the state_dict of BoT or D²LV, base.N.*")
    p = weights.pop("10.p", None)
    base = _base(weights, model)
    load_into(base, weights, model, "BoT's list of ResNet layers")
    prefixes = [f"{name}." for name in ("projector_feat_bn", "projector_feat_bn_1")]
    projectors = []
    for prefix in prefixes:
        if layers := {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}:
            projector = _sequence(layers, path.name)
            load_into(projector, layers, model, prefix + "*")
            projectors.append(projector)
    power = model.p or (float(p) if p is not None else 3.0)
    net = ProjectedNet(base, power, projectors)
    return Backbone(net, model, model.size or 256, IMAGENET_MEAN, IMAGENET_STD, "MIT")


def _base(weights: dict[str, torch.Tensor], model: ModelName) -> nn.Sequential:
    """The list of layers that the weights fit, with IBN-a blocks where the weights have them."""
    net: Any = resnet_for(weights, "7.", model)
    for index, layer in LAYERS.items():
        for number, block in enumerate(getattr(net, layer)):
            if f"{index}.{number}.bn1.IN.weight" in weights:
                block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    first = net.layer4[0]
    first.conv2.stride = first.downsample[0].stride = (
        1,
        1,
    )  # last stride 1, as usual in re-identification: a finer last map
    names = ("conv1", "bn1", "maxpool", "relu", "layer1", "layer2", "", "layer3", "", "layer4")
    return nn.Sequential(*[getattr(net, name) if name else nn.Identity() for name in names])


def _sequence(state: dict[str, torch.Tensor], file: str) -> nn.Sequential:
    """The layers of a numbered state_dict: linear, batch norm, nested lists; a missing number is a LeakyReLU."""
    numbers = {name.split(".")[0] for name in state}
    if not all(number.isdigit() for number in numbers):
        raise NdecError(f"{file}: the projector's layers are named {sorted(numbers)}; expected numbers")
    layers: list[nn.Module] = []
    for number in range(max(map(int, numbers)) + 1):
        prefix = f"{number}."
        inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if not inner:
            layers.append(nn.LeakyReLU(0.2))
        elif "running_mean" in inner:
            layers.append(nn.BatchNorm1d(len(inner["running_mean"])))
        elif "weight" in inner and inner["weight"].ndim == 2:
            layers.append(nn.Linear(inner["weight"].shape[1], inner["weight"].shape[0], bias="bias" in inner))
        else:
            layers.append(_sequence(inner, file))
    return nn.Sequential(*layers)
