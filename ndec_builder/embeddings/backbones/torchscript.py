"""A TorchScript file: the form in which SSCD is published (288 px, ImageNet mean and deviation, 512 or 1,024-d)."""

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
            warnings.simplefilter("ignore", FutureWarning)  # the format is on its way out; SSCD is published in it
            net = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError):
        raise NdecError(
            f"{path} is no TorchScript file; weights alone need the name of their format or architecture in front: "
            f"multigrain:{path}, isc21:{path}, bot:{path} or timm:NAME@{path} (`ndec embed --list-models`)"
        ) from None
    return Backbone(net, model, model.size or 0, IMAGENET_MEAN, IMAGENET_STD, "unknown", autocast=False)
