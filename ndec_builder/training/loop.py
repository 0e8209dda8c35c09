"""The training loop: one flat function, resumable at any saved step, bit for bit on one CPU type."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ndec_builder.core.console import progress
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_text
from ndec_builder.training.batches import Batch
from ndec_builder.training.losses import (
    CosFaceLoss,
    NormRatioLoss,
    TripletLoss,
    norms,
    ordered_view_pairs,
    original_copy_pairs,
)
from ndec_builder.training.recipes import Recipe
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.state import load_state, save_state


@dataclass(frozen=True)
class Terms:
    """The loss of one step and what it is made of."""

    loss: Tensor
    norm_ratio: Tensor
    triplet: Tensor
    cosface: Tensor
    pairs: int  # norm-ratio pairs of the step
    above_one: float  # share of them whose ratio is above 1, as the loss wants it


def step_terms(
    features: Tensor, batch: Batch, recipe: Recipe, cosface: CosFaceLoss, metric_weight: float, min_share_gap: float
) -> Terms:
    """Equation 2 on one batch: norm ratio over view pairs and hard negative pairs, plus λ · CosFace over all rows.

    The recipe `triplet` has a triplet term in the norm ratio's place.
    """
    i, j = norm_pairs(batch, recipe, min_share_gap)
    norm_ratio = NormRatioLoss()(features, i, j)
    metric = cosface(features, batch.labels)
    triplet = _triplet(features, batch) if recipe.triplet else features.new_zeros(())
    with torch.no_grad():
        length = norms(features)
        above = float((length[i] > length[j]).float().mean()) if len(i) else 0.0
    return Terms(norm_ratio + triplet + metric_weight * metric, norm_ratio, triplet, metric, len(i), above)


def _triplet(features: Tensor, batch: Batch) -> Tensor:
    """Former as anchor, its other views as positives, latter as negative."""
    views = batch.former[:, None] + torch.arange(1, batch.views, device=batch.former.device)
    return TripletLoss()(features, batch.former, views, batch.latter)


def norm_pairs(batch: Batch, recipe: Recipe, min_share_gap: float) -> tuple[Tensor, Tensor]:
    """Rows (more content, less content) of all pairs that the recipe puts into the norm term, each pair once."""
    count = len(batch.labels)
    codes = [batch.labels[:0]]  # a pair (i, j) as i · count + j
    if recipe.crop_norms:
        more, less = ordered_view_pairs(batch.images, batch.content_share, batch.adds_content, min_share_gap)
        codes.append(more * count + less)
    if recipe.copy_norms:
        more, less = original_copy_pairs(batch.originals, batch.views)
        codes.append(more * count + less)
    if recipe.pair_norms:
        codes.append(batch.latter * count + batch.former)
    pairs = torch.unique(torch.cat(codes))
    return pairs // count, pairs % count


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate at a step (from 0): linear warm-up, then a half cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    network: nn.Module,
    cosface: CosFaceLoss,
    groups: list[dict[str, Any]],
    batches: Callable[[int], Batch],
    recipe: Recipe,
    config: TrainConfig,
    directory: Path,
    mark: str,
    writer: Any,
) -> None:
    """Train `network` (inputs → features of free norm) and the class proxies in place, from the last saved state.

    `groups`: parameter groups with their peak `lr`. `mark` is the run's fingerprint: a state with another one is not
    used. Writes `directory/state.safetensors` every `save_every` steps and `metrics.jsonl` every `log_every`.
    Raises NdecError at a loss that is not finite, before it touches the weights; the last saved state stays.
    """
    peaks = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    model = nn.ModuleDict({"network": network, "cosface": cosface})
    state_path = directory / "state.safetensors"
    device = cosface.weight.device
    first, lines = load_state(state_path, model, optimizer, mark)
    with progress() as bar:
        task = bar.add_task(f"training {config.recipe}", total=config.steps, completed=first)
        for step in range(first, config.steps):
            share = rate(step, config.steps, config.warmup)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share
            batch = batches(step).to(device)
            terms = step_terms(
                network(batch.inputs), batch, recipe, cosface, config.metric_weight, config.min_share_gap
            )
            if not bool(torch.isfinite(terms.loss)):
                raise NdecError(_not_finite(step, terms, batch, state_path))
            optimizer.zero_grad()
            terms.loss.backward()
            optimizer.step()
            if step % config.log_every == 0 or step == config.steps - 1:
                lines.append(_line(step, terms, config.lr * share, writer))
            if (step + 1) % config.save_every == 0 or step == config.steps - 1:
                save_state(state_path, model, optimizer, step + 1, lines, mark)
                write_text(directory / "metrics.jsonl", "".join(line + "\n" for line in lines))
            bar.advance(task)


def _line(step: int, terms: Terms, lr: float, writer: Any) -> str:
    values = {
        "loss": terms.loss.item(),
        "norm_ratio_loss": terms.norm_ratio.item(),
        "triplet_loss": terms.triplet.item(),
        "cosface_loss": terms.cosface.item(),
        "norm_pairs": terms.pairs,
        "ratio_above_one": terms.above_one,
        "lr": lr,
    }
    for name, value in values.items():
        writer.add_scalar(name, value, step)
    return json.dumps({"step": step, **values}, sort_keys=True)


def _not_finite(step: int, terms: Terms, batch: Batch, state_path: Path) -> str:
    images = sorted(set(batch.images.tolist()))
    kept = f"the last good state is kept in {state_path}" if state_path.is_file() else "no state was saved yet"
    return (
        f"the loss is {terms.loss.item()} at step {step} (norm ratio {terms.norm_ratio.item()}, CosFace "
        f"{terms.cosface.item()}; its images are the rows {images[:8]} … of the training set); training stopped and "
        f"{kept}. Lower lr or trunk_lr, or set bf16 = off"
    )
