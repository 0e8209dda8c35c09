"""Runs an ONNX file with onnxruntime on the CPU, as the file describes itself.

The file says the type of its pictures (floats or uint8), their layout (n, 3, h, w) or (n, h, w, 3), and whether size
and batch are fixed. It does not say which mean and standard deviation it expects: uint8 gets the pixels 0…255, floats
get ImageNet's unless the model name says otherwise (`NORMS`, or mean and std). Whatever is assumed is said once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.embeddings.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from ndec_builder.embeddings.backbones.weights import file_of, short
from ndec_builder.embeddings.model_names import ModelName

TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
}
_FILLERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_,
            "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}  # fmt: skip
_Triple = tuple[float, float, float]
# name → mean and standard deviation of pixels from 0 to 1
NORMS: dict[str, tuple[_Triple, _Triple]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5,) * 3, (0.5,) * 3),
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "bytes": ((0.0,) * 3, (1 / 255,) * 3),  # the pixels come back as 0…255
}


class OnnxTrunk(nn.Module):
    """(n, 3, h, w) float32 → an output of the file, float32; a fixed batch size takes several calls."""

    def __init__(self, session: Any, path: Any, given: Any, output: str, channels_last: bool) -> None:
        super().__init__()
        self.session, self.path, self.output = session, path, output
        self.input, self.dtype, self.channels_last = given.name, TYPES[given.type], channels_last
        self.batch = given.shape[0] if isinstance(given.shape[0], int) else None
        self.fillers = {other.name: _zeros(other) for other in session.get_inputs() if other.name != given.name}

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
                torch.from_numpy(self.session.run([self.output], {self.input: values[i : i + step], **self.fillers})[0])
                for i in range(0, len(values), step)
            ]
        except Exception as error:  # onnxruntime's own error types
            raise NdecError(
                f"onnxruntime cannot run {self.path} on pictures of the shape {values[:step].shape} {values.dtype}: "
                f"{short(error)}"
            ) from None
        return torch.cat(parts)[:count].float().to(images.device)


def build(model: ModelName) -> Backbone:
    path = file_of(model)
    session = _open(path)
    given = _input(session, model, path)
    last = _is_channels_last(given.shape)
    height, width = given.shape[1:3] if last else given.shape[2:]
    if isinstance(height, int) and isinstance(width, int) and height != width:
        raise NdecError(f"{path} takes pictures of {width}x{height} px; ndec feeds squares, so export it for a square")
    fixed = next((side for side in (height, width) if isinstance(side, int)), None)
    if fixed and model.size and fixed != model.size:
        raise NdecError(f"{path} takes images of {fixed} px, not {model.size}; leave out @{model.size}")
    trunk = OnnxTrunk(session, path, given, _output(session, model, path), last)
    mean, std = _normalisation(model, given.type)
    size = fixed or model.size or 224
    return Backbone(trunk, model, size, mean, std, "unknown", p=model.p or 3.0, autocast=False, convertible=False)


def assumed(model: ModelName) -> str:
    """What is assumed because neither the file nor the model name says it; empty if they say everything."""
    path, said = file_of(model), dict(model.said)
    session = _open(path)
    given = _input(session, model, path)
    last = _is_channels_last(given.shape)
    sides = given.shape[1:3] if last else given.shape[2:]
    parts = []
    if given.type != "tensor(uint8)" and not {"norm", "mean"} & said.keys():
        parts.append(f"ImageNet's mean and standard deviation (or ,norm={'|'.join(list(NORMS)[1:])} or ,mean=…,std=…)")
    if not model.size and not any(isinstance(side, int) for side in sides):
        parts.append("224 px (or @SIZE)")
    usable = _usable(session)
    if "output" not in said and len(usable) > 1:
        parts.append(f"the output {usable[0]} (or ,output={'|'.join(usable[1:])})")
    if others := [one.name for one in session.get_inputs() if one.name != given.name]:
        parts.append(f"zeros for the inputs {', '.join(others)}")
    return f"{path.name} takes {_listed([given])}; assumed: {'; '.join(parts)}" if parts else ""


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise NdecError("ONNX files need onnxruntime; run `pip install 'ndec-builder[onnx]'`") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # `extract` already runs several lanes
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own error types
        raise NdecError(f"onnxruntime cannot load {path}: {short(error)}") from None


def _input(session: Any, model: ModelName, path: Path) -> Any:
    """The input for pictures: the one that the model name chooses, else the only one of the file."""
    inputs = session.get_inputs()
    name = dict(model.said).get("input")
    if name is not None:
        known = [one.name for one in inputs]
        if name not in known:
            raise UsageError(f"{path} has no input {name!r}{nearest(name, known, '.')} It takes {_listed(inputs)}")
        given = inputs[known.index(name)]
    else:
        given = inputs[0]
        if len(inputs) > 1:
            raise NdecError(
                f"{path} takes {_listed(inputs)}; choose the one for pictures with ,input=NAME (the others get zeros), "
                "or export the image tower alone"
            )
    channels = None if len(given.shape) != 4 else given.shape[3 if _is_channels_last(given.shape) else 1]
    if len(given.shape) != 4 or (isinstance(channels, int) and channels != 3):
        raise NdecError(f"{path} takes {_listed(inputs)}; expected one input of images (n, 3, h, w) or (n, h, w, 3)")
    if given.type not in TYPES:
        raise NdecError(f"{path} takes {_listed(inputs)}; ndec feeds pictures as {', '.join(TYPES)}")
    return given


def _zeros(given: Any) -> np.ndarray:
    """An array for an input that is not for pictures: zeros, with 1 for each dimension that is not fixed."""
    if given.type not in _FILLERS:
        raise NdecError(f"the input {_listed([given])} cannot be filled with zeros; export the image tower alone")
    return np.zeros([side if isinstance(side, int) else 1 for side in given.shape], _FILLERS[given.type])


def _is_channels_last(shape: list[Any]) -> bool:
    return len(shape) == 4 and shape[3] == 3 and shape[1] != 3


def _usable(session: Any) -> list[str]:
    """Names of the outputs with the shape of descriptors (n, d) or feature maps (n, c, h, w)."""
    return [one.name for one in session.get_outputs() if len(one.shape or ()) in (2, 4)]


def _output(session: Any, model: ModelName, path: Path) -> str:
    """The output that the model name chooses, else the first usable one; the first one if no shape is known."""
    outputs, usable = session.get_outputs(), _usable(session)
    name = dict(model.said).get("output")
    if name is not None:
        known = [one.name for one in outputs]
        if name not in known:
            raise UsageError(f"{path} has no output {name!r}{nearest(name, known, '.')} It returns {_listed(outputs)}")
        return name
    if not usable and all(one.shape for one in outputs):
        raise NdecError(f"{path} returns {_listed(outputs)}; expected descriptors (n, d) or feature maps (n, c, h, w)")
    return str(usable[0] if usable else outputs[0].name)


def _normalisation(model: ModelName, kind: str) -> tuple[_Triple, _Triple]:
    """Mean and standard deviation that the pictures get. Raises UsageError for a contradictory or unknown one."""
    said = dict(model.said)
    named = said.keys() & {"norm", "mean", "std"}
    if kind == "tensor(uint8)":
        if named:
            raise UsageError(f"{model.name!r}: the file takes uint8, so it gets pixels; leave out {sorted(named)[0]}=…")
        return NORMS["bytes"]
    if "mean" in said or "std" in said:
        if named != {"mean", "std"}:
            raise UsageError(f"{model.name!r}: give mean=R/G/B and std=R/G/B together, without norm")
        return _triple(model, "mean"), _triple(model, "std")
    norm = said.get("norm", "imagenet")
    if norm not in NORMS:
        raise UsageError(f"{model.name!r}: norm is {norm!r}{nearest(norm, NORMS, '.')} Known: {', '.join(NORMS)}")
    return NORMS[norm]


def _triple(model: ModelName, key: str) -> _Triple:
    text = dict(model.said)[key]
    try:
        first, second, third = (float(part) for part in text.split("/"))
    except ValueError:
        raise UsageError(f"{model.name!r}: {key} is {text!r}; write three numbers, as 0.485/0.456/0.406") from None
    if key == "std" and min(first, second, third) <= 0:
        raise UsageError(f"{model.name!r}: std is {text!r}; it must be above 0")
    return first, second, third


def _listed(values: list[Any]) -> str:
    return "; ".join(f"{one.name} {one.type} {one.shape}" for one in values)
