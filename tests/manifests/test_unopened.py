"""A dataset from images that were only listed: what it takes is opened, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ndec_builder.core.schemas import IMAGES
from ndec_builder.core.storage import read_json, write_table
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.sources.late_inspection import read_opened
from support.decided_world import World


def forget(world: World, role: str) -> None:
    """Make the table as if its images had been listed and not opened."""
    table = world.workspace.read_images(role)
    for name in ("sha256", "width", "height", "format"):
        field = IMAGES.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.nulls(len(table), field.type))
    write_table(world.workspace.images(role), table.cast(IMAGES))


def ids_of(directory: Path, table: str) -> set[str]:
    return set(open_manifest(directory).table(table)[0].to_pylist())


@pytest.mark.slow
def test_listed_images_give_the_same_dataset_as_opened_ones(world: World) -> None:
    config = ExportConfig(world.workspace.root)
    directory = run(config)
    files = {path.relative_to(directory): path.read_bytes() for path in (directory / "data").rglob("*.parquet")}
    dropped = read_json(directory / "manifest.json")["dropped"]
    for role in ("reference", "basic", "pool", "query"):
        forget(world, role)
    again = run(replace(config, name="again"))
    for path, data in files.items():
        assert (again / path).read_bytes() == data, path
    found = read_json(again / "manifest.json")["dropped"]
    # twins are known by their bytes: of listed images only when they are opened, so p-twin is left out later
    assert found["test_pool_images"].pop("same_bytes_as_another_image") == 1
    assert found == {name: reasons for name, reasons in dropped.items() if name != "pool"}
    opened = set(read_opened(world.workspace, "pool")["image_id"].to_pylist())
    pool = set(world.workspace.read_images("pool")["image_id"].to_pylist())
    taken = (ids_of(again, "queries") | ids_of(again, "train_pair_images")) & pool
    assert taken <= opened < pool  # what no table could take is not opened


@pytest.mark.slow
def test_distractors_are_opened_when_drawn_and_repeat_no_image(world: World) -> None:
    for role in ("reference", "basic", "pool", "query"):
        forget(world, role)
    directory = run(ExportConfig(world.workspace.root, distractors=9))
    info = read_json(directory / "manifest.json")
    hashes = [row["sha256"] for row in open_manifest(directory).table("queries").to_pylist()]
    assert all(hashes) and len(set(hashes)) == len(hashes)
    assert info["dropped"]["listed_images"]["distractor_of_same_bytes_as_another_image"] > 0  # the world has twins
    assert not [finding for finding in validate(directory) if finding.is_error]
    manifest = (directory / "manifest.json").read_bytes()
    shutil.rmtree(directory)
    assert (run(ExportConfig(world.workspace.root, distractors=9)) / "manifest.json").read_bytes() == manifest


def test_an_image_that_cannot_be_read_is_left_out_and_counted(world: World) -> None:
    forget(world, "pool")
    pool = world.workspace.read_images("pool")
    (uri,) = pool.filter(pc.equal(pool["image_id"], "p-hard"))["uri"].to_pylist()
    (world.workspace.root / uri).write_bytes(b"gone")
    directory = run(ExportConfig(world.workspace.root))
    assert read_json(directory / "manifest.json")["dropped"]["listed_images"] == {"unreadable_pool": 1}
    assert "p-hard" not in ids_of(directory, "queries")
