"""Descriptors of several files under one name are compared with each other: are they of one model?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.embeddings.ingest_descriptors import run
from ndec_builder.embeddings.settings import DescriptorsConfig
from ndec_builder.sources.ingest import run as ingest
from ndec_builder.sources.settings import IngestConfig
from support.isc2021_file import write_isc2021
from support.pictures import write_scenes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six pool images and four references; the first three references are the same files as pool images."""
    write_scenes(tmp_path / "pool", 6)
    write_scenes(tmp_path / "reference", 4)
    last = sorted((tmp_path / "reference").iterdir())[-1]
    last.write_bytes(last.read_bytes() + b"x")
    for role in ("pool", "reference"):
        ingest(IngestConfig(tmp_path / "ws", role, tmp_path / role))
    return tmp_path


def file_of(root: Path, role: str, model: int, named: str = "theirs.h5") -> Path:
    """Descriptors of a model, a random projection of the picture's name; with a little noise."""
    names = sorted(path.stem for path in (root / role).iterdir())
    points = np.stack([np.random.default_rng(list(name.encode())).normal(size=32) for name in names])
    vectors = points @ np.random.default_rng(model).normal(size=(32, 16)) + 0.01 * len(role)
    path = root / f"{role}-{model}" / named
    path.parent.mkdir(exist_ok=True)
    write_isc2021(path, names, vectors.astype(np.float32))
    return path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_other_descriptors_of_the_same_picture_are_of_another_model(root: Path) -> None:
    """Both files are called theirs.h5, which is the name without --model."""
    run(DescriptorsConfig(root / "ws", "pool", file_of(root, "pool", 1)))
    with pytest.raises(NdecError, match=r"have one name, theirs, but are not of one model: 3 pictures of both"):
        run(DescriptorsConfig(root / "ws", "reference", file_of(root, "reference", 2)))
    assert not (root / "ws/embeddings/reference/theirs").exists()
    run(DescriptorsConfig(root / "ws", "reference", file_of(root, "reference", 2), "other"))


def test_two_files_of_one_name_are_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = file_of(root, "pool", 1)
    run(DescriptorsConfig(root / "ws", "pool", pool))
    assert "note:" not in said(capsys)
    run(DescriptorsConfig(root / "ws", "reference", file_of(root, "reference", 1)))
    text = said(capsys)
    assert f"note: pool (from {pool}) has the name theirs too" in text and "which ndec cannot check" in text
    run(DescriptorsConfig(root / "ws", "pool", pool, "other"))
    assert "note:" not in said(capsys)
