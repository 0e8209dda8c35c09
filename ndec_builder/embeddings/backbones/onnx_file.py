"""Runs an ONNX file with onnxruntime on the CPU: one image input (n, 3, h, w) or (n, h, w, 3), floats or uint8.

The descriptor is the first output with the shape of descriptors (n, d) or feature maps (n, c, h, w). Floats get
pictures normalised with ImageNet's mean and standard deviation; uint8 gets the pixels 0…255.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from ndec_builder.embeddings.backbones.weights import file_of, short
from ndec_builder.embeddings.model_names import ModelName

TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
}


class OnnxTrunk(nn.Module):
    """(n, 3, h, w) float32 → an output of the file, float32; a fixed batch size takes several calls."""

    def __init__(self, session: Any, path: Any, output: str) -> None:
        super().__init__()
        self.session, self.path, self.output = session, path, output
        given = session.get_inputs()[0]
        self.input, self.dtype, self.channels_last = given.name, TYPES[given.type], _is_channels_last(given.shape)
        self.batch = given.shape[0] if isinstance(given.shape[0], int) else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count = len(images)
        step = self.batch or count
        padded = torch.cat([images, images.new_zeros((-count % step, *images.shape[1:]))]).cpu()
        if self.channels_last:
            padded = padded.permute(0, 2, 3, 1)
        if self.dtype == torch.uint8:
            padded = padded.round().clamp(0, 255)  # whole numbers already, but for the last bit
        values = padded.contiguous().to(self.dtype).numpy()
        try:
            parts = [
                torch.from_numpy(self.session.run([self.output], {self.input: values[i : i + step]})[0])
                for i in range(0, len(values), step)
            ]
        except Exception as error:  # onnxruntime's own error types
            raise NdecError(
                f"onnxruntime cannot run {self.path} on pictures of the shape {values[:step].shape} {values.dtype}: "
                f"{short(error)}"
            ) from None
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
        raise NdecError(f"onnxruntime cannot load {path}: {short(error)}") from None
    inputs = session.get_inputs()
    shape = inputs[0].shape
    channels = None if len(shape) != 4 else shape[3] if _is_channels_last(shape) else shape[1]
    if len(inputs) != 1 or len(shape) != 4 or (isinstance(channels, int) and channels != 3):
        raise NdecError(f"{path} takes {_listed(inputs)}; expected one input of images (n, 3, h, w) or (n, h, w, 3)")
    if inputs[0].type not in TYPES:
        raise NdecError(f"{path} takes {_listed(inputs)}; ndec feeds pictures as {', '.join(TYPES)}")
    height, width = shape[1:3] if _is_channels_last(shape) else shape[2:]
    if isinstance(height, int) and isinstance(width, int) and height != width:
        raise NdecError(f"{path} takes pictures of {width}x{height} px; ndec feeds squares, so export it for a square")
    fixed = next((side for side in (height, width) if isinstance(side, int)), None)
    if fixed and model.size and fixed != model.size:
        raise NdecError(f"{path} takes images of {fixed} px, not {model.size}; leave out @{model.size}")
    trunk = OnnxTrunk(session, path, _output(session, str(path)))
    raw = trunk.dtype == torch.uint8  # a mean of 0 and a deviation of 1/255: the pixels come back as 0…255
    mean, std = ((0.0,) * 3, (1 / 255,) * 3) if raw else (IMAGENET_MEAN, IMAGENET_STD)
    size = fixed or model.size or 224
    return Backbone(trunk, model, size, mean, std, "unknown", p=model.p or 3.0, autocast=False, convertible=False)


def _is_channels_last(shape: list[Any]) -> bool:
    return len(shape) == 4 and shape[3] == 3 and shape[1] != 3


def _output(session: Any, path: str) -> str:
    """The first output with a usable number of dimensions; the first one if none is known to have it."""
    outputs = session.get_outputs()
    usable = [one.name for one in outputs if len(one.shape or ()) in (2, 4)]
    if not usable and all(one.shape for one in outputs):
        raise NdecError(f"{path} returns {_listed(outputs)}; expected descriptors (n, d) or feature maps (n, c, h, w)")
    return str(usable[0] if usable else outputs[0].name)


def _listed(values: list[Any]) -> str:
    return "; ".join(f"{one.name} {one.type} {one.shape}" for one in values)
