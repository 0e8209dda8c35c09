"""The resumable state of a run: one safetensors file, replaced atomically. Batches need no state."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_bytes

STATE_FILE = "state.safetensors"


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, lines: list[str], mark: str
) -> None:
    """Write model, optimizer, step and the lines of metrics so far; `mark` is the fingerprint of the run."""
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for number, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value.contiguous() for name, value in entries.items()}
    header = json.dumps({"fingerprint": mark, "step": step, "metrics": lines}, sort_keys=True)
    write_bytes(path, save(tensors, metadata={"state": header}))  # one entry: safetensors keeps no order among several


def steps_done(path: Path, mark: str) -> int:
    """The step at which `load_state` will continue; 0 also for a damaged file, which it refuses."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
        return int(header["step"]) if header.get("fingerprint") == mark else 0
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return 0


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, mark: str) -> tuple[int, list[str]]:
    """Restore a state into model and optimizer; returns (steps done, lines of metrics).

    (0, []) when there is none or it is from a different run. Raises NdecError for a damaged file.
    """
    if not path.is_file():
        return 0, []
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            if header.get("fingerprint") != mark:
                say(f"{path} is from a run with different settings or images; starting at step 0")
                return 0, []
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        prefix = "model."
        model.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, entry = name.split(".", 2)
                entries.setdefault(int(number), {})[entry] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
        step, lines = int(header["step"]), list(header["metrics"])
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise NdecError(
            f"the training state {path} cannot be read ({str(error).splitlines()[0][:200]}); "
            "delete it to train from the start"
        ) from None
    say(f"continuing at step {step} of {path}")
    return step, lines
