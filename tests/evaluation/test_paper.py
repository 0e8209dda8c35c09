"""Tables 1–2 and figures 6–8 on the small manifest: their numbers are those of the single benchmarks."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.core.errors import GapsError, UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation import benchmark
from ndec_builder.evaluation.dataset import from_manifest
from ndec_builder.evaluation.evaluate import evaluate_detector, group_predictions
from ndec_builder.evaluation.metrics.bootstrap import GroupedList
from ndec_builder.evaluation.metrics.ranked import average_precision, rank
from ndec_builder.evaluation.paper import run
from ndec_builder.evaluation.paper.figures import Nesting, nested_curve, nested_uap
from ndec_builder.evaluation.paper.published import TABLE_1, TABLE_2, is_ndec
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import BenchmarkConfig, PaperConfig
from support.isc2021_file import write_isc2021

pytestmark = pytest.mark.slow

MODEL = "efficientnet-lite0"


def config(small: Any, **fields: Any) -> PaperConfig:
    common = {"workspace": small.workspace, "manifest": small.manifest, "replicates": 100, **fields}
    return PaperConfig(**common)


def test_the_paper_numbers_agree_with_their_own_precision() -> None:
    assert len({**TABLE_1, **{f"table 2 {name}": row for name, row in TABLE_2.items()}}) == 20  # 18 different ones
    for row in [*TABLE_1.values(), *TABLE_2.values()]:
        assert round(100 * row.tp / (row.tp + row.fp), 2) == row.precision
    assert is_ndec(49_252, 1_000_000, 5_009) and not is_ndec(748, 700, 400)


def test_table_1_takes_csv_models_and_runs(small: Any, tmp_path: Path, make_checkpoint: Callable[..., Path]) -> None:
    asl = make_checkpoint("filter")
    report = benchmark.run(BenchmarkConfig(
        workspace=small.workspace, manifest=small.manifest, model=MODEL, scorer="asl", asl_checkpoint=asl,
        replicates=100, name="single",
    ))  # fmt: skip
    plain = benchmark.run(BenchmarkConfig(
        workspace=small.workspace, manifest=small.manifest, model=MODEL, replicates=100, name="plain-single"
    ))  # fmt: skip
    given = plain / "predictions.csv"
    older = tmp_path / "older.csv"  # without the predictions of two queries
    older.write_text("".join(line for line in given.open() if line[:3] not in ("q01", "x3,")))
    methods = (f"BoT={given}", f"BoT+ASL={given}", f"Old={older}", f"Net={MODEL}", f"Own={asl}", f"Own+ASL={asl}")
    out = run.run(config(small, table=1, method=methods, asl_checkpoint=asl))
    assert sorted(path.name for path in out.iterdir()) == ["run.json", "table1.csv", "table1.json", "table1.md"]
    table = json.loads((out / "table1.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["BoT", "BoT+ASL", "Old", "Old+ASL", "Net", "Net+ASL", "Own", "Own+ASL"]
    metrics = json.loads((report / "metrics.json").read_text())
    keys = {"uap": "uap", "tp": "tp_kept_count", "fp": "fp_kept_count", "precision": "precision_after_filter"}
    for method in ("BoT+ASL", "Net+ASL"):
        for name, key in keys.items():
            assert rows[method]["numbers"]["all"][name]["value"] == pytest.approx(metrics[key]["value"]), name
    own = rows["Net+ASL"]["numbers"]["all"]["uap"]["value"] - rows["Net"]["numbers"]["all"]["uap"]["value"]
    assert rows["Net+ASL"]["uap_gain"]["value"] == pytest.approx(own)
    assert rows["BoT"]["paper"] == [42.06, 2075, 2934, 41.43] and rows["Net"]["paper"] is None
    assert rows["Old"]["note"] == "2 of 16 queries without a prediction: is the list for this dataset?"
    assert rows["Net"]["note"] == ""
    notes = {"Own+ASL": "its own norms", "BoT+ASL": "the norms of filter", "Net+ASL": "the norms of filter"}
    for name, whose in notes.items():
        assert rows[name]["note"] == f"filtered by {whose}"
    assert table["protocol"].startswith(
        "Search: global top 500,000, or all pairs where there are fewer; raw cosine; BoT: as given in predictions.csv; "
        "BoT+ASL: as given in predictions.csv; Old: as given in older.csv. Filter"
    )
    text = (out / "table1.md").read_text()
    assert "## all hard negatives" in text and "filter AUC" in text
    assert "**Different data**: 16 queries, 12 references" in text and "| BoT+ASL |" in text and "| 65.91 |" in text
    with (out / "table1.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["method"] == "BoT" and line["subset"] == "paper (NDEC)"]
    assert {line["number"]: line["value"] for line in lines}["tp"] == "2075"


def test_table_2_trains_once_and_never_repeats_an_embedding(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("manifests", "queries", "references", "basic"):
        shutil.copytree(small.workspace / name, tmp_path / name)
    (tmp_path / "ndec.toml").write_text("[train]\nsteps = 3\nviews = 3\nviews_per_identity = 2\ndim = 4\npairs = 1\n")
    from ndec_builder.embeddings.inference import Inference

    calls: list[int] = []
    real = Inference.__call__

    def counted(self: Inference, pixels: Any) -> Any:
        calls.append(len(pixels))
        return real(self, pixels)

    monkeypatch.setattr(Inference, "__call__", counted)
    settings = PaperConfig(
        workspace=tmp_path, manifest=tmp_path / "manifests" / "small-1", table=2, seeds=2, replicates=100,
        recipe=("asl", "triplet", "baseline"),
    )  # fmt: skip
    run.run(PaperConfig(**{**vars(settings), "recipe": ("baseline",), "seeds": 1, "name": "one"}))
    assert sum(calls) >= 10 * 3 + 16 + 12  # the views of 10 images, 16 queries, 12 references
    calls.clear()
    out = run.run(settings)
    assert calls == []  # five more runs, and not one more picture went through the trunk
    table = json.loads((out / "table2.json").read_text())
    assert [(row["name"], row["note"]) for row in table["rows"]] == [
        ("baseline", ""), ("triplet", "not filtered"), ("triplet", "filtered; its norms were not trained"),
        ("asl", "filtered"),
    ]  # fmt: skip
    assert table["rows"][-1]["paper"] == [49.30, 1829, 648, 73.84]
    singles = []
    for seed in range(2):
        report = benchmark.run(BenchmarkConfig(
            workspace=tmp_path, manifest=settings.manifest, checkpoint=tmp_path / "runs" / f"table2-asl-{seed}",
            scorer="asl", replicates=100,
        ))  # fmt: skip
        singles.append(json.loads((report / "metrics.json").read_text())["uap"]["value"])
    row = table["rows"][-1]["numbers"]["all"]
    assert row["uap"]["value"] == pytest.approx(np.mean(singles))
    assert row["uap"]["low"] <= row["uap"]["value"] <= row["uap"]["high"]
    before = (out / "table2.md").read_bytes()
    monkeypatch.setattr("ndec_builder.training.loop.train", None)  # finished runs are only looked up
    assert (run.run(settings) / "table2.md").read_bytes() == before
    with pytest.raises(UsageError, match=r"recipe is 'als'; it must be .*did you mean 'asl'"):
        run.run(PaperConfig(**{**vars(settings), "recipe": ("als",)}))


def test_figure_6_is_the_mu_ap_of_nested_subsets(small: Any) -> None:
    settings = config(small, figure=6, method=(f"Net={MODEL}",), shares=3, orders=2)
    out = run.run(settings)
    assert sorted(path.name for path in out.iterdir()) == ["figure6.json", "figure6.png", "figure6.svg", "run.json"]
    curve = json.loads((out / "figure6.json").read_text())["curves"][0]
    assert curve["shares"] == [0.0, 0.5, 1.0]
    data = from_manifest(small.manifest)
    single = BenchmarkConfig(workspace=small.workspace, manifest=small.manifest, model=MODEL)
    evaluated = evaluate_detector(single, Workspace(small.workspace), data)
    rows, queries = evaluated.evaluation.final, evaluated.final.query[evaluated.evaluation.final.ranked.rows]
    hard = np.flatnonzero(data.stratum > 0)
    expected = []
    for share in (0.0, 0.5, 1.0):
        values = []
        for order in range(2):
            shuffled = np.random.default_rng([settings.seed, order]).permutation(hard)
            left_out = shuffled[round(share * len(hard)) :]
            values.append(average_precision(rows.ranked.keep(~np.isin(queries, left_out))))
        expected.append(np.mean(values))
    assert [point["value"] for point in curve["uap"]] == pytest.approx(expected)
    table = nested_uap(rows, queries, evaluated.evaluation.truth_group, data, settings)
    assert table.shape == (3, 101)
    assert (table[0] >= table[1] - 1e-12).all() and (table[1] >= table[2] - 1e-12).all()  # nested: only more negatives


def test_a_list_without_a_mistake_has_the_exact_interval_at_every_share(small: Any) -> None:
    data = from_manifest(small.manifest)
    queries, references = np.divmod(data.truth, len(data.references))
    perfect = Predictions(queries, references, np.linspace(0.9, 0.8, len(queries)), "by hand")
    rows = group_predictions(data, perfect)
    truth_group = data.query_group[data.truth_queries()]
    curve = nested_curve("x", rows, queries[rows.ranked.rows], truth_group, data, Nesting(replicates=100))
    assert {(point.value, point.high) for point in curve.uap} == {(1.0, 1.0)}
    for point in curve.uap:
        assert point.low == pytest.approx(0.025 ** (1 / 8))  # 8 copies in 8 groups


@pytest.mark.parametrize(("replicates", "orders"), [(200, 5), (999, 3), (100, 100)])
def test_the_band_of_figure_6_uses_every_order_equally_often(small: Any, replicates: int, orders: int) -> None:
    data = from_manifest(small.manifest)
    hard = np.flatnonzero(data.stratum > 0)
    queries = np.array([hard[0], data.truth_queries()[0]])  # a costly hard negative above a copy; no other pair
    ranked = rank(np.array([0.9, 0.8]), np.array([False, True]), 1)
    rows = GroupedList(ranked, np.zeros(2, int), data.stratum[queries])
    one_group = replace(data, query_group=np.zeros(len(data.queries), int))  # every replicate is the data
    how = Nesting(shares=3, orders=orders, replicates=replicates)
    table = nested_uap(rows, queries, np.zeros(1, int), one_group, how)
    half = len(hard) // 2
    costs = [hard[0] in np.random.default_rng([0, order]).permutation(hard)[:half] for order in range(orders)]
    expected = np.mean([0.5 if cost else 1.0 for cost in costs])
    assert table[1, 0] == pytest.approx(expected)
    assert table[1, 1:].mean() == pytest.approx(expected)


def test_figures_7_and_8(small: Any, make_checkpoint: Callable[..., Path]) -> None:
    asl = make_checkpoint("filter")
    seven = run.run(config(small, figure=7, method=(f"Net={MODEL}", f"Own={asl}")))
    bars = json.loads((seven / "figure7.json").read_text())
    assert list(bars["methods"]) == ["Net", "Own"] and bars["paper"]["Simple"] == [72.42, 47.0]
    assert bars["methods"]["Net"]["without"]["value"] >= bars["methods"]["Net"]["with"]["value"]
    eight = run.run(config(small, figure=8, method=(f"Own={asl}",), gallery=4))
    rows = json.loads((eight / "figure8.json").read_text())["rows"]
    assert all(pair["query_over_reference"] <= 1 for pair in rows["copies kept"] + rows["hard negatives wrongly kept"])
    rejected = rows["copies wrongly rejected"] + rows["hard negatives rejected"]
    assert all(pair["query_over_reference"] > 1 for pair in rejected)
    assert sum(map(len, rows.values())) > 0 and all(len(pairs) <= 2 for pairs in rows.values())
    assert (eight / "figure8.png").read_bytes()[:4] == b"\x89PNG" and "<svg" in (eight / "figure8.svg").read_text()
    again = run.run(config(small, figure=8, method=(f"Own={asl}",), gallery=4, name="again"))
    for name in ("figure8.png", "figure8.svg", "figure8.json"):
        assert (again / name).read_bytes() == (eight / name).read_bytes()
    with pytest.raises(UsageError, match="shows norm ratios"):
        run.run(config(small, figure=8, method=(f"Net={MODEL}",)))


def test_images_that_a_detector_could_not_use_are_named_and_end_with_gaps(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files of two of the 12 references have no descriptor in the file that is given."""
    names = [f"r{i:02d}" for i in range(10)], [f"q{i:02d}" for i in range(12)] + [f"x{i}" for i in range(4)]
    vectors = np.random.default_rng(0).normal(size=(16, 8))
    files = [
        write_isc2021(tmp_path / f"{letter}.h5", side, vectors[: len(side)])
        for letter, side in zip("rq", names, strict=True)
    ]
    method = f"Net={files[1]},{files[0]}"
    with pytest.raises(GapsError, match="2 of 28 images could not be used: Net: 2 images"):
        run.run(config(small, figure=7, method=(method,), out=tmp_path / "out"))
    note = "Net: 2 images could not be used and count as not found (first: r10: no descriptor)"
    assert json.loads((tmp_path / "out" / "figure7.json").read_text())["gaps"] == [note]
    assert note in " ".join(capsys.readouterr().err.split())
