"""Settings of `ndec train-asl --recipe fused`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ndec_builder.core.config import Config, described, option, setting
from ndec_builder.core.executor.settings import engine_option, ray_address_option
from ndec_builder.embeddings.settings import BF16_HELP, BF16_MODES, DEFAULT_MODEL, DEVICES


@dataclass(frozen=True)
class FusedConfig(Config):
    """Fit the fused scorer on a manifest's training tables."""

    workspace: Path
    manifest: Path = field(metadata=described("Manifest directory."))
    name: str | None = option(None, "Folder under runs/; default: fused.")
    backbone: str = setting(
        DEFAULT_MODEL, "Model whose similarity score is one of the features; benchmark with the same --model."
    )
    dim: int = setting(256, "Dimensions kept by the whitening, which is fitted on the training images.", ge=1)
    shrinkage: float = setting(0.1, "0 to 1: how far the whitening pulls the variances towards their mean.", ge=0, le=1)
    copies: int = setting(2, "Synthetic copies of each training image.", ge=1)
    editor_copies: int = setting(
        1, "More copies of each training image, with effects of image editors; all weigh as much as one.", ge=0
    )
    rivals: int = setting(2, "Negatives of each copy: the other training images closest to it.", ge=0)
    folds: int = setting(
        5, "Parts, cut by group; each is scored by networks that have not seen it, for calibration.", ge=2
    )
    networks: int = setting(5, "Networks whose logits are averaged.", ge=1)
    hidden: int = setting(64, "Width of their two layers.", ge=1)
    epochs: int = setting(60, "Passes over the training pairs.", ge=1)
    hard_weight: float = setting(4.0, "Weight of a mined hard negative pair, also edited; others have weight 1.", gt=0)
    views: int = setting(11, "Cached views per image for the two heads whose norm ratio is a feature.", ge=2)
    steps: int = setting(800, "Optimizer steps of each of these heads.", ge=1)
    left_out: tuple[str, ...] = setting(("score_normalized",), "Features that the networks do not use.")
    seed: int = setting(0, "Seed of copies and networks.")
    bf16: str = setting("auto", BF16_HELP, choices=BF16_MODES)
    device: str = setting("auto", "auto, cpu or cuda.", choices=DEVICES, result=False)
    workers: int = setting(0, "Processes that measure pairs; 0: as many as the cores allow.", ge=0, result=False)
    engine: str = engine_option()
    ray_address: str = ray_address_option()
