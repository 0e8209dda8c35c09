"""Settings of `ndec train-asl`. Light: the command line imports it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ndec_builder.core.config import Config, described, filled_from, setting
from ndec_builder.core.executor.settings import engine_option, ray_address_option
from ndec_builder.embeddings.settings import BF16_HELP, BF16_MODES, DEFAULT_MODEL, DEVICES, MODEL_FORMS

EPOCH = 8_000  # iterations of the paper's simple baseline (BoT) per epoch
TRAINING_RECIPE_NAMES = (
    "asl", "asl-crop", "asl-positive", "asl-negative", "triplet", "asl-code", "asl-copies", "baseline",
)  # fmt: skip
TRAINING_PRESETS: dict[str, dict[str, float | int | bool]] = {
    "none": {},
    # batch 128 = 32 × 4, Adam 3.5e-4, 25 epochs: warm-up for 5, flat to 10, cosine to 25; original + 19 views. AdamW
    # without weight decay is Adam.
    "paper": {
        "identities": 32, "views_per_identity": 4, "views": 20, "steps": 25 * EPOCH, "warmup": 5 * EPOCH,
        "flat": 5 * EPOCH, "lr": 3.5e-4, "trunk_lr": 3.5e-4, "weight_decay": 0.0, "whole_network": True,
    },
}  # fmt: skip


@filled_from(lambda given: TRAINING_PRESETS.get(given.get("preset", ""), {}))
@dataclass(frozen=True)
class TrainConfig(Config):
    """One training run; writes `runs/<name>/`. The paper gives no λ, scale or margin: 64 and 0.35 are CosFace's own."""

    workspace: Path
    manifest: Path = field(metadata=described("Manifest directory."))
    recipe: str = setting("asl", f"{', '.join(TRAINING_RECIPE_NAMES)}.", choices=TRAINING_RECIPE_NAMES)
    name: str | None = setting(None, "Folder under runs/; default: the recipe's name.", result=False)
    backbone: str = setting(DEFAULT_MODEL, f"Model to start from, {MODEL_FORMS}")
    seed: int = setting(0, "Seed of the head's initial weights, the batches and the views made online.")
    view_seed: int = setting(0, "Seed of the cached views, so that runs with different seeds share them.")
    steps: int = setting(
        800, "Optimizer steps. With more, the norms fitted the training images better and new images worse.", ge=1
    )
    identities: int = setting(32, "Images per step, each with several views.", ge=1)
    views_per_identity: int = setting(4, "Views per image in one step, including the original.", ge=2)
    pairs: int = setting(8, "Hard negative pairs per step, in the recipes that use them.", ge=0)
    views: int = setting(11, "Cached views per image: the original, crops, and the same number of edited copies.", ge=2)
    dim: int = setting(
        256, "Dimensions of the feature; at most those of the trunk and at most the number of images.", ge=1
    )
    shrinkage: float = setting(
        0.1, "Shrinkage of the PCA whitening that the head starts from, as for `ndec embed`.", ge=0, le=1
    )
    lr: float = setting(0.001, "Peak learning rate of AdamW.", gt=0)
    preset: str = setting(
        "none", "none, or paper: the schedule of the paper's simple baseline, for settings that are not given.",
        choices=tuple(TRAINING_PRESETS),
    )  # fmt: skip
    warmup: int = setting(100, "Steps of linear warm-up.", ge=0)
    flat: int = setting(0, "Steps at the peak learning rate, after the warm-up and before the cosine decay.", ge=0)
    ema: float = setting(
        0.0, "Decay of a moving average of the weights, kept in the checkpoint; 0: the last weights.", ge=0, lt=1
    )
    class_sample: int = setting(0, "Classes sampled for CosFace in each step; 0: all classes.", ge=0)
    weight_decay: float = setting(0.0, "Weight decay of AdamW.")
    scale: float = setting(64.0, "Scale s of CosFace.", gt=0)
    margin: float = setting(0.35, "Margin m of CosFace.")
    metric_weight: float = setting(1.0, "λ of the paper: loss = norm ratio + λ · CosFace.")
    norm_dropout: float = setting(
        0.85, "Dropout in the norm branch; without it, a few hundred pairs are memorised.", ge=0, lt=1
    )
    min_share_gap: float = setting(
        0.02, "Views form a norm pair only if their content shares differ by more than this."
    )
    keep_copies: float = setting(
        0.9, "Share of held-out edited copies that the checkpoint's own filter threshold keeps; 0: no threshold.",
        ge=0, lt=1,
    )  # fmt: skip
    whole_network: bool = setting(
        False, "Train the trunk too, with new views in each step (slow on a CPU).", cli="--whole-network/--frozen-trunk"
    )
    trunk_lr: float = setting(0.0001, "Peak learning rate of the trunk, if it is trained.", gt=0)
    max_reject_share: float = setting(
        0.05, "Share of unreadable training images above which the exit code is 3.", ge=0, le=1, result=False
    )
    bf16: str = setting("auto", BF16_HELP, choices=BF16_MODES)
    threads: int = setting(
        2, "CPU threads; a fixed number, so that results do not depend on the number of cores.", ge=1, result=False
    )
    device: str = setting("auto", "auto, cpu or cuda.", choices=DEVICES, result=False)
    engine: str = engine_option()
    ray_address: str = ray_address_option()
    save_every: int = setting(500, "Steps between resumable states.", ge=1, result=False)
    log_every: int = setting(25, "Steps between lines of metrics.jsonl.", ge=1, result=False)
