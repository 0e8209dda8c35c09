"""How well annotators agree: equal labels, Cohen's kappa (1960), Krippendorff's alpha for pairs with several labels."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_tables import labels_by_pair
from ndec_builder.core.schemas import LABELS, ROUNDS

_Rater = tuple[str, str]  # round, annotator


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """κ = (p_o − p_e)/(1 − p_e) of two label lists in the same order of pairs.

    None without pairs, and if both give the same single label throughout (p_e = 1: chance explains everything).

    >>> cohen_kappa(["edited_copy", "hard_negative", "unrelated"], ["edited_copy", "hard_negative", "hard_negative"])
    0.5
    """
    count = len(first)
    if count == 0:
        return None
    observed = sum(a == b for a, b in zip(first, second, strict=True))
    one, two = Counter(first), Counter(second)
    by_chance = sum(one[label] * two[label] for label in one)  # times count²: integers until the division
    if by_chance == count * count:
        return None
    return (observed * count - by_chance) / (count * count - by_chance)


def krippendorff_alpha(units: Iterable[Sequence[str]]) -> float | None:
    """Nominal α = 1 − D_o/D_e of the labels that each pair got (Krippendorff 2011); pairs with one label are left out.

    A pair with m labels contributes its m·(m − 1) ordered couples of labels, divided by m − 1. None without a pair that
    has two labels, and if all labels are the same.

    >>> krippendorff_alpha([("edited_copy", "edited_copy"), ("unrelated", "unrelated"), ("hard_negative",)])
    1.0
    """
    totals: Counter[str] = Counter()
    unequal = 0.0
    for unit in units:
        if len(unit) < 2:
            continue
        counts = Counter(unit)
        totals.update(counts)
        same = sum(number * (number - 1) for number in counts.values())
        unequal += (len(unit) * (len(unit) - 1) - same) / (len(unit) - 1)
    number = sum(totals.values())
    expected = number * number - sum(count * count for count in totals.values())
    return 1 - (number - 1) * unequal / expected if expected else None


def agreement_report(labels: pa.Table) -> dict[str, Any]:
    """The content of agreement.json, from a labels table (newest label per pair, round and annotator counts).

    A rater is an annotator in one round. `raters`: labels given, counts by label, median seconds per pair.
    `comparisons`: every two raters who are different annotators and share pairs. `rounds`: the comparisons whose later
    round this is, pooled; kappa is their mean weighted by pairs, null if no pairs overlap; alpha is over the round's
    own labels. `kappa` and `alpha`: over all rounds.
    """
    given: dict[_Rater, dict[str, dict[str, Any]]] = defaultdict(dict)
    for pair_id, rows in sorted(labels_by_pair(labels).items()):
        for row in rows:
            given[row["round"], row["annotator"]][pair_id] = row
    raters = sorted(given, key=lambda rater: (ROUNDS.index(rater[0]), rater[1]))
    comparisons = [
        comparison
        for one, two in itertools.combinations(raters, 2)
        if one[1] != two[1] and (comparison := _compare(one, given[one], two, given[two]))
    ]
    units: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (round_, _), answers in given.items():
        for pair_id, row in answers.items():
            units[pair_id].append((round_, row["label"]))
    alphas = {
        name: krippendorff_alpha([label for round_, label in unit if round_ == name] for unit in units.values())
        for name in ROUNDS
    }
    return {
        "kappa": _pool(comparisons)["kappa"],
        "alpha": krippendorff_alpha([label for _, label in unit] for unit in units.values()),
        "raters": [_rater(rater, list(given[rater].values())) for rater in raters],
        "comparisons": comparisons,
        "rounds": {
            name: _pool([c for c in comparisons if c["later_round"] == name]) | {"alpha": alphas[name]}
            for name in ROUNDS
        },
    }


def _rater(rater: _Rater, rows: list[dict[str, Any]]) -> dict[str, Any]:
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
    one: _Rater, first: dict[str, dict[str, Any]], two: _Rater, second: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """Figures of two raters over the pairs that both labelled; None if there is none."""
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
