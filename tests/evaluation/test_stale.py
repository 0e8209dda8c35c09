"""A cached result is used again only if nothing that it depends on has changed."""

from __future__ import annotations

import copy
import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.storage import read_json, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.model_names import RESULT_VERSION
from ndec_builder.embeddings.whitening import Whitening
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.dataset import Dataset, contents_of, from_manifest
from ndec_builder.evaluation.detectors.features import embedder_from_model
from ndec_builder.evaluation.detectors.pair_geometry import pair_signals
from ndec_builder.evaluation.detectors.pooled_features import features_key, pool_features
from ndec_builder.evaluation.export_results import run as export_results
from ndec_builder.evaluation.settings import BenchmarkConfig, ResultsConfig
from ndec_builder.training.data import TrainingSet
from support.pictures import scene

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"


def images(**changes: Any) -> pa.Table:
    columns = {
        "image_id": ["a", "b", "c"],
        "uri": ["a.jpg", "b.jpg", "https://example.org/c.jpg"],
        "sha256": ["1" * 64, "2" * 64, None],
        "rotation": [0, None, 90],
        "group": ["g", None, "h"],
    }
    return pa.table({**columns, **changes})


BASE = {"trunk": "t", "preprocessing": [224, "bicubic"], "batch_size": 8, "images": images()}
CHANGES: dict[str, dict[str, Any]] = {
    "trunk": {"trunk": "u"},
    "preprocessing": {"preprocessing": [224, "bilinear"]},
    "batch size": {"batch_size": 16},
    "bytes of an image": {"images": images(sha256=["1" * 64, "3" * 64, None])},
    "address of an image that was never opened": {
        "images": images(uri=["a.jpg", "b.jpg", "https://example.org/d.jpg"])
    },
    "an image that is opened now": {"images": images(sha256=["1" * 64, "2" * 64, "4" * 64])},
    "rotation": {"images": images(rotation=[180, None, 90])},
    "rotation of another image": {"images": images(rotation=[0, None, 270])},
    "order": {"images": images().take([1, 0, 2])},
    "number of images": {"images": images().slice(0, 2)},
}


@given(st.sampled_from(sorted(CHANGES)), st.sampled_from(sorted(CHANGES)))
def test_each_input_changes_the_key_of_the_features(one: str, other: str) -> None:
    keys = [features_key(**BASE | change, resolve=str) for change in ({}, CHANGES[one], CHANGES[other])]
    assert keys[0] not in keys[1:]
    assert (keys[1] == keys[2]) == (one == other)


@pytest.mark.parametrize("change", [{"image_id": ["x", "y", "z"]}, {"group": ["other"] * 3}, {"rotation": [0, 0, 90]}])
def test_what_no_feature_depends_on_keeps_the_key(change: dict[str, Any]) -> None:
    assert features_key("t", [], 8, images(**change), str) == features_key("t", [], 8, images(), str)


def test_a_local_file_that_was_never_opened_counts_by_its_state(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    table = pa.table({"image_id": ["a"], "uri": [str(path)], "sha256": pa.array([None], pa.string())})
    before = contents_of(table, str)
    path.write_bytes(b"22")
    assert contents_of(table, str) != before


IDENTITY = {
    "image_id": ["x", "b", "c"], "sha256": ["9" * 64, "2" * 64, None], "rotation": [90, None, 90],
    "group": ["g", "h", "h"], "uri": ["a.jpg", "b.jpg", "https://example.org/d.jpg"],
}  # fmt: skip


@pytest.mark.parametrize("column", IDENTITY)
def test_the_fused_scorer_is_fitted_again_when_an_image_changes(column: str) -> None:
    def training(table: pa.Table, pairs: tuple[int, int] = (0, 1)) -> TrainingSet:
        return TrainingSet(table, 2, np.array([0, 1, 2]), np.array([pairs]), np.ones(1, bool))

    before = training(images()).identity()
    assert training(images(**{column: IDENTITY[column]})).identity() != before
    assert training(images(), (1, 0)).identity() != before


def copied(small: Any, folder: Path, rotation: int = 0) -> Path:
    """A copy of the small benchmark whose queries are recorded with this rotation; returns its manifest."""
    manifest = folder / "manifests" / f"small-{rotation}"
    shutil.copytree(small.manifest, manifest)
    for name in ("queries", "references", "basic"):
        if not (folder / name).exists():
            shutil.copytree(small.workspace / name, folder / name)
    (path,) = (manifest / "data" / "queries").glob("*.parquet")
    table = read_table(path)
    column = table.schema.get_field_index("rotation")
    values = pa.array([rotation] * len(table), table.schema.field(column).type)
    write_table(path, table.set_column(column, table.schema.field(column), values))
    return manifest


def config(workspace: Path, manifest: Path, name: str, **more: Any) -> BenchmarkConfig:
    return BenchmarkConfig(workspace=workspace, manifest=manifest, model=MODEL, replicates=100, name=name, **more)


def scores(report: Path) -> dict[tuple[str, str], float]:
    with (report / "predictions.csv").open() as file:
        return {(row["query_id"], row["reference_id"]): float(row["score"]) for row in csv.DictReader(file)}


def test_queries_with_another_rotation_are_embedded_again(small: Any, tmp_path: Path) -> None:
    upright, turned = copied(small, tmp_path), copied(small, tmp_path, 90)
    before = scores(run(config(tmp_path, upright, "upright")))
    report = run(config(tmp_path, turned, "turned"))
    clean = copied(small, tmp_path / "clean", 90)
    correct = scores(run(config(tmp_path / "clean", clean, "turned")))  # a workspace without any cache
    assert scores(report) == correct
    assert scores(report) != before
    with pytest.raises(UsageError, match="different data"):  # and the two are no baseline of each other
        run(config(tmp_path, turned, "compared", baseline=tmp_path / "reports" / "upright"))


def test_descriptors_of_data_that_changed_since_the_report_are_refused(small: Any, tmp_path: Path) -> None:
    manifest = copied(small, tmp_path)
    csv_path = tmp_path / "p.csv"
    csv_path.write_text("q00,r00,0.5\nq01,r02,0.4\n")
    report = run(BenchmarkConfig(workspace=tmp_path, manifest=manifest, predictions=csv_path, replicates=100))
    results = ResultsConfig(workspace=tmp_path, report=report, format="csv6")
    assert export_results(results).is_file()
    (path,) = (manifest / "data" / "references").glob("*.parquet")
    table = read_table(path)
    write_table(path, table.set_column(table.schema.get_field_index("sha256"), "sha256", [["0" * 64] * len(table)]))
    with pytest.raises(NdecError, match="changed since it was made"):
        export_results(results)


DAMAGES = pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: scene(77, (120, 90)).save(path)], ids=["missing", "another picture"]
)


@DAMAGES
def test_an_image_that_could_not_be_read_is_tried_again(
    small: Any, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    data = from_manifest(copied(small, tmp_path))
    queries, backbone = data.queries.slice(0, 3), load_backbone(MODEL)
    common = Workspace(tmp_path), backbone, "trunk", queries, data.resolve, 8
    path = Path(data.resolve(queries["uri"][1].as_py()))
    content = path.read_bytes()
    damage(path)
    assert pool_features(*common)[1].tolist() == [True, False, True]
    path.write_bytes(content)
    pooled, usable, rejects = pool_features(*common)
    assert usable.all() and not rejects
    assert np.array_equal(pooled, pool_features(Workspace(tmp_path / "clean"), *common[1:])[0])


@DAMAGES
def test_geometry_of_an_image_that_could_not_be_read_is_measured_again(
    small: Any, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    data = from_manifest(copied(small, tmp_path))
    path = Path(data.resolve(data.queries["uri"][1].as_py()))
    content = path.read_bytes()
    damage(path)
    pairs = np.array([0, 1]), np.array([0, 1])
    assert np.isnan(pair_signals(Workspace(tmp_path), data, *pairs, Engine(workers=1))[1]).all()
    path.write_bytes(content)
    assert np.isfinite(pair_signals(Workspace(tmp_path), data, *pairs, Engine(workers=1))[1, 0])


@pytest.mark.parametrize("column", ["sha256", "rotation"])
def test_the_fingerprint_of_a_dataset_covers(small: Any, column: str) -> None:
    data: Dataset = from_manifest(small.manifest)
    place, field = data.queries.schema.get_field_index(column), data.queries.schema.field(column)
    values = pa.array(["0" * 64 if column == "sha256" else 90] * len(data.queries), field.type)
    changed = replace(data, queries=data.queries.set_column(place, field, values))
    assert changed.fingerprint != data.fingerprint


def test_a_whitening_of_an_earlier_version_of_the_descriptors_is_not_used(tmp_path: Path) -> None:
    workspace, backbone = Workspace(tmp_path), load_backbone(MODEL)
    whitening = Whitening(np.zeros(backbone.dim, np.float32), np.eye(4, backbone.dim, dtype=np.float32))
    whitening.save(workspace.whitening(MODEL) / "whitening.npz")
    record = workspace.whitening(MODEL) / "run.json"
    write_json(record, {"weights": backbone.weights, "role": "basic", "result_version": RESULT_VERSION})
    assert "of this workspace" in embedder_from_model(workspace, MODEL, None, 32).about
    write_json(record, read_json(record) | {"result_version": RESULT_VERSION - 1})
    assert "whitening that comes with ndec" in embedder_from_model(workspace, MODEL, None, 32).about


@pytest.mark.parametrize("change", [{"mean": (0.5, 0.5, 0.5)}, {"size": 96}, {"interpolation": "bilinear"}])
def test_another_preprocessing_is_embedded_again(small: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    data, backbone = from_manifest(copied(small, tmp_path)), copy.copy(load_backbone(MODEL))
    queries = data.queries.slice(0, 2)
    before = pool_features(Workspace(tmp_path), backbone, "trunk", queries, data.resolve, 8)[0]
    for name, value in change.items():
        setattr(backbone, name, value)
    after = pool_features(Workspace(tmp_path), backbone, "trunk", queries, data.resolve, 8)[0]
    clean = pool_features(Workspace(tmp_path / "clean"), backbone, "trunk", queries, data.resolve, 8)[0]
    assert np.array_equal(after, clean) and not np.array_equal(after, before)
