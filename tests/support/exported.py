"""Exports a decided world and reads the tables of the dataset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ndec_builder.core.schemas import MANIFEST_TABLES
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig
from support.decided_world import World


def export(world: World, **options: Any) -> Path:
    """A fresh export: a version is written once."""
    shutil.rmtree(world.workspace.root / "manifests", ignore_errors=True)
    return run(ExportConfig(world.workspace.root, **options))


def table(directory: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table of a dataset; its schema is the one that is documented."""
    split, schema = MANIFEST_TABLES[name]
    found = pq.read_table(directory / "data" / name / f"{split}-00000-of-00001.parquet")
    assert found.schema.equals(schema)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows
