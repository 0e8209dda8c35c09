"""Any timm model, with weights from a file or from its hub."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.embeddings.backbones.base import Backbone
from ndec_builder.embeddings.backbones.weights import load_into, quiet_hub, read_state, short, with_file
from ndec_builder.embeddings.library_configs import check_timm_tag
from ndec_builder.embeddings.model_names import ModelName


class TimmTrunk(nn.Module):
    """A timm model without classifier: its feature map (n, c, h, w), or its own descriptor when it ends in tokens."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.net.forward_features(images)  # type: ignore[operator]
        is_map = isinstance(output, torch.Tensor) and output.ndim == 4
        if is_map and getattr(self.net, "output_fmt", "NCHW") != "NHWC":
            return output
        # some models end in several token sequences (CrossViT, CoaT); their own head joins them
        head: torch.Tensor = self.net.forward_head(output, pre_logits=True)  # type: ignore[operator]
        return head


def build(model: ModelName) -> Backbone:
    import timm

    if not timm.is_model(model.architecture):
        raise UsageError(
            f"timm has no model {model.architecture!r}; `python -c 'import timm; print(timm.list_models())'` lists them"
            f"{nearest(model.architecture, timm.list_models())}"
        )
    if model.weights is None:
        architecture = f"{model.architecture}.{model.tag}" if model.tag else model.architecture
        net: Any = _from_hub(model, architecture)
    else:
        if model.tag is not None:
            check_timm_tag(model.architecture, model.tag)
        architecture = f"{model.architecture}.{model.tag}" if model.tag else model.architecture
        net = timm.create_model(architecture, pretrained=False, num_classes=0)
        heads = _head_names(architecture, net)
        state = {name: value for name, value in read_state(model.weights).items() if name not in heads}
        load_into(net, state, model, model.architecture)
    data = timm.data.resolve_model_data_config(net)
    license = net.pretrained_cfg.get("license") or "see the model's card"
    given = model.weights is not None and model.tag is not None  # without a tag bicubic, as in version 0.1.0
    return Backbone(
        TimmTrunk(net),
        model,
        data["input_size"][-1],
        data["mean"],
        data["std"],
        license,
        interpolation=data["interpolation"] if given else "bicubic",
    )


def _head_names(architecture: str, headless: nn.Module) -> set[str]:
    """Names of the weights that only the full model has, for example batch norms in front of its classifiers."""
    import timm

    with torch.device("meta"):  # names only: no memory, no random numbers
        full = timm.create_model(architecture, pretrained=False)
    return set(full.state_dict()) - set(headless.state_dict())


def _from_hub(model: ModelName, architecture: str) -> Any:
    import timm

    try:
        with quiet_hub():
            return timm.create_model(architecture, pretrained=True, num_classes=0)
    except Exception as error:  # the hub client has a dozen error types, all of them mean: no weights
        raise NdecError(
            f"cannot fetch the weights of {model.name} from its hub: {short(error)} Without a connection to it, get "
            f"the file elsewhere and pass {with_file(model)}"
        ) from None
