"""Small models that need no download, and workspaces of scenes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.settings import EmbedConfig
from support.pictures import write_scenes
from support.tiny_trunk import tiny_model


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript file with random weights from a seed."""
    return Path(tiny_model(tmp_path_factory.mktemp("models"), channels=12).removesuffix("@32"))


@pytest.fixture(scope="session")
def timm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state_dict of the smallest MobileNetV3 with random weights, classifier included."""
    import timm

    path = tmp_path_factory.mktemp("models") / "mobilenet.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), path)
    return path


@pytest.fixture
def ingest() -> Callable[[Path, str, list[Path]], None]:
    """Write an images table as `ndec ingest` would."""

    def write(root: Path, role: str, paths: list[Path]) -> None:
        workspace = Workspace(root)
        rows = [
            {"image_id": p.stem, "role": role, "uri": workspace.uri_of(p), "sha256": sha256_file(p), "rotation": 0}
            for p in paths
        ]
        write_table(workspace.images(role), table_of(IMAGES, rows))

    return write


@pytest.fixture
def workspace(tmp_path: Path, ingest: Callable[[Path, str, list[Path]], None]) -> Workspace:
    """A workspace with 20 reference scenes of 64 × 48 px."""
    ingest(tmp_path, "reference", write_scenes(tmp_path / "in", 20))
    return Workspace(tmp_path)


@pytest.fixture(autouse=True)
def whitening_of_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workspaces of these tests are small; `test_whitening_of_few.py` tests the real limit."""
    from ndec_builder.embeddings import workspace_whitening

    monkeypatch.setattr(workspace_whitening, "LEAST_IMAGES", 2)


@pytest.fixture
def config(workspace: Workspace, tiny_file: Path) -> EmbedConfig:
    return EmbedConfig(workspace.root, "reference", model=f"{tiny_file}@64", shard_size=6, batch_size=4)
