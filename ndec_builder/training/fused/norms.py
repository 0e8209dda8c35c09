"""ASL's norm ratio as a feature of the fused scorer: two heads, each trained without one half of the groups.

Norm ratios look better on images that a head was trained on. So a training pair gets the ratio of the head that did not
see the group of its query, and a new pair the geometric mean of the ratios of both heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import say
from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.manifests.read import Manifest
from ndec_builder.training.data import TrainingSet
from ndec_builder.training.distributed import Team
from ndec_builder.training.fused.fit import group_folds
from ndec_builder.training.fused.model import rounded
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.model import Head, norms_of
from ndec_builder.training.recipes import recipe_named
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.train import Job, train_heads
from ndec_builder.training.view_cache import CachedViews

HALVES = 2
_RECIPE = "asl"


def train_half_heads(
    config: FusedConfig,
    manifest: Manifest,
    data: TrainingSet,
    backbone: Backbone,
    views: CachedViews,
    directory: Path,
    mark: str,
) -> tuple[Head, ...]:
    """Train one `ndec train-asl` head per half of the groups, without that half; none if a half has < 2 basic images.

    views: of data.images, `config.views` each. The states are stored in `directory`/norms-<half>/, so an interrupted
    run continues.
    """
    settings = TrainConfig(
        config.workspace, config.manifest, _RECIPE, backbone=config.backbone, seed=config.seed, steps=config.steps,
        views=config.views, dim=config.dim, shrinkage=config.shrinkage, bf16=config.bf16, device=config.device,
    )  # fmt: skip
    ids, half = data.images["image_id"].to_pylist(), half_of(data, config.seed)
    parts = [data.without({name for name, part in zip(ids, half, strict=True) if part == out}) for out in range(HALVES)]
    if min(part.basic for part in parts) < 2:
        say("note: too few groups to train norms on halves of them; the fused scorer will not use the norm ratio")
        return ()
    say(f"training {HALVES} heads for norms, each without one half of the groups")
    jobs = []
    for out, part in enumerate(parts):
        own = views.of(part.images["image_id"].to_pylist())
        folder = directory / f"norms-{out}"
        jobs.append(Job(settings, recipe_named(_RECIPE), part, own, manifest, backbone, folder, mark, Team()))
    return tuple(rounded(head.cpu()) for head in train_heads(jobs))


def half_of(data: TrainingSet, seed: int) -> np.ndarray:
    """(images,) int64: the half of each image; a group is in one half only."""
    ids, groups = data.images["image_id"].to_pylist(), data.images["group"].to_pylist()
    names = np.array([group or image_id for group, image_id in zip(groups, ids, strict=True)])
    return group_folds(names, HALVES, seed)


def training_ratios(
    heads: Sequence[Head], half: np.ndarray, pairs: pa.Table, pooled: np.ndarray, originals: np.ndarray
) -> np.ndarray:
    """query_over_reference of training pairs, (n,) float64, each from the head trained without the half of its query.

    pairs: MEASURED_PAIRS · pooled: (m, dim) trunk features of the pictures made for them · originals: (images, dim) of
    the stored images · half: (images,) of them (`half_of`).
    """
    query, cut, image, source = (pairs[name].to_numpy() for name in ("query", "cut", "image", "source"))
    ratios = np.ones(len(query))
    for out, head in enumerate(heads):
        made, stored = norms_of(head, pooled), norms_of(head, originals)
        unseen = half[source] == out
        of_reference = np.where(cut >= 0, made[cut], stored[image])
        ratios[unseen] = (made[query] / of_reference)[unseen]
    return ratios
