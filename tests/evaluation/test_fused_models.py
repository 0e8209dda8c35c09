"""The fused scorer with other descriptors, with the fit that comes with ndec, and as ASL's filter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.detectors.fused_rescoring import own_sides, rescore
from ndec_builder.evaluation.detectors.norm_ratios import pair_ratios
from ndec_builder.evaluation.detectors.scoring import score
from ndec_builder.evaluation.metrics.norm_ratio_filter import reject
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.training.checkpoint import load_detector
from ndec_builder.training.fused import run as fused_run
from ndec_builder.training.fused.features import PAIR_FEATURES
from ndec_builder.training.fused.model import DEFAULT_FIT, FUSED_CARD, FUSED_WEIGHTS, FusedModel, load_model
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.model import Head
from support.pictures import scene

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"


class TinyDescriptor(nn.Module):
    """(n, 3, h, w) → (n, 24): what a TorchScript file of a descriptor (SSCD, say) does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.Conv2d(8, 24, 3, stride=2, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.relu(self.second(torch.relu(self.first(images)))).flatten(2).mean(2)
        return found


def test_any_torchscript_descriptor_is_fitted_and_judged_with(small, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "descriptor.torchscript.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.jit.script(TinyDescriptor().eval()).save(str(path))
    name = f"{path}@64"
    fast = {"dim": 6, "folds": 2, "networks": 1, "epochs": 3, "workers": 1, "views": 3, "steps": 4}
    fitted = fused_run.run(FusedConfig(tmp_path, small.manifest, backbone=name, **fast))
    settings = {"workspace": tmp_path, "manifest": small.manifest, "scorer": "fused", "fused_model": fitted}
    common = {**settings, "rescored": 2, "workers": 1, "replicates": 100}
    report = run(BenchmarkConfig(**common, model=name, name="before"))
    metrics = json.loads((report / "metrics.json").read_text("utf-8"))
    assert metrics["uap"]["value"] > 0
    moved = tmp_path / "elsewhere.pt"
    path.rename(moved)  # the same bytes under a different name: the given --model is checked too
    again = run(BenchmarkConfig(**common, model=f"{moved}@64", name="after"))
    assert (again / "predictions.csv").read_bytes() == (report / "predictions.csv").read_bytes()


def test_the_fit_that_comes_with_ndec_is_used_when_none_is_given(small, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    settings = {"workspace": tmp_path, "manifest": small.manifest, "model": MODEL, "scorer": "fused"}
    common = {**settings, "rescored": 2, "workers": 1, "replicates": 100}
    without = run(BenchmarkConfig(**common, name="without"))
    given = run(BenchmarkConfig(**common, fused_model=DEFAULT_FIT, name="given"))
    assert (without / "predictions.csv").read_bytes() == (given / "predictions.csv").read_bytes()
    assert "comes with ndec" in json.loads((without / "metrics.json").read_text("utf-8"))["detector"]
    with pytest.raises(UsageError, match="belongs to --scorer fused"):
        run(BenchmarkConfig(**common | {"scorer": "cosine"}, fused_model=DEFAULT_FIT))


def test_the_fit_that_comes_with_ndec_names_what_it_was_trained_on(tmp_path: Path) -> None:
    model = load_model(DEFAULT_FIT)
    card = model.card
    assert len(card["train_groups"]) > 300 and len(card["train_sha256"]) >= len(card["train_groups"])
    assert len(card["train_photos"]) == len(set(card["train_photos"])) > 300
    assert all(len(value) == 64 for value in card["train_sha256"])
    assert card["packages"] and all({"name", "registry", "version"} <= set(package) for package in card["packages"])
    files = sorted(path.name for path in DEFAULT_FIT.iterdir())
    assert files == sorted([FUSED_CARD, FUSED_WEIGHTS])  # no picture
    assert sum(path.stat().st_size for path in DEFAULT_FIT.iterdir()) < 5_000_000


def test_the_fit_that_comes_with_ndec_is_refused_on_its_own_photos(tmp_path: Path) -> None:
    photo = load_model(DEFAULT_FIT).card["train_photos"][0]
    for folder, name in (("queries", "q"), ("references", photo)):
        (tmp_path / folder).mkdir()
        scene(1).save(tmp_path / folder / f"{name}.png")  # other bytes, the photo's name
    (tmp_path / "truth.csv").write_text(f"q,{photo}\n")
    folders = {"queries": tmp_path / "queries", "references": tmp_path / "references"}
    config = BenchmarkConfig(
        workspace=tmp_path, **folders, ground_truth=tmp_path / "truth.csv", model=MODEL, scorer="fused"
    )
    with pytest.raises(NdecError, match=r"was fitted on 1 of the references.*meaningless.*train-asl --recipe fused"):
        run(config)


def norm_ratio_alone(card: dict[str, object], model: FusedModel, head: Head) -> FusedModel:
    """logit = −log query_over_reference of the head, through the ReLUs as relu(x) and relu(−x)."""
    size = len(PAIR_FEATURES)
    first = np.zeros((2, size), np.float32)
    first[:, PAIR_FEATURES.index("log_query_over_reference")] = 1, -1
    layers = {
        "0.0.weight": first, "0.0.bias": np.zeros(2, np.float32),
        "0.1.weight": np.eye(2, dtype=np.float32), "0.1.bias": np.zeros(2, np.float32),
        "0.2.weight": np.array([[-1, 1]], np.float32), "0.2.bias": np.zeros(1, np.float32),
    }  # fmt: skip
    scaling = np.zeros(size, np.float32), np.ones(size, np.float32)
    return FusedModel(*scaling, layers, 1.0, 0.0, model.whitening, model.background, dict(card), (head,))


def test_asls_filter_is_the_special_case_with_the_norm_ratio_alone(small, make_checkpoint, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    checkpoint = make_checkpoint("special").parent
    config = BenchmarkConfig(workspace=tmp_path, manifest=small.manifest, checkpoint=checkpoint, scorer="asl")
    data = from_manifest(small.manifest)
    scored = score(config, Workspace(tmp_path), data)
    ratios = pair_ratios(scored)
    assert 0.2 < reject(ratios).mean() < 0.8  # both outcomes occur
    default = load_model(DEFAULT_FIT)
    model = norm_ratio_alone(default.card, default, load_detector(checkpoint).head)
    found = rescore(
        Workspace(tmp_path), data, scored.predictions, model, own_sides(Workspace(tmp_path), data, model, 8, "cpu"),
        len(data.references), Engine(workers=1), competition=False, within=2,
    )  # fmt: skip
    np.testing.assert_array_equal(found.scores < 0.5, reject(ratios))  # what the filter drops, at threshold 1
    order = np.argsort(-found.scores, kind="stable")
    assert (np.diff(ratios[order]) >= -1e-6).all()  # and all pairs in the order of the ratio
