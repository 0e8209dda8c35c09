"""Runs an ONNX file with onnxruntime on the CPU: one input (n, 3, h, w); its first output is the descriptor."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from ndec_builder.embeddings.backbones.weights import file_of, short
from ndec_builder.embeddings.model_names import ModelName


class OnnxTrunk(nn.Module):
    """(n, 3, h, w) → the first output of the file, float32; a fixed batch size takes several calls."""

    def __init__(self, session: Any, batch: int | None) -> None:
        super().__init__()
        self.session, self.batch = session, batch
        self.input, self.output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count = len(images)
        step = self.batch or count
        padded = torch.cat([images, images.new_zeros((-count % step, *images.shape[1:]))]).contiguous().cpu()
        parts = [
            torch.from_numpy(self.session.run([self.output], {self.input: padded[i : i + step].numpy()})[0])
            for i in range(0, len(padded), step)
        ]
        return torch.cat(parts)[:count].float().to(images.device)


def build(model: ModelName) -> Backbone:
    try:
        import onnxruntime
    except ImportError:
        raise NdecError("ONNX files need onnxruntime; run `pip install 'ndec-builder[onnx]'`") from None
    path = file_of(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # `extract` already runs several lanes
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own error types
        raise NdecError(f"{path} cannot be read as ONNX ({short(error)}); is the download complete?") from None
    inputs = session.get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
        seen = "; ".join(f"{one.name} {one.shape}" for one in inputs)
        raise NdecError(f"{path} takes {seen}; expected one input of images (n, 3, h, w)")
    fixed = shape[2] if isinstance(shape[2], int) else None
    if fixed and model.size and fixed != model.size:
        raise NdecError(f"{path} takes images of {fixed} px, not {model.size}; leave out @{model.size}")
    trunk = OnnxTrunk(session, shape[0] if isinstance(shape[0], int) else None)
    size = fixed or model.size or 224
    return Backbone(trunk, model, size, IMAGENET_MEAN, IMAGENET_STD, "unknown", p=model.p or 3.0, autocast=False)
