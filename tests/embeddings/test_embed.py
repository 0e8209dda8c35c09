"""`ndec embed`: same bytes for any workers, resume, rejects, another model in the same folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ndec_builder.cli.assist.status import survey
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.plan import Shard, plans_folder
from ndec_builder.core.executor.progress import read_progress
from ndec_builder.core.locks import locked
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings import embed
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.embed import run
from ndec_builder.embeddings.extract import extract
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.stored_vectors import read_embeddings
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.embeddings.workspace_whitening import fit_whitening
from support.embed_runs import count_work, results
from support.pictures import write_scenes

pytestmark = pytest.mark.slow

Ingest = Callable[[Path, str, list[Path]], None]


def test_vectors_are_whitened_normalised_features(config: EmbedConfig, workspace: Workspace) -> None:
    directory = run(config)
    assert directory == workspace.embeddings("reference", config.model)
    images = workspace.read_images("reference")
    features = extract(load_backbone(config.model), images, workspace.resolve, batch_size=4).features
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)  # another route than the code's eigenvectors
    variances = values**2 / 19
    kept = variances > variances[0] * 1e-10
    expected = left[:, kept] * np.sqrt(19) * np.sqrt(variances / (0.9 * variances + 0.1 * variances.sum() / 12))[kept]
    stored = read_embeddings(directory)
    assert stored.ids == images["image_id"].to_pylist()
    assert stored.norms == pytest.approx(np.linalg.norm(expected, axis=1), rel=1e-3)
    gram = expected @ expected.T / np.outer(stored.norms, stored.norms)
    assert stored.vectors.astype(float) @ stored.vectors.astype(float).T == pytest.approx(gram, abs=5e-3)
    info = read_json(directory / "run.json")
    assert (info["layer"], info["dim"], info["parts"]) == ("whitened", stored.vectors.shape[1], 1)
    assert info["counts"] == {"images": 20, "embedded": 20, "rejected": 0} and len(info["weights"]) == 1


def test_same_files_for_any_workers_and_shard_size(config: EmbedConfig) -> None:
    directory = run(config)
    one = results(directory)
    assert set(one) == {"part-00000.npy", "part-00000.parquet", "rejects.parquet"}
    for workers, size in ((2, 6), (1, 1), (1, 100)):
        (directory / "run.json").unlink()
        assert results(run(replace(config, workers=workers, shard_size=size))) == one, (workers, size)


def test_finished_run_loads_no_model(config: EmbedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results(run(config))
    monkeypatch.setitem(sys.modules, "ndec_builder.embeddings.extract", None)  # importing it would fail
    monkeypatch.setitem(sys.modules, "ndec_builder.embeddings.backbones", None)
    assert results(run(config)) == before


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let an error that a person must fix stop the run at shard `count`."""
    work = embed.EmbedShard.__call__

    def failing(self: embed.EmbedShard, shard: Shard) -> object:
        if shard.index == count:
            raise NdecError("stopped by the test")
        return work(self, shard)

    monkeypatch.setattr(embed.EmbedShard, "__call__", failing)


def test_a_stopped_run_goes_on_at_the_unfinished_shards(
    config: EmbedConfig, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = run(config)
    before = results(directory)
    (directory / "run.json").unlink()
    with monkeypatch.context() as patch, pytest.raises(NdecError, match="stopped by the test"):
        stop_after(patch, 2)
        run(config)
    progress = read_progress(directory)
    assert progress is not None and not progress.running
    assert (progress.shards_done, progress.shards_left, progress.items_done, progress.items) == (2, 1, 16, 20)
    (stage,) = [stage for stage in survey(workspace.root) if stage.name == "embeddings reference tiny"]
    assert not stage.done and "stopped; 2 shards done, 0 failed, 1 left" in stage.text
    done = count_work(monkeypatch)
    assert results(run(config)) == before and done == [2]
    assert not plans_folder(directory).exists() and read_progress(directory) is None


def test_going_back_to_a_shard_size_goes_on_with_its_shards(
    config: EmbedConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for size, last in ((6, 2), (12, 1)):
        with monkeypatch.context() as patch, pytest.raises(NdecError, match="stopped by the test"):
            stop_after(patch, last)
            run(replace(config, shard_size=size))
    assert "2 shards of 8 are already done; --shard-size 8 would resume from them" in capsys.readouterr().err
    done = count_work(monkeypatch)
    run(config)
    assert done == [2]


def test_an_ingest_in_mid_run_changes_nothing(
    config: EmbedConfig, workspace: Workspace, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results(run(config))
    (workspace.embeddings("reference", config.model) / "run.json").unlink()
    work = embed.EmbedShard.__call__

    def ingesting(self: embed.EmbedShard, shard: Shard) -> object:
        if shard.index == 1:
            ingest(workspace.root, "reference", write_scenes(workspace.root / "more", 20, first_seed=500))
        return work(self, shard)

    monkeypatch.setattr(embed.EmbedShard, "__call__", ingesting)
    assert results(run(config)) == before


def test_a_whitening_fitted_in_mid_run_changes_nothing(config: EmbedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results(run(config))
    (run(config) / "run.json").unlink()
    work = embed.EmbedShard.__call__

    def fitting(self: embed.EmbedShard, shard: Shard) -> object:
        if shard.index == 1:  # as `ndec embed` of another role with other settings does
            fit_whitening(replace(config, shrinkage=0.9))
        return work(self, shard)

    monkeypatch.setattr(embed.EmbedShard, "__call__", fitting)
    assert results(run(config)) == before


def test_a_shard_damaged_on_disk_is_found_and_made_anew(config: EmbedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = run(config)
    before = results(directory)
    (directory / "run.json").unlink()
    with monkeypatch.context() as patch, pytest.raises(NdecError, match="stopped by the test"):
        stop_after(patch, 2)
        run(config)
    (vectors,) = plans_folder(directory).glob("*/shard-00001.npy")
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"x")
    with pytest.raises(NdecError, match=r"shard-00001\.npy has changed since it was written"):
        run(config)
    done = count_work(monkeypatch)
    assert results(run(config)) == before and done == [1]


def test_a_second_command_on_the_same_role_is_told_so(config: EmbedConfig, workspace: Workspace) -> None:
    with locked(workspace.embeddings("reference", config.model)), pytest.raises(NdecError, match=r"is writing .*tiny"):
        run(config)


def test_another_model_or_other_images_are_done_again(
    config: EmbedConfig, workspace: Workspace, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = count_work(monkeypatch)
    run(config)
    done.clear()
    ingest(workspace.root, "reference", write_scenes(workspace.root / "in", 20, first_seed=100))
    directory = run(config)
    assert done == [0, 1, 2]
    assert read_embeddings(directory).ids[0] == "scene-0100"
    run(replace(config, batch_size=5))
    assert done == [0, 1, 2, 0, 1]


def test_the_whitening_is_fitted_once_on_basic(config: EmbedConfig, workspace: Workspace, ingest: Ingest) -> None:
    ingest(workspace.root, "basic", write_scenes(workspace.root / "basic", 15, first_seed=200))
    reference = read_embeddings(run(config))
    path = workspace.whitening(config.model) / "whitening.npz"
    fitted = path.read_bytes()
    basic = extract(load_backbone(config.model), workspace.read_images("basic"), workspace.resolve, batch_size=4)
    assert Whitening.fit(basic.features, 256, 0.1).fingerprint == Whitening.load(path).fingerprint
    assert read_json(path.with_name("run.json"))["role"] == "basic"
    ingest(workspace.root, "basic", write_scenes(workspace.root / "basic", 9, first_seed=300))
    other = read_embeddings(run(replace(config, role="basic")))
    assert path.read_bytes() == fitted and other.space == reference.space
    assert read_embeddings(run(replace(config, role="basic", dim=3))).space != reference.space


def test_without_whitening(config: EmbedConfig, workspace: Workspace) -> None:
    directory = run(replace(config, whiten=False))
    stored = read_embeddings(directory)
    features = extract(load_backbone(config.model), workspace.read_images("reference"), workspace.resolve, batch_size=4)
    assert stored.norms == pytest.approx(np.linalg.norm(features.features, axis=1), rel=1e-6)
    assert read_json(directory / "run.json")["layer"] == "pooled" and stored.vectors.shape == (20, 12)
    assert not workspace.whitening(config.model).exists()


def test_default_model(workspace: Workspace) -> None:
    stored = read_embeddings(run(EmbedConfig(workspace.root, "reference", whitening_images=8, batch_size=8)))
    assert stored.vectors.shape == (20, 256)  # the whitening that comes with the model: 20 images are too few
