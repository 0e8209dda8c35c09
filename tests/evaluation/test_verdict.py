"""The row and the sentence that a benchmark ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.evaluation.benchmark import run
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.evaluation.verdict import headline, verdict


def number(value: float | None = None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def metrics(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "uap": number(0.541, 0.493, 0.6), "uap_without_hard_negatives": number(), "uap_before_filter": number(),
        "uap_minus_baseline": number(), "precision_at_n": number(0.52), "precision_after_filter": number(),
        "recall_at_n": number(0.52), "tp_kept": number(), "fp_kept": number(), "n": 400, "baseline": None,
        "protocol": {"filter": None}, "data": {"ground_truth_pairs": 400, "groups_with_copies": 300},
    }  # fmt: skip
    return values | changes


FILTER = {
    "protocol": {"filter": "reject"}, "uap_before_filter": number(0.62), "precision_after_filter": number(0.68),
    "tp_kept": number(0.82), "fp_kept": number(0.42),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "row", "sentence"),
    [
        ({}, "μAP 0.54 [0.49, 0.60] · P@400 0.52", "52 % of the true copies are among the first N = 400 predictions."),
        (
            {"uap_without_hard_negatives": number(0.83, 0.8, 0.86)},
            "μAP 0.54 [0.49, 0.60] → 0.83 [0.80, 0.86] without hard negatives · P@400 0.52",
            "Hard negatives cost this detector 0.29 of μAP.",
        ),
        (  # 0.433 and 0.426 differ by more than 0.005, but both are shown as 0.43
            {"uap": number(0.426), "uap_without_hard_negatives": number(0.433)},
            "μAP 0.43 → 0.43 without hard negatives",
            "Hard negatives do not lower μAP of this detector.",
        ),
        (  # 0.434 and 0.436 are shown as 0.43 and 0.44
            {"uap": number(0.434), "uap_without_hard_negatives": number(0.436)},
            "μAP 0.43 → 0.44 without hard negatives",
            "Hard negatives cost this detector 0.01 of μAP.",
        ),
        (
            {"data": {"ground_truth_pairs": 60, "groups_with_copies": 1}},
            "",
            "52 % of the true copies are among the first N = 400 predictions; 1 group of queries with copies is too "
            "few to be sure: read the intervals.",
        ),
        (
            FILTER | {"data": {"ground_truth_pairs": 29, "groups_with_copies": 29}},
            "μAP 0.54 [0.49, 0.60] · P@400 0.68 after the filter · "
            "the filter keeps 82 % of the true and 42 % of the false positives",
            "The ASL filter made this worse (−0.08 μAP); 29 true pairs are too few to be sure: read the intervals.",
        ),
        (FILTER | {"uap_before_filter": number(0.5)}, "", "The ASL filter made this better (+0.04 μAP)."),
        (FILTER | {"uap_before_filter": number(0.54)}, "", "The ASL filter changed nothing (0.00 μAP)."),
        (
            {"uap_minus_baseline": number(0.1, 0.05, 0.15), "baseline": "base"}, "",
            "μAP is better than that of base: +0.10 [+0.05, +0.15].",
        ),
        (
            FILTER | {"uap_minus_baseline": number(-0.1, -0.2, -0.01), "baseline": "base"}, "",
            "With the ASL filter, μAP is worse than that of base: −0.10 [−0.20, −0.01].",
        ),
        (
            {
                "uap_minus_baseline": number(0.1, 0.05, 0.15), "baseline": "base",
                "baseline_differs": "the searches differ",
            },
            "", "μAP is better than that of base: +0.10 [+0.05, +0.15]; the searches differ.",
        ),
        (
            {"uap": number(0.0), "uap_without_hard_negatives": number(0.0)}, "",
            "This detector finds no copy: its list has none of the 400 ground-truth pairs.",
        ),
        (
            {"uap_minus_baseline": number(0.01, -0.05, 0.07), "baseline": "base"}, "",
            "μAP is not clearly different from that of base: +0.01 [−0.05, +0.07].",
        ),
    ],
)  # fmt: skip
def test_the_row_and_the_sentence(changes: dict[str, Any], row: str, sentence: str) -> None:
    assert headline(metrics(**changes)).startswith(row)
    assert verdict(metrics(**changes)) == sentence


@pytest.mark.slow
def test_a_benchmark_says_both_and_its_report_opens_with_them(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.csv").write_text("q00,r00,0.9\nq08,r08,0.8\nx1,r02,0.2\nq01,r01,0.1\n")
    report = run(BenchmarkConfig(
        workspace=tmp_path, manifest=small.manifest, predictions=tmp_path / "p.csv", replicates=100
    ))  # fmt: skip
    numbers = json.loads((report / "metrics.json").read_text())
    said = capsys.readouterr().err
    assert headline(numbers) in said and verdict(numbers) in said
    page = (report / "report.html").read_text("utf-8")
    places = [page.index(text) for text in (verdict(numbers), "The worst mistakes</h2>", "<details", "Numbers</h2>")]
    assert places == sorted(places)
    opening = page[: page.index("<details")]
    assert opening.count("<li>") == 5
    assert "rank 2" in opening and "not found by the search" in opening  # one of each kind at least
