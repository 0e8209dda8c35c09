"""Reports of `ndec benchmark`, read a second way."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any


def read_rows(report: Path) -> list[tuple[float, str, str]]:
    with (report / "predictions.csv").open() as file:
        return [(float(row["score"]), row["query_id"], row["reference_id"]) for row in csv.DictReader(file)]


def plain_uap(rows: list[tuple[float, str, str]], truth: dict[str, str], left_out: set[str] = frozenset()) -> float:
    """Micro average precision without the queries left out, walked row by row, worst order among equal scores."""
    rows = [row for row in rows if row[1] not in left_out]
    rows.sort(key=lambda row: (-row[0], truth.get(row[1]) == row[2]))
    hits = [truth.get(query) == reference for _, query, reference in rows]
    return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / len(truth)


def truth_of(small: Any) -> dict[str, str]:
    with small.ground_truth.open() as file:
        return {query: reference for query, reference in csv.reader(file) if reference}


def metrics_of(report: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((report / "metrics.json").read_text())
    return metrics
