"""How well people agree: share of equal labels and Cohen's kappa (1960) where two people saw the same pairs."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.labels import latest_labels
from ndec_builder.core.schemas import LABELS, ROUNDS

Rater = tuple[str, str]  # round, annotator


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """κ = (p_o − p_e)/(1 − p_e) of two label lists in the same order of pairs.

    None without pairs, and when both give one and the same label throughout (p_e = 1: chance explains everything).
    """
    count = len(first)
    if count == 0:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True))
    one, two = Counter(first), Counter(second)
    by_chance = sum(one[label] * two[label] for label in one)  # times count²: whole numbers until the division
    if by_chance == count * count:
        return None
    return (observed * count - by_chance) / (count * count - by_chance)


def agreement(labels: pa.Table) -> dict[str, Any]:
    """The content of agreement.json, from a labels table (newest label per pair, round and annotator counts).

    `raters`: labels given, counts by label, median seconds per pair. `comparisons`: every two raters who are different
    people and share pairs. `rounds`: comparisons that end in that round, pooled; kappa is their mean weighted by pairs,
    null when nobody's pairs overlap.
    """
    given: dict[Rater, dict[str, dict[str, Any]]] = defaultdict(dict)
    for pair_id, rows in sorted(latest_labels(labels).items()):
        for row in rows:
            given[row["round"], row["annotator"]][pair_id] = row
    raters = sorted(given, key=lambda rater: (ROUNDS.index(rater[0]), rater[1]))
    comparisons = [
        comparison
        for one, two in itertools.combinations(raters, 2)
        if one[1] != two[1] and (comparison := _compare(one, given[one], two, given[two]))
    ]
    return {
        "raters": [_rater(rater, list(given[rater].values())) for rater in raters],
        "comparisons": comparisons,
        "rounds": {name: _pool([c for c in comparisons if c["later_round"] == name]) for name in ROUNDS},
    }


def _rater(rater: Rater, rows: list[dict[str, Any]]) -> dict[str, Any]:
    counts = Counter(row["label"] for row in rows)
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    return {
        "round": rater[0],
        "annotator": rater[1],
        "labels": len(rows),
        "counts": {label: counts[label] for label in LABELS},
        "median_seconds_per_pair": round(statistics.median(seconds), 3) if seconds else None,
    }


def _compare(
    one: Rater, first: dict[str, dict[str, Any]], two: Rater, second: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """Figures of two raters over the pairs that both labelled; None when there is none."""
    shared = [pair_id for pair_id in first if pair_id in second]
    if not shared:
        return None
    a, b = ([rows[pair_id]["label"] for pair_id in shared] for rows in (first, second))
    kappa = cohen_kappa(a, b)
    return {
        "round": one[0],
        "annotator": one[1],
        "later_round": two[0],
        "other_annotator": two[1],
        "pairs": len(shared),
        "equal": sum(x == y for x, y in zip(a, b, strict=True)),
        "raw_agreement": sum(x == y for x, y in zip(a, b, strict=True)) / len(shared),
        "kappa": kappa,
    }


def _pool(comparisons: list[dict[str, Any]]) -> dict[str, Any]:
    pairs = sum(c["pairs"] for c in comparisons)
    weighted = [(c["pairs"], c["kappa"]) for c in comparisons if c["kappa"] is not None]
    weight = sum(w for w, _ in weighted)
    return {
        "pairs": pairs,
        "raw_agreement": sum(c["equal"] for c in comparisons) / pairs if pairs else None,
        "kappa": sum(w * k for w, k in weighted) / weight if weight else None,
    }
