"""The whitening that comes with the default model is used when a workspace has too few images to fit one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ndec_builder.core.errors import UsageError
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings import workspace_whitening
from ndec_builder.embeddings.settings import DEFAULT_MODEL, EmbedConfig
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.embeddings.workspace_whitening import fit_whitening, load_fitted_whitening, load_shipped_whitening
from support.pictures import write_scenes

Ingest = Callable[[Path, str, list[Path]], None]
pytestmark = pytest.mark.slow


def test_the_shipped_file_belongs_to_the_default_model() -> None:
    found = load_shipped_whitening(DEFAULT_MODEL)
    assert found is not None
    whitening, card = found
    assert whitening.matrix.shape == (256, 1280) and whitening.matrix.dtype == np.float32
    assert card["images"] >= 500 and len(card["commit"]) == 40 and card["corpus"]["packages"]
    assert np.isfinite(whitening.matrix).all() and np.isfinite(whitening.mean).all()


def test_other_models_have_none(tiny_file: Path) -> None:
    assert load_shipped_whitening(f"{tiny_file}@64") is None


def test_few_images_get_the_shipped_one_and_it_is_said_and_recorded(
    tmp_path: Path, ingest: Ingest, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(tmp_path, "pool", write_scenes(tmp_path / "in", 9))
    config = EmbedConfig(tmp_path, "pool")
    used, shipped = fit_whitening(config), load_shipped_whitening(DEFAULT_MODEL)
    assert used is not None and shipped is not None and used.fingerprint == shipped[0].fingerprint
    record = read_json(Workspace(tmp_path).whitening(DEFAULT_MODEL) / "run.json")
    assert (record["source"], record["role"], record["counts"]["dim"]) == ("shipped", "demo", 256)
    assert record["card"]["commit"] == shipped[1]["commit"]
    said = " ".join(capsys.readouterr().err.split())
    assert "no role of this workspace has 500 images" in said and 'whitening = "own"' in said
    loaded = load_fitted_whitening(config)
    assert loaded is not None and loaded.fingerprint == used.fingerprint


def test_enough_images_are_fitted_on(tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_whitening, "ENOUGH_IMAGES", 6)
    ingest(tmp_path, "basic", write_scenes(tmp_path / "in", 6))
    fit_whitening(EmbedConfig(tmp_path, "basic"))
    record = read_json(Workspace(tmp_path).whitening(DEFAULT_MODEL) / "run.json")
    assert (record["source"], record["role"], record["counts"]["images"]) == ("own", "basic", 6)


def test_one_setting_fits_again_on_own_images(tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_whitening, "LEAST_IMAGES", 4)
    ingest(tmp_path, "pool", write_scenes(tmp_path / "in", 6))
    fit_whitening(EmbedConfig(tmp_path, "pool"))
    own = EmbedConfig(tmp_path, "pool", whitening="own")
    assert load_fitted_whitening(own) is None
    fitted = fit_whitening(own)
    assert fitted is not None and fitted.dim == 5  # six images
    loaded = load_fitted_whitening(EmbedConfig(tmp_path, "pool"))  # auto keeps what the workspace has
    assert loaded is not None and loaded.fingerprint == fitted.fingerprint


def test_a_whitening_of_an_earlier_version_is_kept(
    tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record names no source."""
    ingest(tmp_path, "pool", write_scenes(tmp_path / "in", 3))
    config = EmbedConfig(tmp_path, "pool")
    fit_whitening(config)
    folder = Workspace(tmp_path).whitening(DEFAULT_MODEL)
    older = Whitening.fit(np.random.default_rng(0).normal(size=(60, 1280)), 8, 0.1)
    older.save(folder / "whitening.npz")
    record = read_json(folder / "run.json")
    del record["source"], record["card"]
    (folder / "run.json").write_text(json.dumps(record))
    loaded = load_fitted_whitening(config)
    assert loaded is not None and loaded.fingerprint == older.fingerprint


def test_asking_for_a_shipped_one_that_does_not_exist(tmp_path: Path, ingest: Ingest, tiny_file: Path) -> None:
    ingest(tmp_path, "pool", write_scenes(tmp_path / "in", 3))
    with pytest.raises(UsageError, match="no whitening comes with ndec for"):
        fit_whitening(EmbedConfig(tmp_path, "pool", model=f"{tiny_file}@64", whitening="shipped"))
