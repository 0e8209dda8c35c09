"""The rotation from the metadata is part of a dataset: without it, a rotated twin looks like an edit."""

from __future__ import annotations

from ndec_builder.core.schemas import IMAGES, MANIFEST_TABLES, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.training.data import read_images
from support.decided_world import World


def turned(world: World, role: str, image_id: str) -> None:
    rows = world.workspace.read_images(role).to_pylist()
    next(row for row in rows if row["image_id"] == image_id)["rotation"] = 270
    write_table(world.workspace.images(role), table_of(IMAGES, rows))


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


def test_a_dataset_without_the_column_is_read(world: World) -> None:
    directory = run(ExportConfig(world.workspace.root))
    path = directory / "data" / "references" / "test-00000-of-00001.parquet"
    write_table(path, read_table(path).drop_columns(["rotation"]))
    table = open_manifest(directory).table("references")
    assert table.schema.equals(MANIFEST_TABLES["references"][1]) and table["rotation"].null_count == 3
