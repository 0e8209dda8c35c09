"""Fit the networks on pair features; out-of-fold logits calibrate them and measure what each feature adds."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ndec_builder.core.console import track
from ndec_builder.core.errors import UsageError, nearest
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.model import CLIP, FusedModel
from ndec_builder.training.fused.settings import FusedConfig

LR, WEIGHT_DECAY, _BATCH = 3e-3, 0.3, 256
DROPOUT = 0.1


@dataclass(frozen=True, eq=False)
class PairTable:
    """features: (n, f) float32 · is_copy: (n,) bool · weight: (n,) float64 · kind: (n,) str · group: (n,) str."""

    features: np.ndarray
    is_copy: np.ndarray
    weight: np.ndarray
    kind: np.ndarray
    group: np.ndarray

    def take(self, rows: np.ndarray) -> PairTable:
        return PairTable(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def fit_fused(
    table: PairTable, whitening: Whitening, background: np.ndarray, config: FusedConfig
) -> tuple[FusedModel, dict[str, Any]]:
    """Fit the model on all pairs; returns it with the figures of the fold networks on groups they did not see."""
    fold = group_folds(table.group, config.folds, config.seed)
    held_out = np.zeros(len(fold))
    added: dict[str, np.ndarray] = {}
    for number in range(config.folds):
        rows = np.flatnonzero(fold == number)
        model = fit_networks(table.take(np.flatnonzero(fold != number)), whitening, background, config)
        part = table.features[rows]
        held_out[rows] = model.logits(part)
        for column, name in enumerate(PAIR_FEATURES):
            shuffled = part.copy()
            order = np.random.default_rng([config.seed, number, column]).permutation(len(part))
            shuffled[:, column] = part[order, column]
            added.setdefault(name, np.zeros(len(fold)))[rows] = model.logits(shuffled)
    slope, offset = calibrate(held_out, table.is_copy, table.weight)
    model = replace(fit_networks(table, whitening, background, config), slope=slope, offset=offset)
    aucs = {kind: auc_against(held_out, table, kind) for kind in sorted(set(table.kind[~table.is_copy]))}
    drops = {
        name: {kind: round(aucs[kind] - auc_against(logits, table, kind), 4) for kind in aucs}
        for name, logits in added.items()
    }
    figures = {
        "pairs": {kind: int((table.kind == kind).sum()) for kind in sorted(set(table.kind))},
        "auc_out_of_fold": {kind: round(value, 4) for kind, value in aucs.items()},
        "auc_lost_when_shuffled": drops,
    }
    return model, figures


def group_folds(groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(n,) int64 fold of each pair; all pairs of a group are in one fold."""
    names = np.unique(groups)
    part = np.random.default_rng(seed).permutation(len(names)) % folds
    result: np.ndarray = part[np.searchsorted(names, groups)]
    return result


def auc_against(logits: np.ndarray, table: PairTable, kind: str) -> float:
    """Share of (copy, pair of `kind`) pairs in which the copy has the larger logit, ties half."""
    positive, negative = np.sort(logits[table.is_copy]), logits[~table.is_copy & (table.kind == kind)]
    below = np.searchsorted(positive, negative, side="right"), np.searchsorted(positive, negative, side="left")
    above = len(positive) - (below[0] + below[1]) / 2
    return float(above.sum() / (len(positive) * len(negative)))


def calibrate(logits: np.ndarray, is_copy: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and offset of Platt's scaling (1999), weighted, by Newton's method; the slope stays above 0."""
    theta = np.array([1.0, 0.0])
    design = np.stack([logits, np.ones(len(logits))], axis=1)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -40, 40)))
        gradient = design.T @ (weight * (p - is_copy))
        hessian = (design * (weight * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step
        if np.abs(step).max() < 1e-9:
            break
    return (float(theta[0]), float(theta[1])) if theta[0] > 1e-3 else (1.0, 0.0)


def fit_networks(table: PairTable, whitening: Whitening, background: np.ndarray, config: FusedConfig) -> FusedModel:
    """Train the networks on all pairs of the table; not calibrated.

    Features in `config.left_out` get no weight. Raises UsageError for an unknown name.
    """
    if unknown := sorted(set(config.left_out) - set(PAIR_FEATURES)):
        raise UsageError(
            f"left_out names {unknown[0]!r}{nearest(unknown[0], PAIR_FEATURES)}; features: {', '.join(PAIR_FEATURES)}"
        )
    unseen = [PAIR_FEATURES.index(name) for name in config.left_out]
    mean = table.features.mean(axis=0, dtype=np.float64).astype(np.float32)
    std = np.maximum(table.features.std(axis=0, dtype=np.float64), 1e-4).astype(np.float32)
    rows = torch.from_numpy(np.clip((table.features - mean) / std, -CLIP, CLIP).astype(np.float32))
    rows[:, unseen] = 0
    target = torch.from_numpy(table.is_copy.astype(np.float32))
    weight = torch.from_numpy((table.weight / table.weight.mean()).astype(np.float32))
    layers = _train(rows, target, weight, config)
    for network in range(config.networks):
        layers[f"{network}.0.weight"][:, unseen] = 0
    return FusedModel(mean, std, layers, 1.0, 0.0, whitening, background)


def _train(rows: Tensor, target: Tensor, weight: Tensor, config: FusedConfig) -> dict[str, np.ndarray]:
    """Train all networks in parallel, each with its own start, order and dropout; AdamW, half-cosine schedule.

    Three layers each, stored as (networks, out, in): a step of all costs little more than a step of one. The generator
    is local.
    """
    generator = torch.Generator().manual_seed(config.seed)
    count, sizes = config.networks, [rows.shape[1], config.hidden, config.hidden, 1]
    weights, biases = [], []
    for inner, outer in itertools.pairwise(sizes):
        bound = 1 / math.sqrt(inner)
        weights.append(torch.empty(count, outer, inner).uniform_(-bound, bound, generator=generator).requires_grad_())
        biases.append(torch.zeros(count, 1, outer, requires_grad=True))
    optimizer = torch.optim.AdamW([*weights, *biases], lr=LR, weight_decay=WEIGHT_DECAY)
    batches = math.ceil(len(rows) / _BATCH)
    steps = config.epochs * batches
    for step in track(range(steps), steps, "fitting networks"):
        if step % batches == 0:
            order = torch.stack([torch.randperm(len(rows), generator=generator) for _ in range(count)])
        chosen = order[:, step % batches * _BATCH :][:, :_BATCH]
        values = rows[chosen]
        for place in range(3):
            values = torch.baddbmm(biases[place], values, weights[place].transpose(1, 2))
            if place < 2:
                kept = torch.rand(values.shape, generator=generator) >= DROPOUT
                values = torch.relu(values) * kept / (1 - DROPOUT)
        losses = functional.binary_cross_entropy_with_logits(
            values[..., 0], target[chosen], weight[chosen], reduction="none"
        )
        for group in optimizer.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / (config.epochs * batches)))
        optimizer.zero_grad()
        losses.mean(dim=1).sum().backward()  # of each network on its own: they share no weight
        optimizer.step()
    layers = {}
    for network in range(count):
        for place in range(3):
            layers[f"{network}.{place}.weight"] = weights[place][network].detach().numpy().copy()
            layers[f"{network}.{place}.bias"] = biases[place][network, 0].detach().numpy().copy()
    return layers
