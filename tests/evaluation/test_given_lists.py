"""Benchmarks of given lists: queries that they leave out, their groups, and earlier reports in the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.config import as_dict
from ndec_builder.core.errors import UsageError
from ndec_builder.evaluation import benchmark
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.detectors import score_direction
from ndec_builder.evaluation.earlier_reports import ReplacedReport
from ndec_builder.evaluation.export_results import benchmark_of
from ndec_builder.evaluation.settings import BenchmarkConfig

QUERIES = [*(f"q{i:02d}" for i in range(12)), *(f"x{i}" for i in range(4))]  # 8 copies, 4 hard negatives, 4 distractors


@pytest.fixture
def listed(small: Any, tmp_path: Path) -> Callable[..., BenchmarkConfig]:
    """Settings of a benchmark of a list with `per_query` references of each of the `queries`; right ones score .9."""

    def make(queries: list[str] = QUERIES, per_query: int = 1, file: str = "p.csv", **more: Any) -> BenchmarkConfig:
        rows = []
        for query in queries:
            own = int(query[1:]) % 12
            rows += [f"{query},r{(own + i) % 12:02d},{0.9 - i / 100 - own / 1000:.4f}\n" for i in range(per_query)]
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("".join(rows))
        values = {"workspace": tmp_path, "manifest": small.manifest, "predictions": tmp_path / file, "replicates": 100}
        return BenchmarkConfig(**{**values, "pictures": False, **more})  # type: ignore[arg-type]

    return make


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without report.html, which takes most of the time."""
    monkeypatch.setattr(benchmark, "write_report", lambda *_: None)


def metrics_of(report: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((report / "metrics.json").read_text())
    return metrics


@pytest.mark.slow
def test_what_made_the_scores_of_a_given_list_is_not_said(
    listed: Callable[..., BenchmarkConfig], tmp_path: Path
) -> None:
    """The report has its name from the file alone; with a scorer that works on the list, it names the scorer."""
    report = run(listed(file="theirs.csv"))
    page = (report / "report.html").read_text("utf-8")
    assert report == tmp_path / "reports/theirs"
    assert "cosine" not in page and '<th scope="row">scorer</th>' not in page
    assert '<th scope="row">predictions</th>' in page


@pytest.mark.slow
def test_queries_without_a_prediction_are_counted_by_kind(
    listed: Callable[..., BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(listed([q for q in QUERIES if q not in ("q01", "q09", "q10", "x3")]))
    data = metrics_of(report)["data"]
    assert data["queries_without_prediction"] == 4
    kinds = {
        kind: data[f"{kind}_queries_without_prediction"] for kind in ("edited_copy", "hard_negative", "distractor")
    }
    assert kinds == {"edited_copy": 1, "hard_negative": 2, "distractor": 1}
    words = "4 of 16 queries have no prediction (1 distractor, 1 edited_copy, 2 hard_negative)."
    assert words in " ".join(capsys.readouterr().err.split())
    assert words in (report / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("undrawn")
def test_a_complete_list_has_no_such_note_and_groups_with_a_copy_count(
    listed: Callable[..., BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    data = metrics_of(run(listed()))["data"]
    assert data["queries_without_prediction"] == 0
    assert "no prediction" not in capsys.readouterr().err
    assert (data["groups_with_copies"], data["groups"]) == (8, 16)


@pytest.mark.usefixtures("undrawn")
def test_a_complete_list_without_some_references_is_of_an_older_dataset(
    listed: Callable[..., BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = listed(per_query=12)
    assert config.predictions is not None
    assert metrics_of(run(config))["data"]["references_not_listed"] == 0
    rows = config.predictions.read_text().splitlines(keepends=True)
    config.predictions.write_text("".join(row for row in rows if row.split(",")[1] < "r09"))
    capsys.readouterr()
    assert metrics_of(run(config))["data"]["references_not_listed"] == 3
    assert "3 of 12 references are in no row" in " ".join(capsys.readouterr().err.split())
    assert metrics_of(run(listed(per_query=1)))["data"]["references_not_listed"] == 0  # only the best ones


def test_an_empty_list_finds_no_copy_and_has_no_calibration(
    listed: Callable[..., BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = metrics_of(run(listed([], probabilities=True)))
    assert metrics["uap"]["value"] == 0 and "calibration" not in metrics
    said = " ".join(capsys.readouterr().err.split())
    assert "This detector finds no copy: its list has none of the 8 ground-truth pairs" in said
    assert "16 of 16 queries have no prediction" in said


@pytest.mark.usefixtures("undrawn")
def test_a_baseline_with_fewer_pairs_per_query_is_named(listed: Callable[..., BenchmarkConfig]) -> None:
    one = run(listed(per_query=1, name="one"))
    metrics = metrics_of(run(listed(per_query=5, name="five", baseline=one)))
    assert "as given in p.csv" in metrics["protocol"]["baseline_search"]
    assert metrics["baseline_differs"] == (
        "the searches differ, which is part of the difference (here: at most 5 pairs per query; baseline: at most 1 "
        "pair per query)"
    )


@pytest.mark.usefixtures("undrawn")
def test_a_baseline_with_as_many_pairs_per_query_is_not(listed: Callable[..., BenchmarkConfig]) -> None:
    first = run(listed(per_query=2, name="first"))
    assert metrics_of(run(listed(per_query=2, name="second", baseline=first)))["baseline_differs"] == ""


@pytest.mark.usefixtures("undrawn")
def test_a_report_does_not_replace_its_own_baseline(listed: Callable[..., BenchmarkConfig]) -> None:
    report = run(listed())
    before = (report / "metrics.json").read_bytes()
    with pytest.raises(UsageError, match="which is its --baseline; give it another --name or --out"):
        run(listed(baseline=report, one_per_query=True))
    assert (report / "metrics.json").read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_a_report_does_not_replace_the_list_that_it_is_about(listed: Callable[..., BenchmarkConfig]) -> None:
    report = run(listed())
    before = (report / "predictions.csv").read_bytes()
    with pytest.raises(UsageError, match=r"predictions\.csv is a file that this command replaces or removes"):
        run(replace(listed(), predictions=report / "predictions.csv", out=report))
    assert (report / "predictions.csv").read_bytes() == before


@pytest.mark.usefixtures("undrawn")
def test_a_report_that_is_replaced_is_named_with_what_changed(
    listed: Callable[..., BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(listed(file="a/preds.csv"))
    assert "earlier report" not in capsys.readouterr().err
    assert run(listed(file="a/preds.csv")) == report
    assert "earlier report" not in capsys.readouterr().err
    assert run(listed(per_query=2, file="b/preds.csv", one_per_query=True)) == report
    said = " ".join(capsys.readouterr().err.split())
    assert "which this one replaces (other predictions, one_per_query False → True); --name keeps both" in said


def test_a_report_of_other_weights_is_named(
    listed: Callable[..., BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = listed()
    record = {"config": as_dict(config), "inputs": {"dataset": "d"}, "weights": {"net": "old", "same": "x"}}
    before = ReplacedReport(Path("report"), record, "")
    before.announce(config, {"dataset": "d"}, {"net": "old", "same": "x"})
    assert not capsys.readouterr().err
    before.announce(config, {"dataset": "d"}, {"net": "new", "same": "x"})
    assert "which this one replaces (other net)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("undrawn")
def test_a_report_that_is_stopped_while_it_is_written_is_none(
    listed: Callable[..., BenchmarkConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list is that of the new run, so the numbers and settings of the report before are not about it."""
    before = run(listed(name="same"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(benchmark, "write_json", _interrupt)
        run(listed(per_query=2, name="same"))
    with pytest.raises(UsageError, match=r"is not a report of `ndec benchmark`: metrics\.json"):
        run(listed(name="other", baseline=before))
    with pytest.raises(UsageError, match="is not a report of `ndec benchmark`"):
        benchmark_of(before)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_baseline_that_found_other_twins_says_so(listed: Callable[..., BenchmarkConfig]) -> None:
    report = run(listed(name="first"))
    metrics = metrics_of(report)
    metrics["dataset"]["fingerprint"] = "f" * 64
    (report / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UsageError, match="With --twins match both runs must find the same twins"):
        run(listed(name="second", baseline=report, twins="match"))
    with pytest.raises(UsageError, match=r"on this dataset first$"):
        run(listed(name="second", baseline=report))


@pytest.mark.slow
def test_figures_of_the_report_before_are_deleted_and_no_others(listed: Callable[..., BenchmarkConfig]) -> None:
    report = run(listed(probabilities=True))
    assert (report / "figures" / "reliability.svg").is_file()
    (report / "figures" / "mine.svg").write_text("<svg/>")  # `--out` names a folder that the person uses already
    run(listed())
    found = sorted(path.stem for path in (report / "figures").iterdir())
    assert found == ["hard_share", "mine", "precision_recall"]


@pytest.mark.usefixtures("undrawn")
def test_exports_of_the_report_before_are_named(
    listed: Callable[..., BenchmarkConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(listed())
    shutil.copy(report / "predictions.csv", report / "predictions.trec")
    run(listed())
    assert "predictions.trec" not in capsys.readouterr().err  # the same list
    run(listed(per_query=2))
    assert "predictions.trec in" in capsys.readouterr().err


@pytest.mark.parametrize("sign", [1, -1])
def test_a_list_of_distances_is_named(
    listed: Callable[..., BenchmarkConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sign: int,
) -> None:
    monkeypatch.setattr(score_direction, "_FEW", 5)
    config = listed(per_query=2)
    lines = [line.split(",") for line in (tmp_path / "p.csv").read_text().split()]
    (tmp_path / "p.csv").write_text("".join(f"{q},{r},{sign * float(s)}\n" for q, r, s in lines))
    report, said = run(config), "p.csv: its scores look inverted"
    metrics = metrics_of(report)
    assert metrics.get("scores_look_inverted", "").startswith(said) == (sign < 0)
    assert (said in capsys.readouterr().err) == (sign < 0)
    assert ("negate distances." in (report / "report.html").read_text("utf-8")) == (sign < 0)
