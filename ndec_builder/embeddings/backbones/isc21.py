"""Reads the `.pth.tar` of the ISC21 descriptor winner: {arch, args, state_dict `module.*`}.

The last feature map of a timm trunk, GeM with args.gem_eval_p, a linear layer without bias, batch norm; 512 px. The
paper normalises at the end; ndec keeps the length, which is stored next to the vector.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.backbones.base import Backbone
from ndec_builder.embeddings.backbones.pooling import GeM
from ndec_builder.embeddings.backbones.weights import file_of, load_into, read_checkpoint, state_of
from ndec_builder.embeddings.model_names import ModelName


class DescriptorNet(nn.Module):
    """(n, 3, h, w) → (n, d) float32."""

    def __init__(self, backbone: nn.Module, channels: int, dim: int, p: float) -> None:
        super().__init__()
        self.backbone, self.gem = backbone, GeM(p)
        self.fc, self.bn = nn.Linear(channels, dim, bias=False), nn.BatchNorm1d(dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.gem(self.backbone(images)[-1])
        with torch.autocast(images.device.type, enabled=False):
            descriptors: torch.Tensor = self.bn(self.fc(pooled))
        return descriptors


def build(model: ModelName) -> Backbone:
    import timm

    path = file_of(model)
    checkpoint = read_checkpoint(path)
    if (
        not isinstance(checkpoint, dict)
        or "state_dict" not in checkpoint
        or not isinstance(checkpoint.get("arch"), str)
    ):
        names = [str(name) for name in checkpoint] if isinstance(checkpoint, dict) else []
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # a state_dict has hundreds
        found = ", ".join(names[:5]) + more or f"a {type(checkpoint).__name__}"
        raise NdecError(f"{path} holds {found}; expected arch, args and state_dict as the ISC21 winner's .pth.tar does")
    architecture: str = checkpoint["arch"]
    if not timm.is_model(architecture):
        raise NdecError(f"{path} was made with the timm model {architecture!r}, which this timm does not know")
    state = {name: value for name, value in state_of(checkpoint, path).items() if not name.startswith("loss_module.")}
    if "fc.weight" not in state:
        raise NdecError(f"{path} has no module.fc.weight; expected the ISC21 winner's descriptor network")
    trunk: Any = timm.create_model(architecture, pretrained=False, features_only=True)
    args: Any = checkpoint.get("args")
    p = model.p or float(getattr(args, "gem_eval_p", None) or 1.0)
    net = DescriptorNet(trunk, trunk.feature_info.channels()[-1], len(state["fc.weight"]), p)
    load_into(net, state, model, f"{architecture} with a linear layer and batch norm")
    config: Any = timm.get_pretrained_cfg(architecture)
    return Backbone(net, model, model.size or 512, config.mean, config.std, "MIT")
