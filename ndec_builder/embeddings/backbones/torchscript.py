"""Reads TorchScript files, the published form of SSCD (288 px, ImageNet mean and std, 512 or 1,024-d)."""

from __future__ import annotations

import warnings

import torch

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from ndec_builder.embeddings.backbones.weights import file_of
from ndec_builder.embeddings.model_names import ModelName


def build(model: ModelName) -> Backbone:
    path = file_of(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch deprecates the format, but SSCD is published in it
            net = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError):
        raise NdecError(
            f"{path} is not a TorchScript file; put the format or architecture in front of a file of weights: "
            f"multigrain:{path}, isc21:{path}, bot:{path} or timm:NAME@{path} (`ndec embed --list-models`)"
        ) from None
    if any(weight.dtype in (torch.float16, torch.bfloat16) for weight in net.parameters()):
        net = net.float()  # pictures are float32
    return Backbone(net, model, model.size or 0, IMAGENET_MEAN, IMAGENET_STD, "unknown", autocast=False)
