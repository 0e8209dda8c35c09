"""What `ndec benchmark` says about its input, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.settings import BenchmarkConfig
from support.reports import metrics_of, plain_uap, read_rows, truth_of

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"


def test_known_truth_is_stated_next_to_the_numbers(small: Any, tmp_path: Path) -> None:
    manifest = tmp_path / "manifests" / "oracle-1"
    shutil.copytree(small.manifest, manifest)
    for folder in ("queries", "references", "basic"):
        shutil.copytree(small.workspace / folder, tmp_path / folder)
    info = json.loads((manifest / "manifest.json").read_text())
    (manifest / "manifest.json").write_text(json.dumps({**info, "labels_by": "known truth (simulated)"}))
    (tmp_path / "p.csv").write_text("q00,r00,0.5\n")
    common = {"workspace": tmp_path, "manifest": manifest, "predictions": tmp_path / "p.csv", "replicates": 100}
    report = run(BenchmarkConfig(**common))
    assert "Labels by: known truth (simulated)." in (report / "report.html").read_text()
    assert metrics_of(report)["dataset"]["labels_simulated"] is True


def test_unusable_images_are_counted_and_too_many_end_with_3(
    small: Any, tmp_path: Path, folders: Callable[..., BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small.queries, tmp_path / "queries")
    (tmp_path / "queries" / "q03.png").write_bytes(b"no image")
    config = BenchmarkConfig(
        workspace=small.workspace, queries=tmp_path / "queries", references=small.references,
        ground_truth=small.ground_truth, model=MODEL, replicates=100, name="broken", max_reject_share=0.5,
    )  # fmt: skip
    report = run(config)
    said = capsys.readouterr().err.replace("\n", " ")
    assert "1 of 28 images could not be used (first: q03: not an image" in said and "counts them as not found" in said
    assert "1 image could not be used" in (report / "report.html").read_text()
    metrics = metrics_of(report)
    assert metrics["data"]["unusable_images"] == 1
    assert metrics["uap"]["value"] == pytest.approx(plain_uap(read_rows(report), truth_of(small)))
    assert "q03" in json.loads((report / "run.json").read_text())["rejects"]["queries"]
    with pytest.raises(GapsError, match=r"1 of 28 .* q03: not an image"):
        run(BenchmarkConfig(**{**vars(config), "max_reject_share": 0.01}))


def test_bad_input(
    small: Any,
    tmp_path: Path,
    folders: Callable[..., BenchmarkConfig],
    baseline: Path,
    make_checkpoint: Callable[..., Path],
) -> None:
    def refused(kind: type[NdecError], words: str, **fields: Any) -> None:
        with pytest.raises(kind, match=words):
            run(BenchmarkConfig(**{**vars(folders(model=MODEL)), **fields}))

    (tmp_path / "empty").mkdir()
    for name, text in {"unknown": "q00,r77\n", "none": "q00,\n", "columns": "q00,r00,1\n"}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    refused(UsageError, "missing does not exist", queries=tmp_path / "missing")
    refused(UsageError, "no image in", references=tmp_path / "empty")
    refused(NdecError, "'r77'", ground_truth=tmp_path / "unknown.csv")
    refused(NdecError, "no positive pair", ground_truth=tmp_path / "none.csv")
    refused(NdecError, "line 1", ground_truth=tmp_path / "columns.csv")
    refused(UsageError, "is not a report", baseline=tmp_path)
    # folders have no groups and no kinds: a different dataset
    refused(UsageError, "different data", baseline=baseline, name="x")
    shutil.copytree(small.queries, tmp_path / "fresh")
    images = {"queries": tmp_path / "fresh", "references": small.references, "workspace": tmp_path / "ws"}
    refused(UsageError, "different data", baseline=baseline, name="x", **images)
    assert not list((tmp_path / "ws").rglob("*.npz"))  # no image was embedded first
    refused(UsageError, "no predictions file", model=None, predictions=tmp_path / "no.csv")
    manifest = {"queries": None, "references": None, "ground_truth": None, "manifest": small.manifest}
    leaking = make_checkpoint("leaking", groups=("scene3",))
    refused(NdecError, "trained on", **manifest, model=None, checkpoint=leaking)
    refused(NdecError, "trained on", **manifest, scorer="asl", asl_checkpoint=leaking)
    for recipe in ("baseline", "triplet"):
        other = make_checkpoint(f"only-{recipe}", recipe=recipe)
        words = (
            rf"were not trained \(recipe {recipe}\).*asl-crop, asl-positive, asl-negative, asl, asl-code, asl-copies"
        )
        refused(UsageError, words, **manifest, scorer="asl", asl_checkpoint=other)
        refused(UsageError, words, **manifest, scorer="asl", model=None, checkpoint=other)
    (tmp_path / "fused.json").write_text("{}")
    refused(NdecError, "is not a checkpoint.*which --fused-model takes", **manifest, model=None, checkpoint=tmp_path)


def test_norms_of_a_prediction_whose_image_cannot_be_read(
    small: Any, tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    shutil.copytree(small.queries, tmp_path / "queries")
    (tmp_path / "queries" / "q03.png").write_bytes(b"no image")
    (tmp_path / "p.csv").write_text("q03,r03,0.5\nq04,r04,0.4\n")
    config = BenchmarkConfig(
        workspace=small.workspace, queries=tmp_path / "queries", references=small.references,
        ground_truth=small.ground_truth, predictions=tmp_path / "p.csv", scorer="asl",
        asl_checkpoint=make_checkpoint("filter"), replicates=100,
    )  # fmt: skip
    with pytest.raises(NdecError, match="1 predictions name an image that cannot be read"):
        run(config)


def test_who_labelled_is_said_of_the_test_split(small: Any, tmp_path: Path) -> None:
    """A report named the file whose labels are about training pairs only."""
    manifest = tmp_path / "manifest"
    shutil.copytree(small.manifest, manifest)
    info = json.loads((manifest / "manifest.json").read_text())

    def said(test: list[str], train: list[str], of_both: str) -> str:
        lineage = {
            split: {"labels": [{"annotator": name} for name in names], "agreement": None}
            for split, names in (("test", test), ("train", train))
        }
        (manifest / "manifest.json").write_text(json.dumps({**info, "labels_by": of_both, "lineage": lineage}))
        return from_manifest(manifest).labels_by

    assert said(["ann"], ["ann", "file:old.csv"], "people, and labels that came with old.csv") == "people"
    assert said(["file:old.csv"], [], "labels that came with old.csv") == "labels that came with old.csv"
    assert said(["ann"], ["oracle"], "people and known truth (simulated)") == "people"
