"""Batches: whole passes over images and pairs, a function of the step alone, rows and pairs where they belong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from ndec_builder.training.batches import CachedBatches, StepBatch, plan_step
from ndec_builder.training.data import TrainingSet
from ndec_builder.training.distributed import Team


def training_set(basic: int = 11, extra: int = 3) -> TrainingSet:
    pairs = np.array([(basic + i, i) for i in range(extra)])
    classes = np.array([*range(basic), *range(extra)])
    images = pa.table({"image_id": [f"i{i:02d}" for i in range(basic + extra)]})
    return TrainingSet(images, basic, classes, pairs, np.array([True, False, True]))


def test_every_image_and_pair_is_seen_once_a_pass() -> None:
    data = training_set()
    drawn = np.concatenate([plan_step(data, 0, step, 4, 1).images[:4] for step in range(11)])
    for start in range(0, 44, 11):
        assert sorted(drawn[start : start + 11]) == list(range(11))
    latters = [int(plan_step(data, 0, step, 4, 1).images[4]) for step in range(6)]
    assert sorted(latters[:3]) == sorted(latters[3:]) == [11, 12, 13]


def test_the_order_is_shuffled_anew_and_by_seed() -> None:
    data = training_set()
    passes = {tuple(plan_step(data, seed, step, 11, 0).images) for seed in (0, 1) for step in (0, 1)}
    assert len(passes) == 4


def batches(data: TrainingSet, per_image: int = 3) -> CachedBatches:
    count, views = data.images.num_rows, 5
    features = np.arange(count * views, dtype=np.float16).reshape(count, views, 1)  # row · views + view
    share = np.tile(np.array([1.0, 0.8, 0.6, 0.4, 0.2], np.float32), (count, 1))
    adds = np.tile(np.array([False, False, False, False, True]), (count, 1))
    return CachedBatches(data, features, share, adds, seed=0, identities=4, pairs=2, per_image=per_image)


def test_rows_belong_together() -> None:
    data = training_set()
    draw = batches(data)
    for step in range(8):
        batch = draw(step)
        code = batch.inputs[:, 0].long()
        rows, views = code // 5, code % 5
        assert torch.equal(rows, batch.images) and len(rows) == (4 + 2 * 2) * 3
        assert views.reshape(-1, 3)[:, 0].eq(0).all() and torch.equal(batch.originals, torch.arange(8) * 3)
        assert all(len(set(block)) == 3 for block in views.reshape(-1, 3).tolist())
        assert torch.equal(batch.labels, torch.from_numpy(data.classes)[rows])
        assert torch.allclose(batch.content_share, 1 - 0.2 * views) and torch.equal(batch.adds_content, views == 4)
        allowed = {tuple(pair) for pair, directed in zip(data.pairs.tolist(), data.directed, strict=True) if directed}
        got = list(zip(rows[batch.latter].tolist(), rows[batch.former].tolist(), strict=True))
        assert set(got) <= allowed and views[batch.latter].eq(0).all() and views[batch.former].eq(0).all()


@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_of_several_processes_are_the_whole(size: int) -> None:
    data = training_set()

    def draw(rank: int, size: int) -> StepBatch:
        whole = batches(data)
        whole.team, whole.dropout = Team(rank, size), 0.5
        return whole(3)

    whole, parts = draw(0, 1), [draw(rank, size) for rank in range(size)]

    def rows(batch: StepBatch) -> list[tuple[float, int, list[float]]]:
        assert batch.keep is not None
        return list(zip(batch.inputs[:, 0].tolist(), batch.images.tolist(), batch.keep.tolist(), strict=True))

    assert sorted(row for part in parts for row in rows(part)) == sorted(rows(whole))
    assert all(torch.equal(part.all_labels, whole.labels) for part in parts)
    sides = [(part.images[part.latter].tolist(), part.images[part.former].tolist()) for part in parts]
    pairs = [pair for latter, former in sides for pair in zip(latter, former, strict=True)]
    expected = zip(whole.images[whole.latter].tolist(), whole.images[whole.former].tolist(), strict=True)
    assert sorted(pairs) == sorted(expected)


def test_a_step_does_not_depend_on_those_before() -> None:
    data = training_set()
    one, other = batches(data), batches(data)
    for step in range(5):
        one(step)
    assert torch.equal(one(5).inputs, other(5).inputs)


@pytest.mark.parametrize("per_image", [2, 5, 9])
def test_never_more_views_than_there_are(per_image: int) -> None:
    assert batches(training_set(), per_image)(0).views == min(per_image, 5)
