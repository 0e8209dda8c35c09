"""Checkpoints: weights in safetensors, everything else in a JSON file next to them. Nothing is unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import fingerprint, read_json, sha256_bytes, sha256_file, write_bytes, write_json
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.training.model import NORM_LAYER, Head

CHECKPOINT_VERSION = 1
CHECKPOINT_WEIGHTS, CHECKPOINT_CARD = "checkpoint.safetensors", "checkpoint.json"
PREVIOUS = "previous"  # folder in a run's directory: the checkpoint that a later training replaces


@dataclass(frozen=True)
class TrainedDetector:
    """A trained detector: features are `head(backbone(images))`; scores compare directions, the filter norms."""

    backbone: Backbone  # with the weights of the checkpoint if the trunk was trained
    head: Head  # (n, backbone.dim) → (n, dim), free norm, float32
    recipe: str
    fingerprint: str  # of weights and backbone: included in the fingerprint of everything computed with it
    whole_network: bool
    train_groups: frozenset[str]
    train_sha256: frozenset[str]  # of the training images' files
    threshold: float | None = None  # of the filter, chosen on held-out training groups

    def refuse_overlap(self, sha256: set[str], groups: set[str], what: str) -> None:
        """Raise NdecError if one of these images, or its group, was trained on; `what` names them in the message."""
        images, same = self.train_sha256 & sha256, self.train_groups & groups
        if images or same:
            raise NdecError(
                f"the detector was trained on {len(images)} of the {what} and on images of {len(same)} of their groups "
                f"(first: {sorted(images or same)[0]}); a result from it would be meaningless. Train on "
                "different images"
            )


def save_checkpoint(
    directory: Path, backbone: Backbone, head: Head, *, whole_network: bool, facts: dict[str, Any]
) -> Path:
    """Write checkpoint.safetensors and checkpoint.json; equal training gives equal bytes. Returns the weights' path.

    `facts` are recipe, config, counts, threshold, train_groups, train_sha256 and the run's fingerprint.
    """
    tensors = {f"head.{name}": value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    if whole_network:
        for name, value in backbone.trunk.state_dict().items():
            tensors[f"trunk.{name}"] = value.detach().cpu().contiguous()
    weights = save(tensors)
    write_bytes(directory / CHECKPOINT_WEIGHTS, weights)
    write_json(
        directory / CHECKPOINT_CARD,
        {
            "version": CHECKPOINT_VERSION,
            "weights_sha256": sha256_bytes(weights),
            "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint, "weights": backbone.weights},
            "whole_network": whole_network,
            "head": head.shape,
            "norm_layer": NORM_LAYER,
            **facts,
        },
    )
    return directory / CHECKPOINT_WEIGHTS


def set_checkpoint_aside(
    directory: Path, card_name: str = CHECKPOINT_CARD, weights_name: str = CHECKPOINT_WEIGHTS
) -> bool:
    """Move the checkpoint of an earlier training and its run.json to `previous/`; whether there was one.

    A training that is stopped must not leave the checkpoint of other settings as its result. The card goes before the
    weights: without it, nothing reads them. Weights without a card are what a killed process left: the rest of such a
    move if the card in `previous/` is theirs, else those of an unfinished training, which the next one overwrites.
    """
    card, weights = directory / card_name, directory / weights_name
    if not card.is_file():
        moved = directory / PREVIOUS / card_name
        if not (weights.is_file() and moved.is_file()) or read_json(moved)["weights_sha256"] != sha256_file(weights):
            return False
    for path in (directory / "run.json", card, weights):
        if path.is_file():
            (directory / PREVIOUS).mkdir(exist_ok=True)
            path.replace(directory / PREVIOUS / path.name)
    return True


def read_card(path: Path) -> dict[str, Any]:
    """The JSON of a checkpoint, given the run's directory, the weights or the JSON itself.

    Raises NdecError when a file is missing, the version differs, or the weights do not match.
    """
    directory = path if path.is_dir() else path.parent
    for name in (CHECKPOINT_WEIGHTS, CHECKPOINT_CARD):
        if not (directory / name).is_file():
            fused = (
                "; it holds a fused scorer, which --fused-model takes" if (directory / "fused.json").is_file() else ""
            )
            if (directory / PREVIOUS / CHECKPOINT_CARD).is_file():
                stopped = (
                    f"a later training in {directory} is not finished: run it again, or give {directory / PREVIOUS}"
                )
                raise NdecError(f"{path} holds no finished checkpoint: {stopped}, the one before it")
            raise NdecError(
                f"{path} is not a checkpoint: {directory / name} does not exist{fused}; give the folder of a finished "
                "run (runs/NAME) or train one with `ndec train-asl`"
            )
    card = read_json(directory / CHECKPOINT_CARD)
    version = card.get("version") if isinstance(card, dict) else None
    if version != CHECKPOINT_VERSION:
        raise NdecError(
            f"{directory / CHECKPOINT_CARD} has version {version!r}, this ndec reads version {CHECKPOINT_VERSION}; "
            "train again, or use the ndec that wrote it"
        )
    found = sha256_bytes((directory / CHECKPOINT_WEIGHTS).read_bytes())
    if card.get("weights_sha256") != found:
        raise NdecError(
            f"{directory / CHECKPOINT_WEIGHTS} has sha256 {found[:16]}…, but {CHECKPOINT_CARD} says "
            f"{str(card.get('weights_sha256'))[:16]}…; "
            "the file is damaged or from a different run: copy both files again or train again"
        )
    return dict(card)


def is_finished(directory: Path, mark: str) -> bool:
    """Whether the folder holds a complete checkpoint of exactly this run. mark: its fingerprint."""
    try:
        return bool(read_card(directory)["fingerprint"] == mark)
    except NdecError:
        return False


def load_detector(path: Path, device: str | torch.device = "cpu") -> TrainedDetector:
    """Load a trained detector from a run's directory or one of its checkpoint files, frozen, on the device.

    Raises NdecError when the checkpoint is missing, damaged or of a different version, when its weights do not fit, or
    when the weights of the backbone have changed since.
    """
    card = read_card(path)
    directory = path if path.is_dir() else path.parent
    backbone = load_backbone(card["backbone"]["name"], device=device)
    if backbone.fingerprint != card["backbone"]["fingerprint"]:
        raise NdecError(
            f"the checkpoint {directory} was trained on {backbone.name} with the fingerprint "
            f"{card['backbone']['fingerprint'][:16]}…, but that backbone here has {backbone.fingerprint[:16]}…; "
            "its weights or its preprocessing changed: restore them or train again"
        )
    try:
        tensors = load((directory / CHECKPOINT_WEIGHTS).read_bytes())
        head = Head(**card["head"])
        head.load_state_dict(_part(tensors, "head."))
        if card["whole_network"]:
            backbone.trunk.load_state_dict(_part(tensors, "trunk."))
    except (SafetensorError, RuntimeError, TypeError) as error:
        why = " ".join(str(error).split())[:200]
        raise NdecError(
            f"the weights in {directory / CHECKPOINT_WEIGHTS} do not fit what {CHECKPOINT_CARD} says ({why}); "
            "one of the two was edited: restore them or train again"
        ) from None
    return TrainedDetector(
        backbone,
        head.to(device).eval().requires_grad_(False),
        card["recipe"],
        fingerprint([card["weights_sha256"], backbone.fingerprint]),
        card["whole_network"],
        frozenset(card["train_groups"]),
        frozenset(card["train_sha256"]),
        threshold["value"] if (threshold := card.get("threshold")) else None,
    )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
