"""The page stands alone, escapes what comes from outside, and has a text for every picture."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.storage import read_json, read_table
from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.metrics.bootstrap import Interval
from ndec_builder.evaluation.paper.figures import Curve
from ndec_builder.evaluation.report import html_report
from ndec_builder.evaluation.report.hard_share import draw_hard_share
from ndec_builder.evaluation.settings import BenchmarkConfig
from support.needs import missing

pytestmark = pytest.mark.slow


def test_page_is_self_contained_and_escapes_file_names(small: Any, tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    shutil.copytree(small.queries, queries)
    hostile = "<script>alert(1)<&script>"  # a file name cannot hold a slash
    (queries / "x0.png").rename(queries / f"{hostile}.png")
    truth = small.ground_truth.read_text().replace("x0,", f'"{hostile}",')
    (tmp_path / "truth.csv").write_text(truth)
    (tmp_path / "p.csv").write_text(f"{hostile},r00,0.9\nq01,r01,0.8\nq02,r02,0.1\nx1,r02,0.2\n")
    report = run(BenchmarkConfig(
        workspace=tmp_path, queries=queries, references=small.references, ground_truth=tmp_path / "truth.csv",
        predictions=tmp_path / "p.csv", replicates=100, n=2,
    ))  # fmt: skip
    page = (report / "report.html").read_text("utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    links = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert links and all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    pictures, figures = re.findall(r"<img [^>]*>", page), re.findall(r"<figure [^>]*>", page)
    assert len(figures) == 1 and all("aria-label" in figure for figure in figures)
    overlays = [picture for picture in pictures if 'class="overlay"' in picture]
    # two false positives and seven copies that are not among the first two rows, two pictures each
    assert len(pictures) - len(overlays) == 2 * (2 + 7 + 5) and all(' alt="' in picture for picture in pictures)
    assert 1 <= len(overlays) <= 7 + 5  # copies that can be laid on their reference
    assert "rank 4, score 0.10" in page and page.count("not found by the search") == 6 + 3
    assert 'name="viewport"' in page and "@media print" in page
    assert (report / "figures" / "precision_recall.svg").read_text().startswith("<svg")
    assert len(page) < 1_000_000


def test_an_unreadable_picture_is_said_and_not_left_blank(small: Any, tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    shutil.copytree(small.queries, queries)
    (queries / "x1.png").write_bytes(b"broken")
    (tmp_path / "p.csv").write_text("x1,r02,0.2\n")
    report = run(BenchmarkConfig(
        workspace=tmp_path, queries=queries, references=small.references, ground_truth=small.ground_truth,
        predictions=tmp_path / "p.csv", replicates=100, gallery=1, name="one",
    ))  # fmt: skip
    page = (report / "report.html").read_text("utf-8")
    assert "cannot be read" in page
    # A recall that no threshold gives is a dash, not a missing row; what a filter or a baseline needs is not explained.
    assert re.search(r"recall at precision 0\.9</th><td[^>]*>–</td>", page)
    assert "recovered =" not in page and "by the filter" not in page


def test_hard_negatives_of_one_kind_do_not_fill_two_columns(small: Any, tmp_path: Path) -> None:
    hard = read_table(next((small.manifest / "data" / "queries").glob("*.parquet"))).to_pylist()
    kinds = {row["query_id"]: row["hard_kind"] for row in hard if row["kind"] == "hard_negative"}
    assert {"natural", "reverse_crop"} <= set(kinds.values())
    metrics = read_json(
        run(BenchmarkConfig(
            workspace=small.workspace, manifest=small.manifest, model="efficientnet-lite0", replicates=100, gallery=0,
            out=tmp_path / "both",
        ))
        / "metrics.json"
    )  # fmt: skip
    assert list(html_report.columns_of(metrics)) == ["all", "natural", "reverse_crop", "without"]
    one_kind = metrics | {"by_hard_kind": metrics["by_hard_kind"] | {"natural": metrics, "reverse_crop": None}}
    assert list(html_report.columns_of(one_kind)) == ["all", "without"]


def test_the_curve_over_hard_negatives_the_filter_and_the_lineage_are_there(
    small: Any, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    plain = BenchmarkConfig(
        workspace=small.workspace, manifest=small.manifest, model="efficientnet-lite0", replicates=100, gallery=3,
        out=tmp_path / "plain",
    )  # fmt: skip
    baseline = run(plain)
    checkpoint = make_checkpoint("reported")
    report = run(replace(
        plain, model=None, checkpoint=checkpoint, scorer="asl", baseline=baseline, out=tmp_path / "asl"
    ))  # fmt: skip
    page, metrics = (report / "report.html").read_text("utf-8"), read_json(report / "metrics.json")
    labels = re.findall(r'<figure role="img" aria-label="([^"]*)"', page)
    assert [label.split()[0] for label in labels] == ["Precision-recall", "Scatter", "μAP"]
    with_all = f"{metrics['uap']['value']:.2f} with all of them"
    theirs = read_json(baseline / "metrics.json")
    assert with_all in labels[2] and f"{theirs['uap_without_hard_negatives']['value']:.2f} without" in labels[2]
    assert f"{theirs['uap']['value']:.2f} with all of them" in labels[2]
    weights = read_json(report / "run.json")["weights"]
    assert metrics["dataset"]["fingerprint"] in page and weights and all(sum_ in page for sum_ in weights.values())
    targets = set(re.findall(r'<(?:h2|span) id="([^"]+)"', page))
    assert set(re.findall(r'<a href="#([^"]+)"', page)) == targets


def colours_of(svg: str) -> set[str]:
    return {colour.lower() for colour in re.findall(r"(?:stroke|fill): (#[0-9a-fA-F]{6})", svg)}


def test_figures_use_colours_and_shapes_that_everybody_can_tell_apart() -> None:
    shares = (0.0, 1.0)
    bands = tuple(Interval(value, value - 0.1, value + 0.1) for value in (0.8, 0.5))
    svg = draw_hard_share([Curve("this scorer", shares, bands), Curve("baseline", shares, bands)])
    okabe_ito = {"#0072b2", "#d55e00"}
    greys = {colour for colour in colours_of(svg) if len({colour[1:3], colour[3:5], colour[5:]}) == 1}
    assert okabe_ito <= colours_of(svg) and colours_of(svg) - greys == okabe_ito
    assert "stroke-dasharray" in svg  # and distinguishable without colour, by the line


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_phone_and_prints(small: Any, tmp_path: Path, width: int) -> None:
    chromium = shutil.which("chromium") or missing("no chromium for the browser test: install the package `chromium`")
    sync_api = pytest.importorskip("playwright.sync_api")
    (tmp_path / "p.csv").write_text("q00,r00,0.9\nq08,r08,0.8\nx1,r02,0.2\n")
    report = run(BenchmarkConfig(
        workspace=tmp_path, manifest=small.manifest, predictions=tmp_path / "p.csv", replicates=100, name="one"
    ))  # fmt: skip
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 844})
        page.goto((report / "report.html").as_uri())
        too_wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        page.goto(f"{(report / 'report.html').as_uri()}#numbers")  # a link unfolds its section
        unfolded = page.evaluate("document.getElementById('numbers').parentElement.open")
        printed = page.pdf(format="A4")
        browser.close()
    assert not too_wide and unfolded
    assert printed.startswith(b"%PDF") and len(printed) > 10_000
