"""The filter's threshold: the least ratio that keeps enough copies, from groups that the head did not see."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.training import calibration, train
from ndec_builder.training.calibration import choose_threshold, held_out, held_out_ratios
from ndec_builder.training.checkpoint import load_detector
from ndec_builder.training.data import TrainingSet
from ndec_builder.training.model import fit_head
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.view_cache import CachedViews

Make = Callable[..., TrainConfig]


def images(groups: list[str | None], pairs: list[tuple[int, int]] | None = None) -> TrainingSet:
    table = pa.table({"image_id": [f"i{i:03d}" for i in range(len(groups))], "group": groups})
    rows = np.array(pairs or [], np.int64).reshape(-1, 2)
    return TrainingSet(table, len(groups), np.arange(len(groups)), rows, np.ones(len(rows), bool))


@pytest.mark.slow
@given(
    st.lists(st.floats(0.05, 20), min_size=20, max_size=60), st.lists(st.floats(0.05, 20), max_size=9),
    st.sampled_from([0.5, 0.8, 0.9, 0.99]),
)  # fmt: skip
def test_it_is_the_least_ratio_that_keeps_enough_copies(copies: list[float], hard: list[float], keep: float) -> None:
    found = choose_threshold(np.array(copies), np.array(hard), keep)
    assert found is not None
    plainly = min(t for t in [1.0, *copies] if t >= 1 and sum(c <= t for c in copies) >= keep * len(copies) - 1e-9)
    assert found.value == plainly
    assert found.kept == pytest.approx(np.mean([c <= plainly for c in copies]))
    assert found.kept_at_1 == pytest.approx(np.mean([c <= 1 for c in copies]))
    assert (found.copies, found.hard) == (len(copies), len(hard))
    for at, share in ((plainly, found.rejected), (1.0, found.rejected_at_1)):
        assert share == (pytest.approx(np.mean([h > at for h in hard])) if hard else None)


def test_too_few_copies_choose_nothing() -> None:
    assert choose_threshold(np.full(19, 0.5), np.array([2.0]), 0.9) is None


def test_whole_groups_are_held_out_and_about_a_fifth() -> None:
    data = images([f"g{i // 3}" if i % 7 else None for i in range(900)])
    held = held_out(data)
    sides: dict[str, set[bool]] = {}
    for image, group in zip(data.images["image_id"].to_pylist(), data.images["group"].to_pylist(), strict=True):
        sides.setdefault(group or image, set()).add(image in held)
    assert all(len(side) == 1 for side in sides.values())
    assert 120 < len(held) < 240 and held == held_out(data)


def test_ratios_are_those_of_the_held_out_copies_and_pairs() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 4, 6)).astype(np.float16)
    head = fit_head(rng.normal(size=(30, 6)).astype(np.float32), 5, 0.1, seed=0)
    with torch.no_grad():
        head.log_length.weight.fill_(0.1)
    data = images([f"g{i}" for i in range(8)], [(1, 2), (3, 4), (5, 1)])
    ids = data.images["image_id"].to_pylist()
    views = CachedViews(ids, features, np.ones((8, 4), np.float32), np.zeros((8, 4), bool), [], "f")
    held = {"i001", "i002", "i003", "i007"}
    copies, hard = held_out_ratios(head, data, views, held, ("original", "crop", "copy", "copy"))
    length = head(torch.from_numpy(features.astype(np.float32))).norm(dim=-1).detach().numpy()
    expected = [length[row, view] / length[row, 0] for row in (1, 2, 3, 7) for view in (2, 3)]
    assert copies == pytest.approx(expected, rel=1e-4)
    assert hard == pytest.approx([length[1, 0] / length[2, 0]], rel=1e-4)  # the only pair with both sides held out


@pytest.mark.slow
def test_the_checkpoint_says_its_threshold_and_the_head_behind_it_saw_no_held_out_image(
    config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_FEWEST", 1)
    monkeypatch.setattr(calibration, "_PARTS", 2)
    seen: list[set[str]] = []
    real = train.train_heads

    def watched(jobs: list[Any]) -> Any:
        seen.extend(set(job.data.images["image_id"].to_pylist()) for job in jobs)
        return real(jobs)

    monkeypatch.setattr(train, "train_heads", watched)
    directory = train.run(config(views=5, keep_copies=0.8))
    card = json.loads((directory / "checkpoint.json").read_text())
    first, second = seen
    assert first < second and len(second) == 18
    assert card["threshold"]["value"] >= 1 and card["threshold"]["kept"] >= 0.8
    assert card["threshold"]["copies"] == sum(name.startswith("b") for name in second - first)
    assert load_detector(directory).threshold == card["threshold"]["value"]
    plain = train.run(config(views=5, keep_copies=0.0, name="plain"))
    assert json.loads((plain / "checkpoint.json").read_text())["threshold"] is None
    assert len(seen) == 3 and load_detector(plain).threshold is None
    # the detector itself is the same: the threshold is chosen separately
    assert (plain / "checkpoint.safetensors").read_bytes() == (directory / "checkpoint.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["baseline", "triplet"])
def test_recipes_without_norms_choose_none(config: Make, recipe: str) -> None:
    directory = train.run(config(recipe=recipe, keep_copies=0.9))
    assert json.loads((directory / "checkpoint.json").read_text())["threshold"] is None
    assert not (directory / "held-out").exists()


@pytest.mark.slow
def test_heads_trained_side_by_side_have_the_bits_of_heads_trained_one_after_the_other(
    config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_PARTS", 2)
    together, alone = (train.run(config(name=f"t{count}", threads=count, keep_copies=0.8)) for count in (2, 1))
    for name in ("state.safetensors", "held-out/state.safetensors", "checkpoint.json"):
        assert (together / name).read_bytes() == (alone / name).read_bytes(), name


@pytest.mark.slow
def test_a_head_that_fails_stops_the_other_one(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_PARTS", 2)
    stopped: list[bool] = []

    def fail_or_wait(*given: Any) -> None:
        directory, stop = given[6], given[-1]
        if directory.name == "held-out":
            raise NdecError("the loss is not finite")
        stopped.append(stop.wait(60))

    monkeypatch.setattr(train, "train", fail_or_wait)
    with pytest.raises(NdecError, match="the loss is not finite"):
        train.run(config(keep_copies=0.8))
    assert stopped == [True]
