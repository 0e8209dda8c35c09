"""`ndec export-results` on a real report: the scores that come out are the ones that went in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import sha256_file
from ndec_builder.embeddings.isc2021_hdf5 import read_hdf5
from ndec_builder.evaluation.benchmark import run as benchmark
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.export_results import benchmark_of, run
from ndec_builder.evaluation.fiftyone_dataset import write_fiftyone
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import BenchmarkConfig, ResultsConfig
from ndec_builder.manifests.read import open_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(small, make_checkpoint) -> Path:
    config = BenchmarkConfig(
        workspace=small.workspace, manifest=small.manifest, checkpoint=make_checkpoint("results"), replicates=100
    )
    return benchmark(config)


def export(small, report: Path, form: str, **options: object) -> Path:
    return run(ResultsConfig(workspace=small.workspace, report=report, format=form, **options))  # type: ignore[arg-type]


def test_csv_is_the_reports_list(small, report: Path) -> None:
    assert export(small, report, "csv").read_bytes() == (report / "predictions.csv").read_bytes()


def test_six_decimals_and_trec_have_every_pair(small, report: Path, tmp_path: Path) -> None:
    exact = [line.split(",") for line in (report / "predictions.csv").read_text().splitlines()[1:]]
    six = [line.split(",") for line in export(small, report, "csv6").read_text().splitlines()[1:]]
    assert [(q, r, float(f"{float(s):.6f}")) for q, r, s in exact] == [(q, r, float(s)) for q, r, s in six]
    trec = [line.split() for line in export(small, report, "trec", out=tmp_path / "run").read_text().splitlines()]
    assert sorted((row[0], row[2], row[4]) for row in trec) == sorted(map(tuple, exact))
    assert {row[5] for row in trec} == {report.name}


def test_descriptors_give_the_scores_of_the_report(small, report: Path) -> None:
    sides = read_hdf5(export(small, report, "hdf5"))
    (queries, vectors), (references, others) = sides["query"], sides["reference"]
    assert queries == sorted(queries) and vectors.shape[1] <= 256
    products = vectors.astype(np.float64) @ others.astype(np.float64).T
    for line in (report / "predictions.csv").read_text().splitlines()[1:]:
        query, reference, score = line.split(",")
        assert products[queries.index(query), references.index(reference)] == pytest.approx(float(score), abs=1e-6)


def test_descriptors_that_give_another_list_than_the_report_are_announced(
    small, make_checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = {"workspace": small.workspace, "manifest": small.manifest, "checkpoint": make_checkpoint("results")}
    made = benchmark(
        BenchmarkConfig(**common, replicates=100, out=tmp_path / "asl", norm_factor=1, norm_n=2, scorer="asl")
    )
    capsys.readouterr()
    export(small, made, "hdf5")
    said = " ".join(capsys.readouterr().err.split())
    assert "normalised (--norm-factor 1) and filtered by norm ratios; the descriptors alone give another list" in said


def test_descriptors_of_a_detector_that_changed_are_refused(small, tmp_path: Path, make_checkpoint) -> None:
    copy = tmp_path / "run"
    shutil.copytree(make_checkpoint("first").parent, copy)
    made = benchmark(BenchmarkConfig(workspace=tmp_path, manifest=small.manifest, checkpoint=copy, replicates=100))
    assert export(small, made, "hdf5").is_file()
    weights = {name: 2 * value for name, value in load_file(copy / "checkpoint.safetensors").items()}
    save_file(weights, copy / "checkpoint.safetensors")
    card = json.loads((copy / "checkpoint.json").read_text())
    card["weights_sha256"] = sha256_file(copy / "checkpoint.safetensors")
    (copy / "checkpoint.json").write_text(json.dumps(card))  # as after training again
    with pytest.raises(NdecError, match=r"changed since it was made \(checkpoint: then .*run `ndec benchmark` again"):
        export(small, made, "hdf5")


def pairs_of(manifest: Path) -> list[tuple[str, str]]:
    rows = open_manifest(manifest).table("ground_truth").to_pylist()
    return [(row["query_id"], row["reference_id"]) for row in rows if row["reference_id"]]


def outcomes(path: Path) -> dict[tuple[str, str], tuple[str, float | None]]:
    samples = json.loads(path.read_text())["samples"]
    return {(s["query_id"], s["reference_id"]): (s["outcome"]["label"], s["score"]) for s in samples}


def test_fiftyone_gets_the_pairs_of_the_report(small, report: Path) -> None:
    value = json.loads(export(small, report, "fiftyone").read_text())
    found = outcomes(report / "fiftyone.json")
    rows = [line.split(",") for line in (report / "predictions.csv").read_text().splitlines()[1:]]
    best: dict[str, tuple[str, float]] = {}
    for query, reference, score in rows:  # score descending
        best.setdefault(query, (reference, float(score)))
    truth = set(pairs_of(small.manifest))
    assert {pair: score for pair, (outcome, score) in found.items() if outcome in ("match", "false match")} == {
        (query, reference): score for query, (reference, score) in best.items()
    }
    assert {pair for pair, (outcome, _) in found.items() if outcome != "false match"} == truth
    listed = {(query, reference) for query, reference, _ in rows}
    assert {pair for pair, (outcome, _) in found.items() if outcome == "missed"} == truth - listed
    assert [sample["group"]["name"] for sample in value["samples"]] == ["query", "reference"] * len(found)
    assert all(Path(sample["filepath"]).is_file() for sample in value["samples"])
    assert all(".." not in Path(sample["filepath"]).parts for sample in value["samples"])  # FiftyOne cuts them as text


def test_a_pair_that_is_listed_below_another_one_is_not_missed(small, report: Path, tmp_path: Path) -> None:
    dataset = from_manifest(small.manifest)
    query, reference = divmod(int(dataset.truth[0]), len(dataset.references))
    other = (reference + 1) % len(dataset.references)
    scores = np.array([0.9, 0.4])
    predictions = Predictions(np.array([query, query]), np.array([other, reference]), scores, "by hand")
    found = outcomes(write_fiftyone(tmp_path / "f.json", dataset, predictions, "n"))
    ids = dataset.query_ids[query], dataset.reference_ids
    assert found[ids[0], ids[1][other]] == ("false match", 0.9)
    assert found[ids[0], ids[1][reference]] == ("not first", 0.4)
    assert {outcome for outcome, _ in found.values()} == {"false match", "not first", "missed"}


def test_images_inside_an_archive_cannot_be_shown(small, tmp_path: Path) -> None:
    dataset = replace(from_manifest(small.manifest), resolve=lambda uri: f"{uri}#bytes=0-9")
    none = Predictions(*(np.array([], int),) * 2, np.array([]), "by hand")
    with pytest.raises(NdecError, match=r"export.*--materialize folder"):
        write_fiftyone(tmp_path / "f.json", dataset, none, "n")


def test_pca_is_the_way_out_of_too_many_dimensions(small, report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_hdf5(export(small, report, "hdf5", pca=5))["query"][1].shape[1] == 5
    with pytest.raises(UsageError, match="only 16 dimensions"):
        export(small, report, "hdf5", pca=200)
    monkeypatch.setattr("ndec_builder.evaluation.export_results.MAX_DIM", 4)
    with pytest.raises(NdecError, match=r"a submission may have at most 4; add --pca 4"):
        export(small, report, "hdf5")


def test_bad_input(small, report: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="format is 'hdf'; it must be csv, csv6, trec, hdf5 or fiftyone; did you mean 'hdf5'"
    ):
        export(small, report, "hdf")
    with pytest.raises(UsageError, match="--pca reduces descriptors"):
        export(small, report, "csv", pca=5)
    with pytest.raises(UsageError, match="pca is 300; it must be at least 1 and at most 256"):
        export(small, report, "hdf5", pca=300)
    with pytest.raises(UsageError, match="is not a report"):
        export(small, tmp_path, "csv")
    given = BenchmarkConfig(
        workspace=small.workspace,
        manifest=small.manifest,
        predictions=report / "predictions.csv",
        replicates=100,
        name="given",
    )
    with pytest.raises(UsageError, match="from predictions"):
        export(small, benchmark(given), "hdf5")
    assert benchmark_of(report).manifest == small.manifest
