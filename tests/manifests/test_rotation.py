"""The rotation from the metadata is part of a dataset: without it, a rotated twin looks like an edit."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ndec_builder.core.errors import GapsError
from ndec_builder.core.schemas import IMAGES, MANIFEST_TABLES, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.manifests.export import run
from ndec_builder.manifests.export_release import run as release
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig, ReleaseConfig
from ndec_builder.training.data import read_images
from support.decided_world import World


def turned(world: World, role: str, image_id: str) -> None:
    rows = world.workspace.read_images(role).to_pylist()
    next(row for row in rows if row["image_id"] == image_id)["rotation"] = 270
    write_table(world.workspace.images(role), table_of(IMAGES, rows))


@pytest.mark.slow
def test_training_and_evaluation_see_it(world: World) -> None:
    for role, name in (("reference", "r2"), ("pool", "p-hard"), ("basic", "b1"), ("pool", "t-good")):
        turned(world, role, name)
    directory = run(ExportConfig(world.workspace.root))
    dataset = from_manifest(directory)
    images = read_images(open_manifest(directory))
    rotations = {
        row["image_id"]: row["rotation"]
        for table in (dataset.queries, dataset.references, images)
        for row in table.to_pylist()
    }
    assert {name for name, degrees in rotations.items() if degrees == 270} == {"r2", "p-hard", "b1", "t-good"}
    packed = open_manifest(run(ExportConfig(world.workspace.root, name="packed", materialize="tar")))
    assert set(packed.table("references")["rotation"].to_pylist()) == {0}


@pytest.mark.slow
def test_the_release_layout_names_images_that_it_cannot_rotate(world: World, tmp_path: Path) -> None:
    for role, name in (("pool", "p-hard"), ("basic", "b1")):
        turned(world, role, name)
    directory = run(ExportConfig(world.workspace.root))
    with pytest.raises(GapsError, match=r"2 images are rotated by the dataset, 'negative_pair/0000\d/b1' first"):
        release(ReleaseConfig(directory, tmp_path / "release"))
    assert (tmp_path / "release" / "public_ground_truth_h5.csv").is_file()
    packed = run(ExportConfig(world.workspace.root, name="packed", materialize="folder"))
    upright = release(ReleaseConfig(packed, tmp_path / "upright"))
    with Image.open(upright / "query_images_h5" / "p-hard.png") as picture:
        assert picture.size == (32, 48)  # 48 × 32 before


def test_a_dataset_without_the_column_is_read(world: World) -> None:
    directory = run(ExportConfig(world.workspace.root))
    path = directory / "data" / "references" / "test-00000-of-00001.parquet"
    write_table(path, read_table(path).drop_columns(["rotation"]))
    table = open_manifest(directory).table("references")
    assert table.schema.equals(MANIFEST_TABLES["references"][1]) and table["rotation"].null_count == 3
