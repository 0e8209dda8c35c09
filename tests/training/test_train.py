"""`train.run` on small manifests: outputs, determinism, a real kill, refusals, whole-network training."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.storage import read_table
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.training import train
from ndec_builder.training.checkpoint import load_detector, set_checkpoint_aside
from ndec_builder.training.recipes import TRAINING_RECIPES
from ndec_builder.training.settings import TrainConfig

pytestmark = pytest.mark.slow

Make = Callable[..., TrainConfig]
RESULTS = ("checkpoint.safetensors", "checkpoint.json", "metrics.jsonl", "state.safetensors")


def results(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in RESULTS}


@pytest.mark.parametrize("recipe", list(TRAINING_RECIPES))
def test_every_recipe_trains_and_loads(config: Make, recipe: str) -> None:
    directory = train.run(config(recipe=recipe))
    assert directory.name == recipe
    detector = load_detector(directory)
    assert detector.recipe == recipe and not detector.whole_network
    card = json.loads((directory / "checkpoint.json").read_text())
    uses = TRAINING_RECIPES[recipe].uses_pairs
    assert card["counts"]["images"] == (18 if uses else 14) and card["norm_layer"] == "head output"
    assert len(detector.train_groups) == 14 and len(detector.train_sha256) == (18 if uses else 14)
    assert json.loads((directory / "run.json").read_text())["counts"]["pairs"] == (4 if uses else 0)
    assert list((directory / "tensorboard").glob("events.*"))
    x = detector.head(detector.backbone(torch.zeros(2, 3, 32, 32)))
    assert x.shape == (2, 8) and torch.isfinite(x).all()


def test_same_seed_same_bytes_other_seed_other_weights(config: Make) -> None:
    torch.manual_seed(1)
    first = results(train.run(config(name="one")))
    torch.manual_seed(2)  # the global generator has no part in it
    assert results(train.run(config(name="two"))) == first
    other = results(train.run(config(name="three", seed=1)))
    assert other["checkpoint.safetensors"] != first["checkpoint.safetensors"]


def test_tensorboard_shows_the_last_training_of_a_folder_only(config: Make) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def shown(directory: Path) -> list[tuple[int, float]]:
        found = EventAccumulator(str(directory / "tensorboard"))
        found.Reload()
        return [(event.step, round(event.value, 6)) for event in found.Scalars("lr")]

    directory = train.run(config(name="one", lr=0.001, log_every=1))
    first = shown(directory)
    train.run(config(name="one", lr=0.002, log_every=1))
    second = shown(directory)
    assert [step for step, _ in second] == [step for step, _ in first]  # no step twice
    assert [lr for _, lr in second] == pytest.approx([2 * lr for _, lr in first], abs=2e-6)


def test_a_finished_run_is_left_alone_and_recipes_share_the_views(config: Make, monkeypatch: Any) -> None:
    directory = train.run(config())
    before = (directory / "run.json").read_bytes()
    train.run(config())
    assert (directory / "run.json").read_bytes() == before
    from ndec_builder.training import view_cache

    monkeypatch.setattr(view_cache, "trunk_features", lambda *_: pytest.fail("a view was described twice"))
    train.run(config(recipe="baseline"))
    train.run(config(seed=3, name="seed-3"))


def test_a_retraining_that_is_stopped_leaves_no_checkpoint_of_other_settings(
    config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = train.run(config())
    first = (directory / "checkpoint.safetensors").read_bytes()

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(train, "train_heads", stop)
        with pytest.raises(KeyboardInterrupt):
            train.run(config(seed=5))
    with pytest.raises(NdecError, match=r"a later training in .* is not finished: run it again, or give .*previous"):
        load_detector(directory)
    assert not (directory / "run.json").exists()
    assert (directory / "previous" / "checkpoint.safetensors").read_bytes() == first
    assert load_detector(directory / "previous").recipe == "asl"
    train.run(config(seed=5))
    assert load_detector(directory) is not None


@pytest.mark.parametrize("killed_before", ["run.json", "checkpoint.json", "checkpoint.safetensors"])
def test_a_kill_while_the_earlier_checkpoint_is_moved_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    """Real files, and a move that stops at each of its renames; the second call completes it."""
    files = {"run.json": b"{}", "checkpoint.safetensors": b"weights"}
    files["checkpoint.json"] = json.dumps({"weights_sha256": hashlib.sha256(b"weights").hexdigest()}).encode()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    replace = Path.replace

    def stop(path: Path, target: Path) -> Path:
        if path.name == killed_before:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(Path, "replace", stop)
        set_checkpoint_aside(tmp_path)
    assert set_checkpoint_aside(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "previous").iterdir()} == files
    assert not set_checkpoint_aside(tmp_path)


def test_weights_that_a_killed_training_left_are_no_earlier_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"written just before the kill")
    assert not set_checkpoint_aside(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9, "class_sample": 9, "flat": 3},
        {"whole_network": True, "identities": 3, "trunk_lr": 0.01, "ema": 0.5},
        {"keep_copies": 0.9, "recipe": "asl-code"},  # killed while two heads are trained side by side
    ],
)
def test_killed_for_real_and_resumed(config: Make, tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = results(train.run(config(name="whole", **changes)))
    values = vars(config(name="killed", **changes))
    values = {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}
    heads = 2 if "keep_copies" in changes else 1
    script = (
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "from ndec_builder.training import loop, train\n"
        "from ndec_builder.training.settings import TrainConfig\n"
        "values = json.loads(sys.argv[1])\n"
        "values |= {n: Path(values[n]) for n in ('workspace', 'manifest')}\n"
        f"real, left = loop.step_terms, [{8 * heads}]\n"
        "def step_terms(*a):\n"
        "    left[0] -= 1\n"
        "    if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*a)\n"
        "loop.step_terms = step_terms\n"
        "train.run(TrainConfig(**values))\n"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(values)], env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "runs" / "killed" / "checkpoint.json").exists()
    assert any((tmp_path / "runs" / "killed" / where / "state.safetensors").exists() for where in (".", "held-out"))
    assert results(train.run(config(name="killed", **changes))) == whole


def test_whole_network_training(config: Make, tiny: str) -> None:
    settings = {"whole_network": True, "steps": 3, "identities": 3, "save_every": 1, "trunk_lr": 0.01}
    directory = train.run(config(**settings))
    detector = load_detector(directory)
    fresh = load_backbone(tiny)
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert detector.whole_network and not torch.allclose(detector.backbone(image), fresh(image))
        again = load_detector(directory / "checkpoint.safetensors")
        assert torch.equal(again.head(again.backbone(image)), detector.head(detector.backbone(image)))
    assert results(train.run(config(**settings, name="again"))) == results(directory)


def test_whole_network_training_of_the_default_backbone(config: Make) -> None:
    directory = train.run(
        config(
            backbone="efficientnet-lite0", whole_network=True, recipe="asl-crop", steps=4, identities=2, warmup=1,
            views_per_identity=2, trunk_lr=0.001, lr=0.01,
        )
    )  # fmt: skip
    detector, plain = load_detector(directory), load_backbone("efficientnet-lite0")
    state, before = detector.backbone.trunk.state_dict(), plain.trunk.state_dict()
    moved = [name for name in state if not torch.equal(state[name], before[name])]
    assert moved and not any("running" in name for name in moved)  # batch statistics stay as they came
    assert detector.head.shape == {"dim_in": 1280, "dim": 8, "hidden": 256}


@pytest.mark.parametrize("recipe", ["asl-positive", "asl-negative"])
def test_a_recipe_of_pairs_without_pairs(tables: Any, write_manifest: Any, config: Make, recipe: str) -> None:
    settings = config(recipe=recipe)
    with pytest.raises(NdecError, match="pairs = 0 draws no pairs"):
        train.run(config(recipe=recipe, pairs=0))
    write_manifest({**tables, "train_pairs": [], "train_pair_images": []})
    with pytest.raises(NdecError, match="no train_pairs; mine, annotate and export"):
        train.run(settings)


def test_asl_without_pairs_learns_from_crops(tables: Any, write_manifest: Any, config: Make, capsys: Any) -> None:
    settings = config()
    write_manifest({**tables, "train_pairs": [], "train_pair_images": []})
    card = json.loads((train.run(settings) / "checkpoint.json").read_text())
    assert card["counts"]["pairs"] == 0
    assert "learns norms from crops only" in " ".join(capsys.readouterr().err.split())


def test_overlap_with_the_test_side_is_refused(tables: Any, write_manifest: Any, config: Make) -> None:
    settings = config()
    tables["train_basic"][0]["group"] = tables["references"][0]["group"]
    write_manifest(tables)
    with pytest.raises(NdecError, match="training on queries or references is forbidden"):
        train.run(settings)


def test_bad_images_are_left_out_and_too_many_stop(tmp_path: Path, config: Make) -> None:
    (tmp_path / "files" / "b05.png").write_bytes(b"not a picture")
    with pytest.raises(GapsError, match=r"1 of 18 training images cannot be read, more than max_reject_share = 0.05"):
        train.run(config())
    directory = train.run(config(max_reject_share=0.2))
    assert read_table(directory / "rejects.parquet")["image_id"].to_pylist() == ["b05"]
    card = json.loads((directory / "checkpoint.json").read_text())
    assert (card["counts"]["images"], card["counts"]["rejects"]) == (17, 1)
    (tmp_path / "files" / "b05.png").unlink()
    detector = load_detector(train.run(config(max_reject_share=0.2)))
    assert len(detector.train_sha256) == 17  # the cached views are still there


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"views": 1}, "views is 1; it must be at least 2"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"keep_copies": 1.0}, "keep_copies is 1.0; it must be at least 0 and below 1"),
        ({"recipe": "asl-crops"}, "did you mean 'asl-crop'"),
        ({"device": "tpu"}, "device is 'tpu'; it must be auto, cpu or cuda"),
    ],
)
def test_senseless_settings(config: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train.run(config(**changes))


def test_a_missing_manifest(config: Make, tmp_path: Path) -> None:
    settings = TrainConfig(tmp_path, tmp_path / "nowhere")
    with pytest.raises(NdecError, match="nowhere does not exist"):
        train.run(settings)


def test_the_step_of_the_gpu_benchmark_trains_the_whole_network(
    tiny: str, tables: dict[str, list[dict[str, Any]]], write_manifest: Callable[..., Path]
) -> None:
    given = argparse.Namespace(images=None, manifest=write_manifest(tables))
    (row,) = gpu.train(0.0, given, "cpu", tiny, identities=3, steps=(1, 2))
    assert row.what == "train-asl --whole-network" and " steps/s of " in row.rate and row.seconds > 0


def test_products_are_fast_only_inside_and_only_where_allowed() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError, match="stopped"), train.fast_products(True):
        assert torch.get_float32_matmul_precision() == "medium"
        raise RuntimeError("stopped")
    assert torch.get_float32_matmul_precision() == before
    with train.fast_products(False):
        assert torch.get_float32_matmul_precision() == before
