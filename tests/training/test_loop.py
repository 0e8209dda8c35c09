"""The loop: its loss recomputed, its schedule, exact resume, a stop at NaN."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ndec_builder.core.config import build
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.training.batches import CachedBatches, StepBatch
from ndec_builder.training.data import TrainingSet
from ndec_builder.training.loop import norm_pairs, rate, step_terms, train
from ndec_builder.training.losses import CosFaceLoss
from ndec_builder.training.model import Head, fit_head
from ndec_builder.training.recipes import TRAINING_RECIPES
from ndec_builder.training.settings import TrainConfig

IMAGES, CACHED_VIEWS, DIM = 12, 4, 10


class Silent:
    """Stands where TensorBoard's writer goes."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        assert isinstance(value, (int, float))


def toy() -> tuple[TrainingSet, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    share = np.tile(np.array([1, 0.7, 0.4, 0.9], np.float32), (IMAGES, 1))
    features = rng.normal(size=(IMAGES, 1, DIM)) + 0.2 * rng.normal(size=(IMAGES, CACHED_VIEWS, DIM))
    features[:, :, 0] += 2 * share
    adds = np.tile(np.array([False, False, False, True]), (IMAGES, 1))
    pairs = np.array([(10, 0), (11, 1)])
    images = pa.table({"image_id": [f"i{i:02d}" for i in range(IMAGES)]})
    data = TrainingSet(images, 10, np.array([*range(10), 0, 1]), pairs, np.array([True, True]))
    return data, features.astype(np.float16), share, adds


def parts() -> tuple[Head, CosFaceLoss, CachedBatches]:
    data, features, share, adds = toy()
    head = fit_head(features[:, 0].astype(np.float32), 6, 0.1, seed=0)
    cosface = CosFaceLoss(6, data.class_count)
    with torch.no_grad():
        cosface.weight.copy_(torch.randn(10, 6, generator=torch.Generator().manual_seed(1)))
    return head, cosface, CachedBatches(data, features, share, adds, seed=0, identities=5, pairs=2, per_image=4)


def settings(**changes: Any) -> TrainConfig:
    values = {"recipe": "asl", "steps": 20, "warmup": 3, "save_every": 6, "log_every": 1, **changes}
    return TrainConfig(Path(), Path(), **values)


def fit(
    directory: Path, batches: Any = None, stop: threading.Event | None = None, **changes: Any
) -> tuple[Head, CosFaceLoss]:
    head, cosface, draw = parts()
    config = settings(**changes)
    groups = [{"params": [*head.parameters(), *cosface.parameters()], "lr": config.lr}]
    ids = draw.data.images["image_id"].to_pylist()
    train(
        head,
        cosface,
        groups,
        batches or draw,
        TRAINING_RECIPES[config.recipe],
        config,
        directory,
        "mark",
        Silent(),
        ids=ids,
        stop=stop,
    )
    return head, cosface


@pytest.mark.parametrize("recipe", list(TRAINING_RECIPES))
def test_the_loss_of_a_step_recomputed(recipe: str) -> None:
    head, cosface, draw = parts()
    batch, rules = draw(0), TRAINING_RECIPES[recipe]
    x = head(batch.inputs)
    terms = step_terms(x, batch, rules, cosface, metric_weight=0.5, min_share_gap=0.02)
    length = np.linalg.norm(x.detach().numpy().astype(np.float64), axis=1)
    wanted = set()
    for i in range(len(length)):
        for j in range(len(length)):
            if batch.images[i] == batch.images[j] and i // CACHED_VIEWS == j // CACHED_VIEWS:
                plain = rules.adding or not (batch.adds_content[i] or batch.adds_content[j])
                if rules.crop_norms and plain and batch.content_share[i] > batch.content_share[j] + 0.02:
                    wanted.add((i, j))
                if rules.copy_norms and i % CACHED_VIEWS == 0 and i != j:
                    wanted.add((i, j))
    if rules.pair_norms:
        for latter, former in zip(batch.latter.tolist(), batch.former.tolist(), strict=True):
            rows = range(former, former + CACHED_VIEWS)
            wanted |= {(latter, row) for row in rows if rules.adding or rules.copy_norms or not batch.adds_content[row]}
    more, less = norm_pairs(batch, rules, 0.02)
    assert sorted(wanted) == list(zip(more.tolist(), less.tolist(), strict=True))
    expected = np.mean([np.exp(1 - length[i] / length[j]) for i, j in wanted]) if wanted else 0.0
    metric = float(cosface(x, batch.labels).detach())
    assert float(terms.norm_ratio.detach()) == pytest.approx(expected, rel=1e-5)
    triplet = float(terms.triplet.detach())
    unit = x.detach().numpy().astype(np.float64) / length[:, None]
    apart = [
        max(np.linalg.norm(unit[former] - unit[former + v]) for v in range(1, CACHED_VIEWS))
        - np.linalg.norm(unit[former] - unit[latter])
        for latter, former in zip(batch.latter.tolist(), batch.former.tolist(), strict=True)
    ]
    assert triplet == pytest.approx(np.mean(np.maximum(0, np.array(apart) + 0.3)) if rules.triplet else 0.0, rel=1e-4)
    assert float(terms.loss.detach()) == pytest.approx(expected + triplet + 0.5 * metric, rel=1e-5)
    assert terms.above_one == pytest.approx(np.mean([length[i] > length[j] for i, j in wanted]) if wanted else 0.0)


def test_the_schedule() -> None:
    rates = [rate(step, 100, 10) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1 and rates[55] == pytest.approx(0.5) and rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_paper_preset_is_the_schedule_of_its_simple_baseline(tmp_path: Path) -> None:
    config = TrainConfig(tmp_path, tmp_path, preset="paper")
    assert config.identities * config.views_per_identity == 128 and config.views_per_identity == 4
    assert config.steps == 25 * 8000 and config.whole_network and config.weight_decay == 0 and config.views == 20
    for rates in (config.lr, config.trunk_lr):
        assert rates == 3.5e-4
    epochs = [rate(8000 * epoch, config.steps, config.warmup, config.flat) for epoch in range(25)]
    assert epochs[0] < 1e-4 and epochs[1] == pytest.approx(0.2, abs=1e-4) and epochs[4] == pytest.approx(0.8, abs=1e-4)
    assert epochs[5:11] == [1.0] * 6  # flat from epoch 5 to 10
    assert epochs[10:] == sorted(epochs[10:], reverse=True) and epochs[24] < 0.02
    middle = rate(int(17.5 * 8000), config.steps, config.warmup, config.flat)
    assert middle == pytest.approx(0.5)  # half of the cosine from 10 to 25
    own = TrainConfig(tmp_path, tmp_path, preset="paper", steps=99, lr=0.5)
    assert (own.steps, own.lr, own.flat) == (99, 0.5, 40_000)
    with pytest.raises(UsageError, match=r"preset is 'papr'; it must be none or paper; did you mean 'paper'"):
        TrainConfig(tmp_path, tmp_path, preset="papr")


def test_a_given_setting_wins_over_the_preset_even_with_its_default(tmp_path: Path) -> None:
    own = TrainConfig(tmp_path, tmp_path, preset="paper", steps=800, lr=0.001)
    assert (own.steps, own.lr, own.views) == (800, 0.001, 20)
    again = build(
        TrainConfig, "train", {"train": {"steps": 800}}, workspace=tmp_path, manifest=tmp_path, preset="paper"
    )
    assert (again.steps, again.lr) == (800, 3.5e-4)
    assert replace(own, seed=3).steps == 800


def test_the_average_of_the_weights(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    head, cosface, draw = parts()
    average = head.direction.weight.detach().clone()

    def watched(step: int) -> StepBatch:
        seen.append(head.direction.weight.detach().clone())
        return draw(step)

    groups = [{"params": [*head.parameters(), *cosface.parameters()], "lr": 0.01}]
    train(
        head, cosface, groups, watched, TRAINING_RECIPES["asl"], settings(steps=4, ema=0.75), tmp_path, "mark", Silent()
    )
    last, _ = fit(tmp_path / "plain", steps=4, lr=0.01)
    for weight in [*seen[1:], last.direction.weight.detach()]:
        average = 0.75 * average + 0.25 * weight
    assert torch.allclose(head.direction.weight, average, atol=1e-7)


def test_training_lowers_the_loss_and_writes_every_step(tmp_path: Path) -> None:
    fit(tmp_path, steps=60, lr=0.01)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(60))
    first, last = np.mean([x["loss"] for x in lines[:5]]), np.mean([x["loss"] for x in lines[-5:]])
    assert last < 0.5 * first and lines[-1]["ratio_above_one"] > 0.9
    assert lines[0]["loss"] == pytest.approx(lines[0]["norm_ratio_loss"] + lines[0]["cosface_loss"])


@pytest.mark.parametrize("stop", [7, 12, 19])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path, stop: int) -> None:
    whole = fit(tmp_path / "whole")
    _, _, draw = parts()

    def until_killed(step: int) -> StepBatch:
        if step == stop:
            raise KeyboardInterrupt
        return draw(step)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed", until_killed)
    seen: list[int] = []

    def watched(step: int) -> StepBatch:
        seen.append(step)
        return draw(step)

    resumed = fit(tmp_path / "killed", watched)
    assert seen[0] == stop // 6 * 6
    for one, other in zip(whole, resumed, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    for name in ("metrics.jsonl", "state.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_nan_stops_before_it_touches_the_weights(tmp_path: Path) -> None:
    _, _, draw = parts()
    fit(tmp_path / "good", steps=6)

    def poisoned(step: int) -> StepBatch:
        batch = draw(step)
        if step == 8:
            batch.inputs[3, 0] = float("nan")
        return batch

    with pytest.raises(NdecError, match=r"loss is nan at step 8 .*last good state is kept .*state.saf") as caught:
        fit(tmp_path / "bad", poisoned)
    named = re.search(r"its batch has (\d+) images: (.*?)( …)?; training stopped", str(caught.value))
    rows = sorted(set(draw(8).images.tolist()))
    assert named and "Lower lr" in str(caught.value)
    assert (int(named[1]), named[2].split(", ")) == (len(rows), [f"i{row:02d}" for row in rows[:8]])
    assert len((tmp_path / "bad" / "metrics.jsonl").read_text().splitlines()) == 6
    resumed, _ = fit(tmp_path / "bad")  # the input is correct again: continues from step 6
    assert all(torch.isfinite(p).all() for p in resumed.parameters())


def test_a_state_of_another_run_is_not_used_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    fit(tmp_path, steps=6)
    path = tmp_path / "state.safetensors"
    head, cosface, draw = parts()
    seen: list[int] = []

    def watched(step: int) -> StepBatch:
        seen.append(step)
        return draw(step)

    groups = [{"params": list(head.parameters()), "lr": 0.001}]
    train(
        head, cosface, groups, watched, TRAINING_RECIPES["asl"], settings(steps=2), tmp_path, "another mark", Silent()
    )
    assert seen == [0, 1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(NdecError, match=r"state.safetensors cannot be read .*delete it"):
        fit(tmp_path)


def test_it_ends_before_the_next_step_once_it_is_told_to_stop(tmp_path: Path) -> None:
    stop, steps = threading.Event(), []

    def batches(step: int) -> StepBatch:
        steps.append(step)
        if step == 2:
            stop.set()
        return parts()[2](step)

    with pytest.raises(CancelledError):
        fit(tmp_path, batches, stop=stop)
    assert steps == [0, 1, 2]
