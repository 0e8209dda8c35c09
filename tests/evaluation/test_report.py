"""The page stands alone, escapes what comes from outside, and has a text for every picture."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.settings import BenchmarkConfig


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
    # two false positives and seven copies that are not among the first two rows, two pictures each
    assert len(pictures) == 2 * (2 + 7) and all(' alt="' in picture for picture in pictures)
    assert "rank 4, score 0.1000" in page and page.count("not found by the search") == 6
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
    assert "cannot be read" in (report / "report.html").read_text("utf-8")
