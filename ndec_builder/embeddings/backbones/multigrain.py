"""Reads the `.pth` of MultiGrain: {model_state} with a torchvision ResNet under `features.` and GeM's `pool.p`.

Pictures keep their shape (longest side 512 px). The DISC21 benchmark used p = 7 and a whitening to 1,500-d. A whitening
in the file is ignored: ndec fits one on the user's own images.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from ndec_builder.embeddings.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from ndec_builder.embeddings.backbones.resnet import resnet_for
from ndec_builder.embeddings.backbones.weights import file_of, load_into, read_state, strip
from ndec_builder.embeddings.model_names import ModelName


def build(model: ModelName) -> Backbone:
    path = file_of(model)
    state = read_state(path)
    weights = strip(state, "features.", path, "expected MultiGrain's model_state")
    resnet = resnet_for(weights, "layer3.", model)
    trunk = nn.Sequential(OrderedDict(list(resnet.named_children())[:-2]))  # without pooling and classifier
    load_into(trunk, weights, model, "a torchvision ResNet")
    p = model.p or (float(state["pool.p"]) if "pool.p" in state else 3.0)
    return Backbone(trunk, model, model.size or 512, IMAGENET_MEAN, IMAGENET_STD, "CC-BY-NC-4.0", p=p, keep_shape=True)
