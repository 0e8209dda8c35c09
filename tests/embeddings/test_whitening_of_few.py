"""A whitening needs enough images: with few, unrelated pictures score close to 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings import workspace_whitening
from ndec_builder.embeddings.embed import run
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.stored_vectors import read_embeddings
from support.pictures import write_scenes

Ingest = Callable[[Path, str, list[Path]], None]


@pytest.fixture(autouse=True)
def real_limit(monkeypatch: pytest.MonkeyPatch, whitening_of_few_images: None) -> None:
    monkeypatch.setattr(workspace_whitening, "LEAST_IMAGES", 50)


def layer(tmp_path: Path, tiny_file: Path, role: str) -> str:
    return str(read_json(run(EmbedConfig(tmp_path, role, model=f"{tiny_file}@64")) / "run.json")["layer"])


def test_three_images_are_not_whitened_and_a_warning_says_so(
    tmp_path: Path, ingest: Ingest, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(tmp_path, "reference", write_scenes(tmp_path / "in", 3))
    assert layer(tmp_path, tiny_file, "reference") == "pooled"
    assert "not whitened, because no role of this workspace has 50 images" in " ".join(capsys.readouterr().err.split())
    directory = Workspace(tmp_path).embeddings("reference", f"{tiny_file}@64")
    assert read_embeddings(directory).vectors.shape == (3, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "expected"), [(49, "pooled"), (50, "whitened")])
def test_fifty_images_are_the_limit(tmp_path: Path, ingest: Ingest, tiny_file: Path, count: int, expected: str) -> None:
    ingest(tmp_path, "reference", write_scenes(tmp_path / "in", count))
    assert layer(tmp_path, tiny_file, "reference") == expected


@pytest.mark.slow
def test_the_first_role_with_enough_images_is_taken(tmp_path: Path, ingest: Ingest, tiny_file: Path) -> None:
    scenes = write_scenes(tmp_path / "in", 60)
    ingest(tmp_path, "basic", scenes[:9])
    ingest(tmp_path, "reference", scenes[9:])
    assert layer(tmp_path, tiny_file, "basic") == "whitened"
    record = read_json(Workspace(tmp_path).whitening(f"{tiny_file}@64") / "run.json")
    assert (record["role"], record["counts"]["images"]) == ("reference", 51)


@pytest.mark.slow
def test_an_older_whitening_of_few_images_stays_with_a_warning(
    tmp_path: Path, ingest: Ingest, tiny_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(tmp_path, "reference", write_scenes(tmp_path / "in", 20))
    config = EmbedConfig(tmp_path, "reference", model=f"{tiny_file}@64")
    monkeypatch.setattr(workspace_whitening, "LEAST_IMAGES", 2)
    before = np.array(read_embeddings(run(config)).vectors)
    monkeypatch.setattr(workspace_whitening, "LEAST_IMAGES", 50)
    assert np.array_equal(read_embeddings(run(config)).vectors, before)
    assert "was fitted on only 20 images, fewer than 50" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_whitening_of_few_images_in_a_workspace_that_grew_is_said(
    tmp_path: Path, ingest: Ingest, tiny_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workspace_whitening, "LEAST_IMAGES", 4)
    monkeypatch.setattr(workspace_whitening, "ENOUGH_IMAGES", 12)
    scenes = write_scenes(tmp_path / "in", 20)
    ingest(tmp_path, "pool", scenes[:6])
    assert layer(tmp_path, tiny_file, "pool") == "whitened"
    ingest(tmp_path, "reference", scenes[:11])
    assert layer(tmp_path, tiny_file, "reference") == "whitened"
    assert "note: the whitening" not in capsys.readouterr().err
    ingest(tmp_path, "basic", scenes)
    assert layer(tmp_path, tiny_file, "basic") == "whitened"
    said = " ".join(capsys.readouterr().err.split())
    assert "was fitted on 6 pool images, and the workspace has 20 basic images now" in said


@pytest.mark.slow
def test_images_that_cannot_be_read_are_said_and_too_few_others_are_refused(
    tmp_path: Path, ingest: Ingest, tiny_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workspace_whitening, "LEAST_IMAGES", 5)
    scenes = write_scenes(tmp_path / "in", 8)
    ingest(tmp_path, "basic", scenes)
    ingest(tmp_path, "reference", scenes[:1])
    away = [path.rename(path.with_suffix(".away")) for path in scenes[4:]]
    with pytest.raises(NdecError, match=r"4 basic images of 8 cannot be read .*The other 4 are too few"):
        layer(tmp_path, tiny_file, "reference")
    for path, back in zip(away[:3], scenes[4:], strict=False):
        path.rename(back)
    assert layer(tmp_path, tiny_file, "reference") == "whitened"
    assert "fitted without them: 1 basic image of 8 cannot be read" in " ".join(capsys.readouterr().err.split())
    record = read_json(Workspace(tmp_path).whitening(f"{tiny_file}@64") / "run.json")
    assert record["counts"] == {"images": 7, "rejected": 1, "dim": 6}


@pytest.mark.slow
def test_a_whitening_that_is_stopped_before_its_record_is_not_taken_for_the_one_before(
    tmp_path: Path, ingest: Ingest, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace_whitening, "LEAST_IMAGES", 5)
    ingest(tmp_path, "basic", write_scenes(tmp_path / "in", 8))
    config = EmbedConfig(tmp_path, "basic", model=f"{tiny_file}@64", dim=3)
    first = workspace_whitening.fit_whitening(config)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(workspace_whitening.RunRecord, "write", _interrupt)
        workspace_whitening.fit_whitening(replace(config, shrinkage=0.9))
    assert workspace_whitening.load_fitted_whitening(config) is None
    again = workspace_whitening.fit_whitening(config)
    assert first is not None and again is not None and again.fingerprint == first.fingerprint


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
