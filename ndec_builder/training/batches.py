"""The batches of training. A batch is a function of (seed, step), so a resumed run needs no generator state."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ndec_builder.training.data import TrainingSet
from ndec_builder.training.distributed import Team
from ndec_builder.training.model import HIDDEN
from ndec_builder.training.views import ViewMaker, view_kinds

ALONE = Team()


@dataclass(frozen=True)
class StepBatch:
    """Inputs of one step: rows in blocks of views, each block starting with the original."""

    inputs: Tensor  # (rows, dim) float32 trunk features, or (rows, 3, size, size) uint8 images
    images: Tensor  # (rows,) int64: row of the training set
    labels: Tensor  # (rows,) int64: CosFace class
    content_share: Tensor  # (rows,) float32
    adds_content: Tensor  # (rows,) bool
    latter: Tensor  # (p,) int64: rows of originals, the hard negative pairs of the norm term
    former: Tensor  # (p,) int64
    originals: Tensor  # (blocks,) int64: rows
    all_labels: (
        Tensor  # (all rows of the step,) int64: classes over all processes, which a sampled class table must contain
    )
    keep: Tensor | None = None  # (rows, HIDDEN) float32: dropout of the norm branch, 0 or 1 / (1 − p); None: no dropout

    @property
    def views(self) -> int:
        return len(self.labels) // len(self.originals)

    def to(self, device: torch.device) -> StepBatch:
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values[field.name] = None if value is None else value.to(device)
        return StepBatch(**values)


@dataclass(frozen=True)
class StepPlan:
    """The images of a step: `identities` basic images, then latter and former of each drawn pair."""

    images: np.ndarray  # (blocks,) int64
    latter: np.ndarray  # (p,) int64: blocks
    former: np.ndarray
    basic: int  # the first so many blocks are basic images

    def part(self, team: Team) -> tuple[StepPlan, np.ndarray]:
        """The share of one process, and its block numbers in the full step: every size-th image and pair."""
        pairs = (len(self.images) - self.basic) // 2
        mine = self.basic + 2 * np.arange(pairs)[team.rank :: team.size, None] + np.arange(2)
        first = np.arange(self.basic)[team.rank :: team.size]
        blocks = np.concatenate([first, mine.reshape(-1)])
        own = np.isin(self.latter, blocks)
        latter, former = (np.searchsorted(blocks, side[own]) for side in (self.latter, self.former))
        return StepPlan(self.images[blocks], latter, former, len(first)), blocks


def plan_step(data: TrainingSet, seed: int, step: int, identities: int, pairs: int) -> StepPlan:
    """Draw the images of a step: each epoch goes through both lists once, in a new order."""
    basic = _draw(data.basic, seed, 0, step, min(identities, data.basic))
    drawn = _draw(len(data.pairs), seed, 1, step, min(pairs, len(data.pairs)))
    sides = data.pairs[drawn]  # (p, 2) latter, former
    blocks = len(basic) + np.arange(2 * len(drawn)).reshape(-1, 2)
    blocks = blocks[data.directed[drawn]]
    return StepPlan(np.concatenate([basic, sides.reshape(-1)]), blocks[:, 0], blocks[:, 1], len(basic))


def _draw(items: int, seed: int, stream: int, step: int, count: int) -> np.ndarray:
    places = np.arange(step * count, (step + 1) * count)
    return np.array([_order(items, seed, stream, int(p) // items)[p % items] for p in places], dtype=np.int64)


@functools.lru_cache(maxsize=8)
def _order(items: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, stream, epoch]).permutation(items)


class CachedBatches:
    """Batches of cached trunk features: the original and `per_image − 1` other views, redrawn at each step."""

    def __init__(
        self, data: TrainingSet, features: np.ndarray, content_share: np.ndarray, adds_content: np.ndarray,
        *, seed: int, identities: int, pairs: int, per_image: int, dropout: float = 0.0, team: Team = ALONE,
    ) -> None:  # fmt: skip
        self.team = team
        self.data, self.features, self.content_share, self.adds_content = data, features, content_share, adds_content
        self.seed, self.identities, self.pairs, self.dropout = seed, identities, pairs, dropout
        self.per_image = min(per_image, features.shape[1])

    def __call__(self, step: int) -> StepBatch:
        full = plan_step(self.data, self.seed, step, self.identities, self.pairs)
        plan, blocks = full.part(self.team)
        generator = np.random.default_rng([self.seed, 2, step])
        others = generator.permuted(np.tile(np.arange(1, self.features.shape[1]), (len(full.images), 1)), axis=1)
        views = np.concatenate([np.zeros((len(blocks), 1), np.int64), others[blocks, : self.per_image - 1]], axis=1)
        chosen = plan.images[:, None], views
        # torch converts float16 in hardware, numpy in software
        inputs = torch.from_numpy(self.features[chosen].reshape(views.size, -1)).float()
        keep = draw_keep(self.seed, step, (len(full.images), views.shape[1]), blocks, self.dropout)
        share, adds = self.content_share[chosen], self.adds_content[chosen]
        return assemble(self.data, full, plan, inputs, share, adds, keep)

    def close(self) -> None:
        """Nothing to close."""


class OnlineBatches:
    """Batches of pictures whose views are made in threads, one step ahead of training."""

    def __init__(
        self, data: TrainingSet, maker: ViewMaker, *, seed: int, identities: int, pairs: int, per_image: int,
        threads: int, dropout: float = 0.0, team: Team = ALONE,
    ) -> None:  # fmt: skip
        self.team = team
        self.data, self.maker, self.kinds = data, maker, view_kinds(per_image)
        self.seed, self.identities, self.pairs, self.dropout = seed, identities, pairs, dropout
        self.pool = concurrent.futures.ThreadPoolExecutor(threads)
        self.ahead: tuple[int, Callable[[], StepBatch]] | None = None

    def __call__(self, step: int) -> StepBatch:
        make = self.ahead[1] if self.ahead is not None and self.ahead[0] == step else self._start(step)
        self.ahead = step + 1, self._start(step + 1)
        return make()

    def _start(self, step: int) -> Callable[[], StepBatch]:
        full = plan_step(self.data, self.seed, step, self.identities, self.pairs)
        plan, blocks = full.part(self.team)
        futures = [
            self.pool.submit(self.maker.views, int(row), self.kinds, step, int(block))
            for block, row in zip(blocks, plan.images, strict=True)
        ]

        def collect() -> StepBatch:
            views = [view for future in futures for view in future.result()]
            shape = len(plan.images), len(self.kinds)
            inputs = torch.from_numpy(np.stack([view.pixels for view in views]))
            share = np.array([view.content_share for view in views], np.float32).reshape(shape)
            adds = np.array([view.adds_content for view in views], bool).reshape(shape)
            keep = draw_keep(self.seed, step, (len(full.images), shape[1]), blocks, self.dropout)
            return assemble(self.data, full, plan, inputs, share, adds, keep)

        return collect

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def draw_keep(seed: int, step: int, shape: tuple[int, int], blocks: np.ndarray, dropout: float) -> Tensor | None:
    """Dropout of a step as a function of (seed, step), the same in a resumed run and for any number of processes.

    `shape` is (blocks of the full step, views), `blocks` those of this process.
    """
    if not dropout:
        return None
    chance = np.random.default_rng([seed, 3, step]).random((*shape, HIDDEN), dtype=np.float32)[blocks]
    return torch.from_numpy((chance >= dropout).astype(np.float32) / np.float32(1 - dropout)).flatten(0, 1)


def assemble(
    data: TrainingSet,
    full: StepPlan,
    plan: StepPlan,
    inputs: Tensor,
    share: np.ndarray,
    adds: np.ndarray,
    keep: Tensor | None,
) -> StepBatch:
    """`share` and `adds` are (blocks, views); the first row of each block is the original."""
    views = share.shape[1]
    images = np.repeat(plan.images, views)
    return StepBatch(
        inputs,
        torch.from_numpy(images),
        torch.from_numpy(data.classes[images]),
        torch.from_numpy(share.reshape(-1)),
        torch.from_numpy(adds.reshape(-1)),
        torch.from_numpy(plan.latter * views),
        torch.from_numpy(plan.former * views),
        torch.arange(len(plan.images)) * views,
        torch.from_numpy(np.repeat(data.classes[full.images], views)),
        keep,
    )
