"""The norm ratio as a feature: who trained on what, and the ratio of each training pair by a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ndec_builder.training.fused import norms
from ndec_builder.training.fused import run as fused_run
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.model import load_model
from ndec_builder.training.fused.norms import half_of, training_ratios
from ndec_builder.training.fused.run import measured, measured_pairs, prepare_training, run
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.model import Head, fit_head, norms_of

pytestmark = pytest.mark.slow

Rows = dict[str, list[dict[str, Any]]]
COLUMN = PAIR_FEATURES.index("log_query_over_reference")


@pytest.fixture
def config(tmp_path: Path, tiny: str, tables: Rows, write_manifest: Callable[[Rows], Path]) -> FusedConfig:
    fast = {"backbone": tiny, "dim": 4, "folds": 2, "networks": 1, "epochs": 2, "workers": 1, "views": 3, "steps": 4}
    return FusedConfig(tmp_path / "w", write_manifest(tables), **fast)


def random_heads(count: int, dim: int) -> tuple[Head, ...]:
    heads = []
    for seed in range(count):
        head = fit_head(np.random.default_rng(seed).normal(size=(20, dim)).astype(np.float32), 4, 0.1, seed)
        with torch.no_grad():
            head.log_length.weight.uniform_(-1, 1, generator=torch.Generator().manual_seed(seed))
        heads.append(head)
    return tuple(heads)


def test_each_head_is_trained_without_its_half_of_the_groups(
    config: FusedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepare_training(config).data
    half = half_of(data, config.seed)
    groups = data.images["group"].to_pylist()
    assert all(len({h for g, h in zip(groups, half, strict=True) if g == group}) == 1 for group in set(groups))
    assert set(half) == {0, 1}
    seen: list[set[str]] = []
    real = norms.train_heads

    def watched(jobs: list[Any]) -> list[Head]:
        for job in jobs:
            seen.append(set(job.data.images["group"].to_pylist()))
            assert job.views.ids == job.data.images["image_id"].to_pylist()
        return real(jobs)

    monkeypatch.setattr(norms, "train_heads", watched)
    learned_from: list[np.ndarray] = []
    monkeypatch.setattr(
        fused_run, "training_ratios", lambda *given: learned_from.append(training_ratios(*given)) or learned_from[-1]
    )
    model = load_model(run(config))
    kept_from = [{g for g, h in zip(groups, half, strict=True) if h == out} for out in (0, 1)]
    assert [seen[out] & kept_from[out] for out in (0, 1)] == [set(), set()]
    assert seen[0] | seen[1] == set(groups)
    assert len(model.heads) == 2 and model.card["figures"]["auc_lost_when_shuffled"]["log_query_over_reference"]
    known = prepare_training(config)  # what is read back gives the very ratios that were learned from
    again = measured_pairs(config, known, model.heads).features[:, COLUMN]
    np.testing.assert_array_equal(again, np.log(learned_from[0]).astype(np.float32))
    pooled = np.random.default_rng(0).normal(size=(5, model.heads[0].shape["dim_in"])).astype(np.float32)
    one, two = (norms_of(head, pooled) for head in model.heads)
    np.testing.assert_allclose(model.norms(pooled), np.sqrt(one * two))


def test_the_ratio_of_a_training_pair_is_that_of_the_head_which_did_not_see_its_query() -> None:
    rng = np.random.default_rng(0)
    heads, pooled, originals = random_heads(2, 6), rng.normal(size=(9, 6)), rng.normal(size=(5, 6))
    half = np.array([0, 1, 1, 0, 1])
    columns = {"query": rng.integers(0, 9, 40), "image": rng.integers(0, 5, 40), "source": rng.integers(0, 5, 40)}
    columns["cut"] = np.where(rng.random(40) < 0.5, -1, rng.integers(0, 9, 40))
    found = training_ratios(heads, half, pa.table(columns), pooled, originals)
    for row in range(40):
        q, image, source, cut = (int(columns[name][row]) for name in ("query", "image", "source", "cut"))
        with torch.inference_mode():
            head = heads[half[source]].double()
            reference = originals[image] if cut < 0 else pooled[cut]
            lengths = [float(head(torch.from_numpy(x[None])).norm()) for x in (pooled[q], reference)]
        assert found[row] == pytest.approx(lengths[0] / lengths[1], rel=1e-6)


def test_left_out_there_is_no_head_and_the_feature_is_zero(config: FusedConfig) -> None:
    without = replace(config, left_out=("log_query_over_reference",), name="without")
    assert load_model(run(without)).heads == () and not (config.workspace / "runs" / "without" / "norms-0").exists()
    known = prepare_training(without)
    assert (measured_pairs(without, known).features[:, COLUMN] == 0).all()
    with_heads = measured_pairs(without, known, random_heads(2, known.backbone.dim))
    assert (with_heads.features[:, COLUMN] != 0).any()
    assert measured(without, known)[0].num_rows == (with_heads.kind != "far_rival").sum()  # those need no measurement


def test_where_a_half_has_no_groups_it_goes_without(config: FusedConfig, capfd: pytest.CaptureFixture[str]) -> None:
    known = prepare_training(config)
    few = known.data.without(set(known.data.images["image_id"].to_pylist()[3 : known.data.basic]))
    here = config.workspace / "few"
    assert norms.train_half_heads(config, known.manifest, few, known.backbone, known.views, here, "mark") == ()
    assert "will not use the norm ratio" in capfd.readouterr().err
