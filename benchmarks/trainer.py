"""Overhead of the training loop over its parts: with views made online, and with cached views.

    python benchmarks/trainer.py [--quick] [--images DIR]

Online (the complete default network): the loop against 1 / (view time + step time), each measured alone with the same
number of threads. Cached (the default recipe `asl`): the loop, which draws batches, logs and saves its state, against a
plain forward/backward loop over prepared batches. Parts and loop take turns; medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from machine import machine, write_result
from photos import make_photos
from torch import nn

from ndec_builder.core.storage import sha256_file
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.training.batches import ALONE, CachedBatches, OnlineBatches, StepBatch
from ndec_builder.training.data import TrainingSet
from ndec_builder.training.loop import Objective, train
from ndec_builder.training.losses import CosFaceLoss
from ndec_builder.training.model import Head, fit_head
from ndec_builder.training.network import WholeNetwork
from ndec_builder.training.recipes import TRAINING_RECIPES
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.views import view_maker

THREADS = 2
MUST = 90.0  # per cent


class Silent:
    """Stands where TensorBoard's writer goes: its file is no part of what is measured on either side."""

    def add_scalar(self, *_: Any) -> None:
        pass


def training_set(images: int, pairs: int, rows: list[dict[str, Any]] | None = None) -> TrainingSet:
    """`images` basic images and `pairs` latters behind them, each of an own image."""
    latter, former = np.arange(images, images + pairs), np.arange(pairs)
    classes = np.concatenate([np.arange(images), former])
    table = pa.Table.from_pylist(rows or [{"image_id": f"{i:06d}"} for i in range(images + pairs)])
    return TrainingSet(table, images, classes, np.stack([latter, former], axis=1), np.ones(pairs, bool))


def fresh_head(data: TrainingSet, features: np.ndarray, config: TrainConfig) -> tuple[Head, CosFaceLoss]:
    head = fit_head(features[: data.basic], config.dim, config.shrinkage, seed=0)
    cosface = CosFaceLoss(head.shape["dim"], data.class_count)
    nn.init.normal_(cosface.weight, generator=torch.Generator().manual_seed(0))
    return head, cosface


def bare(network: nn.Module, cosface: CosFaceLoss, config: TrainConfig, batches: Iterable[StepBatch]) -> float:
    """Seconds of forward, loss, backward and optimizer step over prepared batches."""
    objective = Objective(network, cosface, TRAINING_RECIPES[config.recipe], config, ALONE)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=config.lr, weight_decay=0.0)
    start = time.perf_counter()
    for batch in batches:
        terms = objective(batch)
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def looped(network: nn.Module, cosface: CosFaceLoss, config: TrainConfig, batches: Callable[[int], StepBatch]) -> float:
    """Seconds of `training.loop.train` from the first step to the last."""
    groups = [{"params": [*network.parameters(), *cosface.parameters()], "lr": config.lr}]
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        train(
            network, cosface, groups, batches, TRAINING_RECIPES[config.recipe], config, Path(directory), "-", Silent()
        )
        return time.perf_counter() - start


def online(config: TrainConfig, photos: Path, backbone: Backbone) -> dict[str, float]:
    """One round: seconds a step of the views alone, of the step alone, of the loop."""
    paths = sorted(photos.iterdir())
    rows = [{"image_id": path.stem, "uri": str(path), "sha256": sha256_file(path), "rotation": 0} for path in paths]
    pairs = len(rows) // 8
    data = training_set(len(rows) - pairs, pairs, rows)
    maker = view_maker(rows, str, backbone.size, seed=0)
    sizes: dict[str, Any] = {
        "seed": 0, "identities": config.identities, "pairs": config.pairs, "per_image": config.views_per_identity,
        "dropout": config.norm_dropout, "threads": THREADS,
    }  # fmt: skip

    def networks() -> tuple[nn.Module, CosFaceLoss]:
        features = np.random.default_rng(0).normal(size=(len(rows), backbone.dim)).astype(np.float32)
        head, cosface = fresh_head(data, features, config)
        return WholeNetwork(backbone, head, bf16=False), cosface

    torch.set_num_threads(THREADS)
    with closing(OnlineBatches(data, maker, **sizes)) as batches:
        batches(0)  # the first one has nothing made ahead
        start = time.perf_counter()
        ready = [batches(step) for step in range(1, config.steps + 1)]
        views = time.perf_counter() - start
    step = bare(*networks(), config, ready)
    with closing(OnlineBatches(data, maker, **sizes)) as batches:
        loop = looped(*networks(), config, batches)
    return {name: value / config.steps for name, value in (("views", views), ("step", step), ("loop", loop))}


def cached(config: TrainConfig, data: TrainingSet, features: np.ndarray) -> dict[str, float]:
    """One round: seconds a step of the bare loop and of the whole one."""
    share = np.tile(np.linspace(1, 0.3, features.shape[1], dtype=np.float32), (len(features), 1))
    adds = np.random.default_rng(1).random(share.shape) < 0.2
    adds[:, 0] = False
    sizes = {
        "seed": 0, "identities": config.identities, "pairs": config.pairs, "per_image": config.views_per_identity,
        "dropout": config.norm_dropout,
    }  # fmt: skip
    batches = CachedBatches(data, features, share, adds, **sizes)
    torch.set_num_threads(1)  # as the trainer does
    originals = features[:, 0].astype(np.float32)
    kept = [batches(step) for step in range(min(64, config.steps))]
    bare_seconds = bare(
        *fresh_head(data, originals, config), config, (kept[i % len(kept)] for i in range(config.steps))
    )
    loop = looped(*fresh_head(data, originals, config), config, batches)
    return {"bare": bare_seconds / config.steps, "loop": loop / config.steps}


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps, one round, nothing written")
    parser.add_argument("--images", type=Path, help="pictures to make the photos from; without: synthesised")
    given = parser.parse_args()
    rounds, online_rounds = (1, 1) if given.quick else (5, 3)
    default = TrainConfig(Path(), Path(), recipe="asl")
    data, rng = training_set(900, 147), np.random.default_rng(0)
    features = rng.normal(size=(1047, default.views, 1280)).astype(np.float16)
    short = replace(default, steps=60 if given.quick else default.steps)
    fixed = middle([cached(short, data, features) for _ in range(rounds)])
    with tempfile.TemporaryDirectory(prefix="ndec-trainer-") as temporary:
        what = make_photos(Path(temporary), 16 if given.quick else 64, given.images)
        whole = replace(default, whole_network=True, identities=4, pairs=1, steps=3 if given.quick else 12)
        backbone = load_backbone("efficientnet-lite0")
        live = middle([online(whole, Path(temporary), backbone) for _ in range(online_rounds)])
    bound = 1 / (live["views"] + live["step"])
    rows = [
        ("online, whole network", f"{1000 * live['views']:.0f} + {1000 * live['step']:.0f}", 1000 * live["loop"],
         100 / live["loop"] / bound),
        ("cached, head", f"{1000 * fixed['bare']:.2f}", 1000 * fixed["loop"], 100 * fixed["bare"] / fixed["loop"]),
    ]  # fmt: skip
    lines = [
        "# The training loop against its parts", "", machine(), "",
        f"Online: {whole.identities} images and {whole.pairs} pair of {whole.views_per_identity} views each a step, "
        f"efficientnet-lite0 in float32, {THREADS} threads, {what}; {whole.steps} steps. Cached: the default recipe "
        f"({short.identities} images and {short.pairs} pairs of {short.views_per_identity} views, 1,280 → "
        f"{short.dim}, {data.class_count} classes, one thread), {short.steps} steps with their states saved. Medians "
        f"of {online_rounds} rounds online, {rounds} cached.", "",
        "| recipe | parts alone, ms a step | loop, ms a step | loop's speed, % of the parts' | must reach | met |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | {parts} | {loop:.2f} | {share:.1f} | {MUST:.0f} | {'yes' if share >= MUST else 'no'} |"
          for name, parts, loop, share in rows),
    ]  # fmt: skip
    text = "\n".join(lines)
    print(text) if given.quick else write_result("trainer", text)


if __name__ == "__main__":
    main()
