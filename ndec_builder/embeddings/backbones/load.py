"""Loads the backbone of a model name, with the module of its kind."""

from __future__ import annotations

import functools
import importlib
import multiprocessing

import torch

from ndec_builder.core.console import say, waiting
from ndec_builder.core.errors import UsageError
from ndec_builder.embeddings.backbones.base import Backbone
from ndec_builder.embeddings.library_configs import assumption
from ndec_builder.embeddings.model_kinds import MODEL_KINDS
from ndec_builder.embeddings.model_names import parse_model


def load_backbone(name: str, device: str | torch.device = "cpu") -> Backbone:
    """Load a backbone by name (see `model_names`), frozen in evaluation mode, channels_last, on the device.

    Raises UsageError for a name that does not exist, NdecError for weights that are missing, refused or do not fit.
    """
    model = parse_model(name)
    report_assumption(name)
    with waiting(f"loading {name}"):
        module = importlib.import_module(f"ndec_builder.embeddings.backbones.{MODEL_KINDS[model.kind].module}")
        backbone: Backbone = module.build(model).eval()
        return backbone.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@functools.cache
def report_assumption(name: str) -> None:
    """Say once which config is assumed for a weights file, and how to choose another; workers are silent."""
    if multiprocessing.parent_process() is None and (text := assumed_config(name)):
        say(text)


def assumed_config(name: str) -> str:
    """What is assumed about the pictures of a model, and the alternatives; empty when nothing has to be."""
    model = parse_model(name)
    if model.kind == "onnx":
        from ndec_builder.embeddings.backbones.onnx_file import assumed

        return assumed(model)
    ambiguous = model.kind in ("timm", "open_clip") and model.weights is not None and model.tag is None
    return assumption(name, model.kind, model.architecture) if ambiguous else ""


def best_device(wanted: str = "auto") -> str:
    """`auto` → cuda when there is one, else cpu. Raises UsageError when CUDA is asked for and absent."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise UsageError(f"device {wanted!r} is unknown; it is one of auto, cpu, cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda was asked for, but this torch sees no CUDA device; pass --device cpu")
    return wanted
