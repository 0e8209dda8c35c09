"""The complete benchmark on a small manifest and on plain folders; every number is computed a second way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.settings import BenchmarkConfig
from support.reports import metrics_of, plain_uap, read_rows, truth_of

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"
FILES = ["figures", "metrics.json", "predictions.csv", "report.html", "run.json"]


def test_plain_folders(small: Any, folders: Callable[..., BenchmarkConfig]) -> None:
    report = run(folders(model=MODEL, name="plain"))
    assert report == small.workspace / "reports" / "plain"
    assert sorted(path.name for path in report.iterdir()) == FILES
    metrics, truth = metrics_of(report), truth_of(small)
    rows = read_rows(report)
    assert len(rows) == 16 * 12 and metrics["protocol"]["search"].startswith("all pairs of 16")
    assert metrics["uap"]["value"] == pytest.approx(plain_uap(rows, truth))
    top = sorted(rows, key=lambda row: (-row[0], truth.get(row[1]) == row[2]))[: metrics["n"]]
    assert metrics["n"] == len(truth) == 8
    assert metrics["tp"]["value"] == sum(truth.get(query) == reference for _, query, reference in top)
    assert metrics["uap"]["low"] <= metrics["uap"]["value"] <= metrics["uap"]["high"]
    assert metrics["by_hard_kind"] == {"natural": None, "reverse_crop": None, "without": None}
    assert metrics["uap_without_hard_negatives"]["value"] is None and metrics["tp_kept"]["value"] is None
    assert not (small.workspace / "images").exists()  # the workspace's own tables are left alone

    again = run(folders(predictions=report / "predictions.csv", name="again"))
    assert metrics_of(again)["uap"] == metrics["uap"]
    assert (again / "predictions.csv").read_bytes() == (report / "predictions.csv").read_bytes()


def test_k_per_query(small: Any, folders: Callable[..., BenchmarkConfig]) -> None:
    whole = read_rows(run(folders(model=MODEL, name="whole")))
    report = run(folders(model=MODEL, name="k3", k=3))
    expected = []
    for query in {row[1] for row in whole}:
        expected += sorted((row for row in whole if row[1] == query), key=lambda row: (-row[0], row[2]))[:3]
    assert sorted(read_rows(report)) == sorted(expected)
    assert "top 3 per query" in metrics_of(report)["protocol"]["search"]


def test_manifest_with_hard_negatives(small: Any, baseline: Path) -> None:
    metrics, rows, truth = metrics_of(baseline), read_rows(baseline), truth_of(small)
    natural, reverse = {"q08", "q09"}, {"q10", "q11"}
    left_out = {"natural": reverse, "reverse_crop": natural, "without": natural | reverse}
    assert metrics["uap"]["value"] == pytest.approx(plain_uap(rows, truth))
    for subset, queries in left_out.items():
        assert metrics["by_hard_kind"][subset]["uap"]["value"] == pytest.approx(plain_uap(rows, truth, queries))
    assert metrics["uap_without_hard_negatives"] == metrics["by_hard_kind"]["without"]["uap"]
    assert metrics["data"]["natural_hard_negatives"] == metrics["data"]["reverse_crop_hard_negatives"] == 2
    assert metrics["data"]["groups"] == 16  # 12 scenes and 4 distractors without a group
    assert "whitening that comes with ndec" in metrics["detector"]  # 10 training images are too few
    assert {metrics[key]["value"] for key in ("recovered", "gap_closed", "held")} == {None}


def test_asl_filter_against_the_baseline(small: Any, baseline: Path, make_checkpoint: Callable[..., Path]) -> None:
    common = {"workspace": small.workspace, "manifest": small.manifest, "model": MODEL, "replicates": 100}
    asl = {"scorer": "asl", "asl_checkpoint": make_checkpoint("filter"), "baseline": baseline}
    reports = {
        f"{scope}+{action}": run(BenchmarkConfig(**common, **asl, scope=scope, action=action, name=f"{scope}-{action}"))
        for scope in ("all", "topN")
        for action in ("drop", "demote")
    }
    before, truth = read_rows(baseline), truth_of(small)
    metrics = metrics_of(reports["all+drop"])
    kept = {row[1:] for row in read_rows(reports["all+drop"])}
    top = sorted(before, key=lambda row: (-row[0], truth.get(row[1]) == row[2]))[: metrics["n"]]
    hits = [row for row in top if truth.get(row[1]) == row[2]]
    hits_kept = [row for row in hits if row[1:] in kept]
    top_kept = [row for row in top if row[1:] in kept]
    assert 0 < len(kept) < len(before)
    assert metrics["tp"]["value"] == len(hits)
    assert metrics["tp_kept_count"]["value"] == len(hits_kept)
    assert metrics["fp_kept_count"]["value"] == len(top_kept) - len(hits_kept)
    if top_kept:
        assert metrics["precision_after_filter"]["value"] == pytest.approx(len(hits_kept) / len(top_kept))
    for name, report in reports.items():
        own = metrics_of(report)
        assert own["uap"]["value"] == pytest.approx(plain_uap(read_rows(report), truth))
        assert own["uap_by_filter"] == metrics["uap_by_filter"]
        assert own["uap_by_filter"][name] == pytest.approx(own["uap"]["value"])
        assert own["uap_before_filter"]["value"] == pytest.approx(metrics_of(baseline)["uap"]["value"])
    assert len(read_rows(reports["all+demote"])) == len(before)
    base = metrics_of(baseline)
    b, best = base["uap"]["value"], base["uap_without_hard_negatives"]["value"]
    s, own_best = metrics["uap"]["value"], metrics["uap_without_hard_negatives"]["value"]
    if best - b >= 0.02:
        assert metrics["recovered"]["value"] == pytest.approx((s - b) / (best - b))
        assert metrics["gap_closed"]["value"] == pytest.approx(1 - (own_best - s) / (best - b))
        assert metrics["held"]["value"] == pytest.approx(s / own_best)
    assert metrics["uap_minus_baseline"]["value"] == pytest.approx(s - b)
    assert 0 <= metrics["filter_auc"]["value"] <= 1


def test_the_threshold_that_the_checkpoints_chose(small: Any, make_checkpoint: Callable[..., Path]) -> None:
    one, two = make_checkpoint("chose-1", threshold=1.02), make_checkpoint("chose-2", threshold=1.04)
    common = {"workspace": small.workspace, "manifest": small.manifest, "replicates": 100, "scorer": "asl"}
    for number, (source, value) in enumerate(
        ((one, 1.02), ((one, two), (1.02 * 1.04) ** 0.5))  # an ensemble's ratio is a geometric mean, and so is this
    ):
        own, given = (
            metrics_of(
                run(BenchmarkConfig(**common, checkpoint=source, threshold=threshold, name=f"chose-{number}-{i}"))
            )
            for i, threshold in enumerate(("auto", value))
        )
        assert (
            f"query_over_reference > {value:g} (the checkpoint's own, from training data)" in own["protocol"]["filter"]
        )
        own["protocol"], given["protocol"] = {}, {}
        assert own == given
    behind = metrics_of(
        run(BenchmarkConfig(**common, model=MODEL, asl_checkpoint=two, threshold="auto", name="behind"))
    )
    assert "> 1.04 (the checkpoint's own" in behind["protocol"]["filter"]
    with pytest.raises(UsageError, match=r"--threshold auto takes the one .*chose-none .*has none"):
        run(BenchmarkConfig(**common, checkpoint=make_checkpoint("chose-none"), threshold="auto"))
    with pytest.raises(UsageError, match=r"chose-1 .* at 96 px has none .* used at another --test-size"):
        run(BenchmarkConfig(**common, checkpoint=one, threshold="auto", test_size=(96,)))


def test_checkpoint_gives_vectors_and_norms(small: Any, make_checkpoint: Callable[..., Path]) -> None:
    common = {"workspace": small.workspace, "manifest": small.manifest, "replicates": 100}
    common["checkpoint"] = make_checkpoint("own")
    cosine = run(BenchmarkConfig(**common))
    filtered = run(BenchmarkConfig(**common, scorer="asl", baseline=cosine))
    assert (cosine.name, filtered.name) == ("own-cosine", "own-asl")
    assert {row[1:] for row in read_rows(filtered)} < {row[1:] for row in read_rows(cosine)}
    assert metrics_of(filtered)["detector"] == "own (recipe asl on efficientnet-lite0)"


def test_an_identical_pair_is_kept_by_the_filter(
    small: Any, tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    for side in ("queries", "references"):
        shutil.copytree(small.references, tmp_path / side)
    (tmp_path / "truth.csv").write_text("".join(f"r{i:02d},r{i:02d}\n" for i in range(12)))
    report = run(BenchmarkConfig(
        workspace=tmp_path, queries=tmp_path / "queries", references=tmp_path / "references",
        ground_truth=tmp_path / "truth.csv", checkpoint=make_checkpoint("own"), scorer="asl", replicates=100,
    ))  # fmt: skip
    assert metrics_of(report)["tp_kept"]["value"] == 1.0
    assert metrics_of(report)["uap"]["value"] == 1.0


def test_trunk_runs_once_and_the_same_run_gives_the_same_bytes(
    small: Any, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("embedded again")

    monkeypatch.setattr("ndec_builder.embeddings.extract.extract", never)
    config = BenchmarkConfig(
        workspace=small.workspace, manifest=small.manifest, model=MODEL, replicates=100, out=tmp_path / "elsewhere"
    )
    again = run(config)
    assert again == tmp_path / "elsewhere"
    for name in ("predictions.csv", "metrics.json"):
        assert (again / name).read_bytes() == (baseline / name).read_bytes()
    for cached in (small.workspace / "cache" / "features").iterdir():
        cached.write_bytes(b"broken")
    with pytest.raises(AssertionError, match="embedded again"):  # a broken cache is made again, not believed
        run(config)


def test_an_image_that_only_the_second_network_cannot_read_is_named(
    small: Any, tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    h5py = pytest.importorskip("h5py")
    shutil.copytree(small.queries, tmp_path / "queries")
    (tmp_path / "queries" / "q03.png").write_bytes(b"no image")
    for side, folder in (("q", small.queries), ("r", small.references)):
        names = sorted(path.stem for path in folder.iterdir())
        with h5py.File(tmp_path / f"{side}.h5", "w") as file:
            file["vectors"], file["image_names"] = np.eye(len(names), 16, dtype=np.float32), names
    config = BenchmarkConfig(
        workspace=small.workspace, queries=tmp_path / "queries", references=small.references, scorer="asl",
        ground_truth=small.ground_truth, descriptors=(tmp_path / "q.h5", tmp_path / "r.h5"), replicates=100,
        asl_checkpoint=make_checkpoint("filter"), name="second",
    )  # fmt: skip
    with pytest.raises(NdecError, match=r"12 predictions name an image .*1 image, first q03: not an image"):
        run(config)


def test_descriptors_ensembles_and_normalised_scores(
    small: Any, tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    h5py = pytest.importorskip("h5py")
    common = {"workspace": small.workspace, "manifest": small.manifest, "replicates": 100}
    run_dir = make_checkpoint("member")
    both = run(BenchmarkConfig(**common, model=MODEL, checkpoint=(run_dir,), name="both"))
    assert " + " in metrics_of(both)["detector"]
    single = {row[1:]: row[0] for row in read_rows(run(BenchmarkConfig(**common, checkpoint=run_dir, name="one")))}
    plain = {row[1:]: row[0] for row in read_rows(run(BenchmarkConfig(**common, model=MODEL, name="two")))}
    for score, *pair in read_rows(both):
        assert score == pytest.approx((single[tuple(pair)] + plain[tuple(pair)]) / 2, abs=2e-3)
    normalised = run(BenchmarkConfig(**common, model=MODEL, norm_factor=1.0, norm_n=3, name="normalised"))
    assert "mean of its 3 best among 10 background images" in metrics_of(normalised)["protocol"]["search"]
    offsets: dict[str, set[float]] = {}
    for score, query, reference in read_rows(normalised):
        offsets.setdefault(query, set()).add(round(plain[query, reference] - score, 5))
    assert all(len(values) == 1 for values in offsets.values()) and len(set.union(*offsets.values())) > 8

    rng = np.random.default_rng(0)
    for name, count in (("queries", 16), ("references", 12)):
        ids = sorted(path.stem for path in getattr(small, name).iterdir())
        assert len(ids) == count
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["vectors"], file["image_names"] = rng.normal(size=(count, 8)).astype(np.float32), ids
    files = (tmp_path / "queries.h5", tmp_path / "references.h5")
    report = run(BenchmarkConfig(**common, descriptors=files, scorer="asl", asl_checkpoint=run_dir, name="others"))
    detector = metrics_of(report)["detector"]
    assert detector.startswith("descriptors queries.h5, references.h5 (lengths ") and "; norms of member" in detector
    assert json.loads((report / "run.json").read_text())["config"]["descriptors"] == [str(file) for file in files]
    with pytest.raises(UsageError, match="needs a background"):
        run(BenchmarkConfig(**common, descriptors=files, norm_factor=1.0))


def test_one_reference_per_query_is_named_with_its_numbers(small: Any, baseline: Path) -> None:
    config = {"workspace": small.workspace, "manifest": small.manifest, "replicates": 100}
    report = run(BenchmarkConfig(**config, model=MODEL, one_per_query=True, baseline=baseline, name="one"))
    rows, metrics = read_rows(report), metrics_of(report)
    best: dict[str, tuple[float, str]] = {}
    for score, query, reference in read_rows(baseline):
        best[query] = min(best.get(query, (np.inf, "")), (-score, reference))
    assert {query: (-score, reference) for score, query, reference in rows} == best
    assert metrics["uap"]["value"] == pytest.approx(plain_uap(rows, truth_of(small)))
    assert metrics["uap_minus_baseline"]["value"] == 0  # the baseline is reduced too
    assert metrics["protocol"]["one_per_query"].startswith("one reference per query")
    page = (report / "report.html").read_text()
    assert page.count("one reference per query") == 2  # next to the numbers and in the protocol
    with pytest.raises(UsageError, match="add --one-per-query, or run the baseline without it"):
        run(BenchmarkConfig(**config, model=MODEL, baseline=report, name="all"))


def test_a_report_without_pictures_has_none(small: Any, baseline: Path) -> None:
    config = {"workspace": small.workspace, "manifest": small.manifest, "replicates": 100, "model": MODEL}
    assert "data:image" in (baseline / "report.html").read_text("utf-8")
    report = run(BenchmarkConfig(**config, pictures=False, name="bare"))
    page = (report / "report.html").read_text("utf-8")
    assert "data:" not in page and "cannot be read" not in page and '<div class="small id">query' in page
    assert [path for path in report.rglob("*") if path.suffix in (".jpg", ".jpeg", ".png", ".webp")] == []
