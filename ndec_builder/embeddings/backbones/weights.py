"""Reads weights files from outside as tensors, never as code."""

from __future__ import annotations

import argparse
import contextlib
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.model_names import ModelName


def read_checkpoint(path: Path) -> Any:
    """Read a .safetensors or torch file without running code from it. An argparse.Namespace is allowed: it is data.

    Raises NdecError when the file holds other objects than plain data, or cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NdecError(
            f"{path} was refused: it is a pickle that holds more than tensors and could run code ({short(error)}). "
            "If you trust it, load it yourself and save its state_dict alone as .safetensors"
        ) from None
    except Exception as error:  # safetensors and zip readers have their own error types
        raise NdecError(f"{path} cannot be read as weights ({short(error)}); is the download complete?") from None


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict in a file (name → tensor), without wrappers and `module.`. Raises NdecError if there is none."""
    return state_of(read_checkpoint(path), path)


def state_of(checkpoint: Any, path: Path) -> dict[str, torch.Tensor]:
    """The state_dict in a checkpoint. Raises NdecError if there is none."""
    state = checkpoint
    for key in ("state_dict", "model_state", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NdecError(f"{path} holds no state_dict (name → tensor); save the model's state_dict() and pass that file")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_into(net: nn.Module, state: dict[str, torch.Tensor], model: ModelName, what: str) -> None:
    """Load the weights. Raises NdecError when any is missing, left over or of the wrong shape."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise NdecError(f"the weights in {model.weights} do not fit {what}: {short(error)}") from None


def strip(state: dict[str, torch.Tensor], prefix: str, path: Path, example: str) -> dict[str, torch.Tensor]:
    """The entries with a prefix, which is removed. Raises NdecError if there are none."""
    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not found:
        names = ", ".join(list(state)[:3])
        raise NdecError(f"{path} has no weights named {prefix}… (it has {names} …); {example}")
    return found


def file_of(model: ModelName) -> Path:
    assert model.weights is not None, "models of this kind always name a file"
    return model.weights


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Without the hub client's own lines about each of its ten retries; the error at the end says what failed."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def with_file(model: ModelName) -> str:
    return f"{model.kind}:{model.architecture}@/path/to/weights.safetensors"


def short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
