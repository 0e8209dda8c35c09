"""Settings of `ndec train-asl`. Light: the command line imports it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError, nearest

EPOCH = 8_000  # iterations of the paper's simple baseline (BoT) an epoch
PRESETS: dict[str, dict[str, float | int | bool]] = {
    "none": {},
    # batch 128 = 32 × 4, Adam 3.5e-4, 25 epochs: warm-up for 5, flat to 10, cosine to 25; original + 19 views. AdamW
    # without weight decay is Adam.
    "paper": {
        "identities": 32, "views_per_identity": 4, "views": 20, "steps": 25 * EPOCH, "warmup": 5 * EPOCH,
        "flat": 5 * EPOCH, "lr": 3.5e-4, "trunk_lr": 3.5e-4, "weight_decay": 0.0, "whole_network": True,
    },
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """One training run; writes `runs/<name>/`. The paper gives no λ, scale or margin: 64 and 0.35 are CosFace's own."""

    workspace: Path
    manifest: Path
    recipe: str = setting("asl", "baseline, asl-crop, asl-positive, asl-negative, triplet, asl, asl-code or asl-copies")
    name: str | None = setting(None, "folder under runs/; empty: the recipe's name", result=False)
    backbone: str = setting("efficientnet-lite0", "the trunk, a name as in `ndec embed`")
    seed: int = setting(0, "of the head's start, the batches and the views made online")
    view_seed: int = setting(0, "of the cached views, so that runs with other seeds share them")
    steps: int = setting(800, "optimizer steps; with more, norms fitted the training images better and new ones worse")
    identities: int = setting(32, "images drawn a step, each with several views")
    views_per_identity: int = setting(4, "views of an image in one step, the original among them")
    pairs: int = setting(8, "hard negative pairs drawn a step, for the recipes that use them")
    views: int = setting(11, "cached views of an image: the original, crops, and as many edited copies")
    dim: int = setting(256, "dimensions of the feature; at most those of the trunk and the number of images")
    shrinkage: float = setting(0.1, "of the PCA whitening that the head starts as, as in `ndec embed`")
    lr: float = setting(0.001, "peak learning rate of AdamW")
    preset: str = setting("none", "none, or paper: the schedule of the paper's simple baseline, unless set otherwise")
    warmup: int = setting(100, "steps of linear warm-up")
    flat: int = setting(0, "steps at the peak learning rate after the warm-up, before the cosine")
    ema: float = setting(0.0, "decay of an average of the weights, kept in the checkpoint; 0: the last weights")
    class_sample: int = setting(0, "classes that take part in CosFace in a step, redrawn each step; 0: all")
    weight_decay: float = setting(0.0, "AdamW's weight decay")
    scale: float = setting(64.0, "CosFace's s")
    margin: float = setting(0.35, "CosFace's m")
    metric_weight: float = setting(1.0, "the paper's λ: loss = norm ratio + λ · CosFace")
    norm_dropout: float = setting(0.85, "dropout inside the norm branch: some hundred pairs are else learned by heart")
    min_share_gap: float = setting(0.02, "views whose content shares differ by no more are no norm pair")
    keep_copies: float = setting(
        0.9, "share of held-out edited copies that the checkpoint's own filter threshold keeps; 0: choose none"
    )
    whole_network: bool = setting(False, "train the trunk too, with views made anew each step (slow on a CPU)")
    trunk_lr: float = setting(0.0001, "peak learning rate of the trunk when it is trained")
    max_reject_share: float = setting(0.05, "more unreadable training images than this: exit 3", result=False)
    bf16: str = setting("auto", "auto (where the hardware has it), on or off: bfloat16 inside the trunk")
    threads: int = setting(2, "CPU threads; fixed, so that results do not depend on the number of cores", result=False)
    device: str = setting("auto", "auto, cpu or cuda", result=False)
    save_every: int = setting(500, "steps between resumable states", result=False)
    log_every: int = setting(25, "steps between lines of metrics.jsonl", result=False)


def with_preset(config: TrainConfig) -> TrainConfig:
    """The config with the preset's values where it has the defaults. Raises UsageError for an unknown preset."""
    if config.preset not in PRESETS:
        close = nearest(config.preset, PRESETS)
        raise UsageError(f"preset {config.preset!r} is unknown{close}; it is one of {', '.join(PRESETS)}")
    defaults = {field.name: field.default for field in fields(config)}
    values = {n: v for n, v in PRESETS[config.preset].items() if getattr(config, n) == defaults[n]}
    return replace(config, **values)  # type: ignore[arg-type]
