"""The image tower of any open_clip model."""

from __future__ import annotations

from typing import Any

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.embeddings.backbones.base import Backbone
from ndec_builder.embeddings.backbones.weights import quiet_hub, short, with_file
from ndec_builder.embeddings.library_configs import open_clip_config
from ndec_builder.embeddings.model_names import ModelName


def build(model: ModelName) -> Backbone:
    import open_clip

    known = open_clip.list_models()
    if model.architecture not in known:
        raise UsageError(f"open_clip has no model {model.architecture!r}{nearest(model.architecture, known)}")
    if model.weights is None and model.tag is None:
        tags = open_clip.list_pretrained_tags_by_model(model.architecture)
        raise UsageError(
            f"{model.name!r} names no weights; write {model.name}@FILE or @TAG with one of {', '.join(tags)}"
        )
    config = open_clip_config(model.architecture, model.tag)
    source = str(model.weights or model.tag)
    try:
        with quiet_hub():
            net = open_clip.create_model(
                model.architecture, pretrained=source, precision="fp32", force_quick_gelu=config.quick_gelu
            ).visual
    except Exception as error:  # a hub out of reach, a refused pickle, weights that do not fit
        raise NdecError(f"cannot load {model.name}: {short(error)} Give a file as {with_file(model)}") from None
    sides: Any = net.preprocess_cfg["size"]
    size = sides[0] if isinstance(sides, (tuple, list)) else sides
    return Backbone(
        net, model, size, config.mean, config.std, "see the model's card", interpolation=config.interpolation
    )
