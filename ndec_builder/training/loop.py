"""The training loop: resumable at any saved step, with the same bits on one CPU type."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ndec_builder.core.console import Bars, progress
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_text
from ndec_builder.training.batches import ALONE, StepBatch
from ndec_builder.training.class_table import SampledCosFace
from ndec_builder.training.distributed import Team
from ndec_builder.training.losses import (
    CosFaceLoss,
    NormRatioLoss,
    TripletLoss,
    norms,
    ordered_view_pairs,
    original_copy_pairs,
)
from ndec_builder.training.recipes import TrainingRecipe
from ndec_builder.training.resume import STATE_FILE, load_state, save_state
from ndec_builder.training.settings import TrainConfig


@dataclass(frozen=True)
class Terms:
    """The loss of one step over the rows of all processes, and its parts. Only `loss` carries gradients."""

    loss: Tensor
    norm_ratio: Tensor
    triplet: Tensor
    cosface: Tensor
    pairs: int  # norm-ratio pairs of the step
    above_one: float  # share of them with a ratio above 1, the goal of the loss


class Objective(nn.Module):
    """Network and losses as one module, for DistributedDataParallel: a batch → Terms."""

    def __init__(
        self,
        network: nn.Module,
        cosface: CosFaceLoss | SampledCosFace,
        recipe: TrainingRecipe,
        config: TrainConfig,
        team: Team,
    ) -> None:
        super().__init__()
        self.network, self.cosface = network, cosface
        self.recipe, self.config, self.team = recipe, config, team

    def forward(self, batch: StepBatch) -> Terms:
        features = self.network(batch.inputs, batch.keep)
        return step_terms(
            features, batch, self.recipe, self.cosface, self.config.metric_weight, self.config.min_share_gap, self.team
        )


def step_terms(
    features: Tensor,
    batch: StepBatch,
    recipe: TrainingRecipe,
    cosface: CosFaceLoss | SampledCosFace,
    metric_weight: float,
    min_share_gap: float,
    team: Team = ALONE,
) -> Terms:
    """Equation 2 on one batch: norm ratio over view pairs and hard negative pairs, plus λ · CosFace over all rows.

    The recipe `triplet` uses a triplet term instead of the norm ratio. With several processes each term is the mean
    over the pairs and rows of all of them; the gradient of `loss` is `team.size` times this process's part, because
    DistributedDataParallel averages gradients.
    """
    i, j = norm_pairs(batch, recipe, min_share_gap)
    zero = features.new_zeros(())
    parts = torch.stack([
        NormRatioLoss()(features, i, j),
        _triplet(features, batch) if recipe.triplet else zero,
        cosface(features, batch.labels),
    ])  # fmt: skip
    with torch.no_grad():
        length = norms(features)
        counts = features.new_tensor([len(i), len(batch.former) if recipe.triplet else 0, len(batch.labels)])
        totals = team.sums(counts)
        shares = counts / totals.clamp_min(1)
        above = (length[i] > length[j]).sum()
        values = team.sums(torch.cat([parts * shares, above[None] / totals[0].clamp_min(1)]))
    weights = features.new_tensor([1.0, 1.0, metric_weight])
    loss = (weights * shares * parts).sum() * team.size
    if team.size > 1:  # the value covers the full step, the gradient this process's part
        loss = loss + ((weights * values[:3]).sum() - loss).detach()
    return Terms(loss, values[0], values[1], values[2], int(totals[0]), float(values[3]))


def norm_pairs(batch: StepBatch, recipe: TrainingRecipe, min_share_gap: float) -> tuple[Tensor, Tensor]:
    """Rows (more content, less content) of all pairs of the norm term, each pair once."""
    count = len(batch.labels)
    codes = [batch.labels[:0]]  # a pair (i, j) as i · count + j
    if recipe.crop_norms:
        # within a block only: an image drawn twice may be in two processes
        blocks = torch.arange(count, device=batch.labels.device) // batch.views
        left_out = torch.zeros_like(batch.adds_content) if recipe.adding else batch.adds_content
        more, less = ordered_view_pairs(blocks, batch.content_share, left_out, min_share_gap)
        codes.append(more * count + less)
    if recipe.copy_norms:
        more, less = original_copy_pairs(batch.originals, batch.views)
        codes.append(more * count + less)
    if recipe.pair_norms:
        more, less = pair_view_rows(batch, recipe.adding or recipe.copy_norms)
        codes.append(more * count + less)
    pairs = torch.unique(torch.cat(codes))
    return pairs // count, pairs % count


def pair_view_rows(batch: StepBatch, adding: bool) -> tuple[Tensor, Tensor]:
    """Each latter's original over its former's original and views, which hold no more content than the former.

    Views that add content are included only if `adding`.
    """
    views = batch.former[:, None] + torch.arange(batch.views, device=batch.former.device)
    more = batch.latter[:, None].expand_as(views)
    chosen = torch.ones_like(views, dtype=torch.bool) if adding else ~batch.adds_content[views]
    return more[chosen], views[chosen]


def _triplet(features: Tensor, batch: StepBatch) -> Tensor:
    """Former as anchor, its other views as positives, latter as negative."""
    views = batch.former[:, None] + torch.arange(1, batch.views, device=batch.former.device)
    return TripletLoss()(features, batch.former, views, batch.latter)


def rate(step: int, steps: int, warmup: int, flat: int = 0) -> float:
    """Share of the peak learning rate at a step (from 0): linear warm-up, flat, then a half cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    past = max(0, step - warmup - flat)
    return 0.5 * (1 + math.cos(math.pi * past / max(1, steps - warmup - flat)))


def train(
    network: nn.Module,
    cosface: CosFaceLoss | SampledCosFace,
    groups: list[dict[str, Any]],
    batches: Callable[[int], StepBatch],
    recipe: TrainingRecipe,
    config: TrainConfig,
    directory: Path,
    mark: str,
    writer: Any,
    team: Team = ALONE,
    ids: Sequence[str] = (),
    bar: Bars | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Train `network` (inputs → features of free norm) and the class proxies in place, from the last saved state.

    `groups`: parameter groups with their peak `lr`. `mark` is the run's fingerprint: a state with another one is not
    used. Rank 0 writes `directory/state.safetensors` every `save_every` steps and `metrics.jsonl` every `log_every`.
    Raises NdecError for a loss that is not finite, before the weights change; the last saved state is kept. `ids` are
    the images of the training set, row by row, for that message. `bar`: the display that shows the progress. Raises
    CancelledError before the next step once `stop` is set.
    """
    peaks = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    average = Average(network, config.ema) if config.ema else None
    model = nn.ModuleDict({"network": network, "cosface": cosface} | ({"average": average} if average else {}))
    state_path = directory / STATE_FILE
    device = cosface.weight.device
    first, lines = load_state(state_path, model, optimizer, mark)
    objective: nn.Module = Objective(network, cosface, recipe, config, team)
    if team.size > 1:
        objective = DistributedDataParallel(objective, broadcast_buffers=False, find_unused_parameters=True)
    with progress() if bar is None else nullcontext(bar) as shown:
        task = shown.add_task(f"training {config.recipe}", total=config.steps, completed=first)
        for step in range(first, config.steps):
            if stop is not None and stop.is_set():
                raise CancelledError
            share = rate(step, config.steps, config.warmup, config.flat)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share
            batch = batches(step).to(device)
            if isinstance(cosface, SampledCosFace):
                cosface.draw(batch.all_labels, step)
            terms = objective(batch)
            if not bool(torch.isfinite(terms.loss)):
                raise NdecError(_not_finite(step, terms, batch, state_path, ids))
            optimizer.zero_grad()
            terms.loss.backward()
            optimizer.step()
            if isinstance(cosface, SampledCosFace):
                gradient = cosface.rows.grad
                assert gradient is not None, "every drawn row takes part in the softmax"
                cosface.update(team.sums(gradient) / team.size, config.lr * share)
            if average is not None:
                average.move(network)
            if step % config.log_every == 0 or step == config.steps - 1:
                lines.append(_line(step, terms, config.lr * share, writer))
            if team.is_main and ((step + 1) % config.save_every == 0 or step == config.steps - 1):
                save_state(state_path, model, optimizer, step + 1, lines, mark)
                write_text(directory / "metrics.jsonl", "".join(line + "\n" for line in lines))
            shown.advance(task)
    if average is not None:
        average.put_into(network)


class Average(nn.Module):
    """Exponential moving average of a network's parameters: average ← decay · average + (1 − decay) · parameter.

    A module with buffers, so that it is saved and resumed like the others.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        for number, parameter in enumerate(network.parameters()):
            self.register_buffer(str(number), parameter.detach().clone())

    @torch.no_grad()
    def move(self, network: nn.Module) -> None:
        for kept, new in zip(self.buffers(), network.parameters(), strict=True):
            kept.lerp_(new, 1 - self.decay)

    @torch.no_grad()
    def put_into(self, network: nn.Module) -> None:
        for kept, old in zip(self.buffers(), network.parameters(), strict=True):
            old.copy_(kept)


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


def _not_finite(step: int, terms: Terms, batch: StepBatch, state_path: Path, ids: Sequence[str]) -> str:
    rows = sorted(set(batch.images.tolist()))
    images = ", ".join(ids[row] if ids else f"row {row}" for row in rows[:8]) + (" …" if len(rows) > 8 else "")
    kept = f"the last good state is kept in {state_path}" if state_path.is_file() else "no state was saved yet"
    return (
        f"the loss is {terms.loss.item()} at step {step} (norm ratio {terms.norm_ratio.item()}, CosFace "
        f"{terms.cosface.item()}); its batch has {len(rows)} images: {images}; training stopped and {kept}. "
        "Lower lr or trunk_lr, or set bf16 = off"
    )
