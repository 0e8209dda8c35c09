"""The dataset as other people's libraries see it."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from ndec_builder.core.schemas import MANIFEST_TABLES
from ndec_builder.manifests.csv_tables import guarded, guarded_text
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.manifests.writing.croissant import _record_set


@pytest.fixture
def directory(world):
    return run(ExportConfig(world.workspace.root, distractors=2))


@pytest.mark.slow
def test_loads_with_datasets(directory, tmp_path):
    import datasets

    manifest = open_manifest(directory)
    for name, (split, schema) in MANIFEST_TABLES.items():
        loaded = datasets.load_dataset(str(directory), name, cache_dir=str(tmp_path / "cache"))
        assert list(loaded) == [split]
        assert loaded[split].column_names == schema.names
        assert loaded[split].to_list() == manifest.table(name).to_pylist()
    default = datasets.load_dataset(str(directory), cache_dir=str(tmp_path / "cache"))
    assert default["test"].column_names[0] == "query_id"


def test_empty_tables_are_no_configs(world):
    import datasets

    for path in (*world.workspace.candidates("train").iterdir(), *world.workspace.annotation("train").iterdir()):
        path.unlink()
    directory = run(ExportConfig(world.workspace.root))
    names = datasets.get_dataset_config_names(str(directory))
    assert names == [
        "queries",
        "references",
        "ground_truth",
        "train_basic",
    ]  # `datasets` cannot load a split of no rows
    assert open_manifest(directory).table("train_pairs").num_rows == 0
    assert not [finding for finding in validate(directory) if finding.severity == "error"]


@pytest.mark.slow
def test_croissant_is_valid_and_reads_the_records(directory):
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(directory / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert "1.1" in dataset.metadata.ctx.conforms_to.value
    records = list(dataset.records("queries"))
    assert {record["queries/query_id"].decode() for record in records} == set(
        open_manifest(directory).table("queries")["query_id"].to_pylist()
    )
    described = json.loads((directory / "croissant.json").read_text())
    assert len(described["distribution"]) == len(MANIFEST_TABLES) + 2


def test_card_escapes_outside_text(world):
    world.decide("test", {("p-hard", "r1"): "hard_negative"}, annotator="<b>|x")
    text = (run(ExportConfig(world.workspace.root)) / "README.md").read_text()
    assert "<b>" not in text and "&lt;b&gt;\\|x" in text


@pytest.mark.parametrize(
    ("cell", "text"),
    [("=1+1", "'=1+1"), ("@x", "'@x"), ("-1", "'-1"), ("\tx", "'\tx"), ("a=1", "a=1"), (None, ""), ("", "")],
)
def test_guarded(cell, text):
    assert guarded(pa.array([cell], pa.string())).to_pylist() == [text]
    assert guarded_text(cell or "") == text


def _nothing(world):
    """Everything is there."""


def _test_only(world):
    world.workspace.images("basic").unlink()
    _no_pairs(world)


def _no_pairs(world):
    for path in (*world.workspace.candidates("train").iterdir(), *world.workspace.annotation("train").iterdir()):
        path.unlink()


def _one_query(world):
    world.images("query", {"mine": (3, None)})
    world.truth(("mine", "r3"))
    world.edits()
    world.pairs("test", {("p-far", "r3"): "unrelated"})
    (world.workspace.candidates("test") / "recheck.parquet").unlink()
    world.decide("test", {("p-far", "r3"): "unrelated"})


def _train_alone(world):
    """Neither references nor a mined test."""
    world.workspace.images("reference").unlink()
    for folder in (world.workspace.candidates("test"), world.workspace.annotation("test")):
        for path in folder.iterdir():
            path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (_nothing, {"train_only": True}),
        (_train_alone, {"train_only": True, "materialize": "tar"}),
        (_nothing, {"distractors": 2}),
        (_nothing, {}),
        (_test_only, {}),
        (_no_pairs, {}),
        (_one_query, {}),
        (_nothing, {"attribution_only": True}),
        (_test_only, {"materialize": "tar"}),
    ],
    ids=[
        "train only",
        "train only, packed",
        "whole",
        "no distractors",
        "test only",
        "no pairs",
        "one query",
        "attribution only",
        "test only, packed",
    ],
)
def test_every_record_set_of_every_shape_can_be_read(world, shape, options):
    import mlcroissant

    shape(world)
    directory = run(ExportConfig(world.workspace.root, **options))
    manifest = open_manifest(directory)
    dataset = mlcroissant.Dataset(jsonld=str(directory / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    tables = {name: manifest.stored(name) for name in MANIFEST_TABLES}
    assert {entry.id for entry in dataset.metadata.record_sets} == {n for n, table in tables.items() if table.num_rows}
    for entry in dataset.metadata.record_sets:
        key = f"{entry.id}/{tables[entry.id].column_names[0]}"
        found = [record[key].decode() for record in dataset.records(entry.id)]
        assert sorted(found) == tables[entry.id].column(0).to_pylist(), entry.id
    assert not [finding for finding in validate(directory) if finding.severity == "error"]


def test_a_dataset_of_the_first_version_stays_valid(world):
    """It described tables without rows in croissant.json, and its card had other words."""
    from support.damage import rehash

    _no_pairs(world)
    directory = run(ExportConfig(world.workspace.root))
    described = json.loads((directory / "croissant.json").read_text())
    empty = [_record_set(name, *MANIFEST_TABLES[name]) for name in ("train_pairs", "train_pair_images")]
    (directory / "croissant.json").write_text(json.dumps(described | {"recordSet": described["recordSet"] + empty}))
    card = (directory / "README.md").read_text()
    (directory / "README.md").write_text(card.replace("originals that the queries are searched in", "the originals"))
    rehash(directory)
    assert not [finding for finding in validate(directory) if finding.severity == "error"]
