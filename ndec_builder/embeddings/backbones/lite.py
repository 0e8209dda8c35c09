"""EfficientNet-Lite0, the default model: code and weights are Python packages. This module adds its inference form.

On a CPU the plain module spends most of its time on batch norms, ReLU6 and padding, each a pass over memory. For
inference, batch norms are folded into the convolutions, padding that is equal on all sides is done by the convolution,
and in bfloat16 oneDNN applies ReLU6 while it writes (with the same bits: 0 and 6 round to themselves).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

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

    def for_inference(self, dtype: torch.dtype) -> LiteInference:
        """The same function in folded form and `dtype`; it does not follow later changes of the weights."""
        return LiteInference(self.net, dtype)


@dataclass(frozen=True)
class Convolution:
    """A convolution with its batch norm folded in, followed by ReLU6 if `relu`."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: tuple[int, int]
    border: tuple[int, int, int, int]  # left, right, top, bottom; TensorFlow may pad one side more
    groups: int
    relu: bool

    def __call__(self, maps: torch.Tensor, fused: bool) -> torch.Tensor:
        if len(set(self.border)) == 1:
            side = self.border[0]
        else:
            maps, side = pad(maps, self.border), 0
        if fused:
            after, limits = ("hardtanh", [0.0, 6.0]) if self.relu else ("none", [])
            result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
                maps, self.weight, self.bias, [side, side], list(self.stride), [1, 1], self.groups, after, limits, ""
            )
            return result
        result = conv2d(maps, self.weight, self.bias, self.stride, side, 1, self.groups)
        return result.clamp_(0, 6) if self.relu else result


class LiteInference:
    """(n, 3, h, w) → (n, 1280, h/32, w/32) in `dtype`."""

    def __init__(self, net: Any, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.stem = _folded(net._conv_stem, net._bn0, True, dtype)
        self.blocks = [_block(block, dtype) for block in net._blocks]
        self.head = _folded(net._conv_head, net._bn1, True, dtype)
        self.fused = dtype == torch.bfloat16 and self.stem.weight.device.type == "cpu" and self._fusing_is_exact()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.stem(images.to(self.dtype), self.fused)
        for convolutions, residual in self.blocks:
            before = maps
            for convolution in convolutions:
                maps = convolution(maps, self.fused)
            if residual:
                maps = maps.add_(before)
        return self.head(maps, self.fused)

    def _fusing_is_exact(self) -> bool:
        """Whether this torch has oneDNN's fused operation (it is not public) and both forms give the same bits."""
        images = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32).to(self.dtype)
        images = images.contiguous(memory_format=torch.channels_last)
        try:
            with torch.inference_mode():
                return torch.equal(self.stem(images, True), self.stem(images, False))
        except (AttributeError, RuntimeError, TypeError, NotImplementedError):
            return False


def build(model: ModelName) -> Backbone:
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name(model.architecture)
    net.load_state_dict(read_state(file_of(model)))
    net._fc = nn.Identity()  # the classifier is not part of a descriptor
    return Backbone(LiteTrunk(net), model, 224, LITE_MEAN, LITE_STD, "Apache-2.0")


def _block(block: Any, dtype: torch.dtype) -> tuple[list[Convolution], bool]:
    """An inverted residual block and whether its input is added to its output."""
    convolutions = [_folded(block._expand_conv, block._bn0, True, dtype)] if hasattr(block, "_expand_conv") else []
    convolutions.append(_folded(block._depthwise_conv, block._bn1, True, dtype))
    convolutions.append(_folded(block._project_conv, block._bn2, False, dtype))
    given = block._block_args
    same = given.input_filters == given.output_filters and given.stride in (1, [1])
    return convolutions, bool(block.id_skip and same)


def _folded(conv: Any, norm: Any, relu: bool, dtype: torch.dtype) -> Convolution:
    with torch.no_grad():
        merged = fuse_conv_bn_eval(conv, norm)
        padding = getattr(conv, "static_padding", None)
        border: Any = tuple(padding.padding) if isinstance(padding, nn.ZeroPad2d) else (0, 0, 0, 0)
        weight = merged.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        return Convolution(weight, merged.bias.detach().to(dtype), tuple(conv.stride), border, conv.groups, relu)
