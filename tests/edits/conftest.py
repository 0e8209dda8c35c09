"""Settings to make copies of six references."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.edits.settings import EditConfig
from support.edit_bench import ingest
from support.pictures import write_scenes


@pytest.fixture
def config(tmp_path: Path) -> EditConfig:
    ingest(tmp_path, "reference", write_scenes(tmp_path / "in", 6))
    return EditConfig(workspace=tmp_path, count=8, seed=3)
