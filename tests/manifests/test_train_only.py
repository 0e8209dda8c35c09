"""A dataset of the training tables alone: `ndec export --train-only`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.training.data import read_images
from support.decided_world import World

TRAIN = ("train_basic", "train_pairs", "train_pair_images")


@pytest.mark.slow
def test_the_training_tables_are_those_of_the_complete_dataset(world: World) -> None:
    complete = open_manifest(run(ExportConfig(world.workspace.root)))
    alone = open_manifest(run(ExportConfig(world.workspace.root, name="train", train_only=True)))
    for table in TRAIN:
        assert alone.stored(table).equals(complete.stored(table)) and alone.stored(table).num_rows
    for table in ("queries", "references", "ground_truth"):
        assert alone.stored(table).num_rows == 0
    assert list(alone.info["lineage"]) == ["train"]


def test_images_of_an_undecided_test_stay_out(world: World) -> None:
    """A pool image that was mined for the test may become a query later."""
    pool = world.workspace.read_images("pool").to_pylist()
    group = next(row["group"] for row in pool if row["image_id"] == "p-open")
    world.images("basic", {"b1": (90, "bb"), "b2": (91, None), "b-open": (93, group)})
    (world.workspace.annotation("test") / "decisions.parquet").unlink()
    alone = open_manifest(run(ExportConfig(world.workspace.root, train_only=True)))
    assert alone.stored("train_basic")["image_id"].to_pylist() == ["b1", "b2"]
    assert alone.info["dropped"]["train_basic"] == {"group_of_a_test_image": 1}


def test_no_query_is_an_error_in_any_other_dataset(world: World) -> None:
    from support.damage import rehash

    directory = run(ExportConfig(world.workspace.root, train_only=True))
    assert not [finding for finding in validate(directory) if finding.is_error]
    path = directory / "manifest.json"
    info = json.loads(path.read_text())
    del info["settings"]["train_only"]
    path.write_text(json.dumps(info))
    rehash(directory)
    assert "M207" in {finding.code for finding in validate(directory)}


def test_the_card_says_so_and_datasets_loads_it(world: World, tmp_path: Path) -> None:
    import datasets

    directory = run(ExportConfig(world.workspace.root, train_only=True))
    text = (directory / "README.md").read_text()
    assert "It has no test set." in text and "| queries | count |" not in text
    assert 'load_dataset("PATH", "train_pairs")' in text
    default = datasets.load_dataset(str(directory), cache_dir=str(tmp_path / "cache"))
    assert default["train"].column_names[0] == "image_id"


def test_benchmark_says_that_there_is_nothing_to_evaluate(world: World) -> None:
    directory = run(ExportConfig(world.workspace.root, train_only=True))
    with pytest.raises(NdecError, match="no test set"):
        from_manifest(directory)


@pytest.mark.parametrize("more", [{"distractors": 3}, {"preset": "ndec"}, {"hard_queries": Path("x")}])
def test_options_of_the_test_set_are_refused(world: World, more: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--train-only leaves out the test set"):
        run(ExportConfig(world.workspace.root, train_only=True, **more))  # type: ignore[arg-type]


def test_without_training_images_there_is_nothing_to_export(world: World) -> None:
    world.workspace.images("basic").unlink()
    with pytest.raises(NdecError, match="no training image to export"):
        run(ExportConfig(world.workspace.root, train_only=True))


def test_training_reads_it(world: World) -> None:
    manifest = open_manifest(run(ExportConfig(world.workspace.root, train_only=True)))
    expected = {
        name for table in ("train_basic", "train_pair_images") for name in manifest.stored(table)[0].to_pylist()
    }
    assert set(read_images(manifest)["image_id"].to_pylist()) == expected
