"""Settings of `ndec train-asl --recipe fused`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError

DEFAULT_MODEL = "efficientnet-lite0"


@dataclass(frozen=True)
class FusedConfig:
    """Fit the fused scorer on a manifest's training tables."""

    workspace: Path
    manifest: Path
    name: str | None = None
    backbone: str = setting(DEFAULT_MODEL, "descriptor whose score is one of the features; judge with the same --model")
    dim: int = setting(256, "dimensions kept by the whitening that is fitted on the training images")
    shrinkage: float = setting(0.1, "0–1: pull the whitening's variances towards their mean")
    copies: int = setting(2, "synthetic copies of each training image")
    rivals: int = setting(2, "other training images closest to each copy, as its negatives")
    folds: int = setting(5, "parts, cut by group, that are scored by networks which never saw them: for calibration")
    networks: int = setting(5, "networks whose logits are averaged")
    hidden: int = setting(32, "width of their two layers")
    epochs: int = setting(60, "passes over the training pairs")
    hard_weight: float = setting(4.0, "weight of a mined hard negative pair; all other pairs have 1")
    views: int = setting(11, "cached views of an image for the two heads whose norm ratio is a feature")
    steps: int = setting(800, "optimizer steps of each of them")
    left_out: tuple[str, ...] = setting(("score_normalized",), "features that the networks do not see")
    seed: int = setting(0, "seed of copies and networks")
    bf16: str = setting("auto", "auto (where the hardware has it), on or off: bfloat16 inside the trunk")
    device: str = setting("auto", "auto, cpu or cuda", result=False)
    workers: int = setting(0, "processes that measure pairs; 0: as many as the cores allow", result=False)

    def __post_init__(self) -> None:
        least = {"copies": 1, "rivals": 0, "folds": 2, "networks": 1, "hidden": 1, "epochs": 1, "dim": 1}
        least |= {"views": 2, "steps": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"{name} = {getattr(self, name)} makes no sense for the fused scorer; at least {low}")
        if not self.hard_weight > 0:
            raise UsageError(f"hard_weight = {self.hard_weight} makes no sense; it is above 0")
