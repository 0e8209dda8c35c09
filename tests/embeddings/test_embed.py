"""`ndec embed`: same bytes for any workers, resume, rejects, another model in the same folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.shards import Shard
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings import embed
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.embed import run
from ndec_builder.embeddings.extract import extract
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.store import read_embeddings
from ndec_builder.embeddings.whitening import Whitening
from pictures import write_scenes

Ingest = Callable[[Path, str, list[Path]], None]


@pytest.fixture
def config(workspace: Workspace, tiny_file: Path) -> EmbedConfig:
    return EmbedConfig(workspace.root, "reference", model=f"{tiny_file}@64", shard_size=6, batch_size=4)


def results(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "run.json"}


def count_work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record which shards are worked on."""
    done: list[int] = []
    work = embed.EmbedShard.__call__

    def counted(self: embed.EmbedShard, shard: Shard) -> object:
        done.append(shard.index)
        return work(self, shard)

    monkeypatch.setattr(embed.EmbedShard, "__call__", counted)
    return done


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
    assert (info["layer"], info["dim"], info["parts"]) == ("whitened", stored.vectors.shape[1], 4)
    assert info["counts"] == {"images": 20, "embedded": 20, "rejected": 0} and len(info["weights"]) == 1


def test_same_bytes_for_one_and_two_workers(config: EmbedConfig, tmp_path: Path) -> None:
    directory = run(config)
    one = results(directory)
    for path in directory.iterdir():
        path.unlink()
    assert results(run(replace(config, workers=2, threads=1))) == one


def test_finished_run_loads_no_model(config: EmbedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results(run(config))
    monkeypatch.setitem(sys.modules, "ndec_builder.embeddings.extract", None)  # importing it would fail
    monkeypatch.setitem(sys.modules, "ndec_builder.embeddings.backbones", None)
    assert results(run(config)) == before


def test_only_the_unfinished_shard_is_done_again(config: EmbedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = run(config)
    before = results(directory)
    done = count_work(monkeypatch)
    (directory / "part-00002.done.json").unlink()  # as a kill before the marker leaves it
    (directory / "part-00002.npy").unlink()
    (directory / "run.json").unlink()
    assert results(run(config)) == before and done == [2]


def test_another_model_or_other_images_are_done_again(
    config: EmbedConfig, workspace: Workspace, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = count_work(monkeypatch)
    directory = run(config)
    run(replace(config, shard_size=4))
    assert len(list(directory.glob("part-*.npy"))) == 5
    run(config)  # four shards of six: what five shards left behind is gone
    assert len(list(directory.glob("part-*.npy"))) == 4 and len(list(directory.glob("rejects-*"))) == 4
    done.clear()
    ingest(workspace.root, "reference", write_scenes(workspace.root / "in", 20, first_seed=100))
    run(config)
    assert done == [0, 1, 2, 3]
    assert read_embeddings(directory).ids[0] == "scene-0100"


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
    assert stored.vectors.shape == (20, 7)  # eight images for the whitening leave seven dimensions


def test_rejects_and_the_limit(config: EmbedConfig, workspace: Workspace) -> None:
    (workspace.root / "in" / "scene-0003.png").write_bytes(b"no picture")
    (workspace.root / "in" / "scene-0017.png").write_bytes(b"")
    with pytest.raises(GapsError, match=r"2 of 20 reference images.*0\.05 allows: 1× .*rejects\.parquet") as caught:
        run(config)
    assert caught.value.exit_code == 3
    directory = workspace.embeddings("reference", config.model)
    assert read_table(directory / "rejects.parquet")["image_id"].to_pylist() == ["scene-0003", "scene-0017"]
    assert len(read_embeddings(directory).ids) == 18
    with pytest.raises(GapsError):  # the gap does not vanish in a second run
        run(config)
    assert run(replace(config, max_reject_share=0.1)) == directory


def test_all_images_unusable(config: EmbedConfig, workspace: Workspace) -> None:
    for path in (workspace.root / "in").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(NdecError, match="cannot be fitted on 0 images"):
        run(config)
    with pytest.raises(GapsError, match="20 of 20 reference images"):
        run(replace(config, whiten=False))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"role": "pool"}, NdecError, "no pool images.*ndec ingest pool"),
        ({"role": "refs"}, UsageError, "role 'refs' is unknown"),
        ({"model": "resnet"}, UsageError, "model 'resnet' is unknown"),
        ({"batch_size": 0}, UsageError, "batch_size is 0"),
        ({"device": "tpu"}, UsageError, "device 'tpu'"),
    ],
)
def test_bad_settings(config: EmbedConfig, change: dict, error: type[NdecError], message: str) -> None:
    with pytest.raises(error, match=message):
        run(replace(config, **change))


def test_no_images_and_a_single_one(config: EmbedConfig, workspace: Workspace, ingest: Ingest) -> None:
    ingest(workspace.root, "reference", [])
    with pytest.raises(NdecError, match="there are no reference images"):
        run(config)
    ingest(workspace.root, "reference", write_scenes(workspace.root / "in", 1))
    with pytest.raises(NdecError, match="whitening needs at least 2 images"):
        run(config)
    assert len(read_embeddings(run(replace(config, whiten=False))).ids) == 1
