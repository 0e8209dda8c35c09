"""How well annotators agree: equal labels, Cohen's kappa (1960), Krippendorff's alpha for pairs with several labels."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.decisions.binomial import wilson
from ndec_builder.annotation.label_tables import labels_by_pair
from ndec_builder.core.console import number_of
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


def agreement_report(labels: pa.Table, drawn: Collection[str] = ("first",)) -> dict[str, Any]:
    """The content of agreement.json, from a labels table (newest label per pair, round and annotator counts).

    Kappa and alpha come from pairs that no label chose. Where a label chose the pairs, as in a double-check of hard
    negatives, one rater is constant and kappa is 0 whatever the second one says; both are null there. `drawn`: the
    rounds whose pairs were not chosen by a label ("double_check" after `--which all`). In the first round a pair counts
    if several annotators got it in one batch; a later batch holds pairs whose first label was in doubt. In a drawn
    double-check, a pair with several first labels does not count: it is there only if they were equal.

    A rater is an annotator in one round. `raters`: labels given, counts by label, median seconds per pair.
    `comparisons`: every two raters who are different annotators and share pairs that count. `rounds`: the comparisons
    whose later round this is, pooled; kappa is their mean weighted by pairs; alpha is over the round's own labels;
    `confirmed` of the double-check: pairs on which all its labels equal all of the first round, as a share with
    Wilson's 95 % interval. `kappa` and `alpha`: over all drawn rounds.
    """
    given: dict[_Rater, dict[str, dict[str, Any]]] = defaultdict(dict)
    by_pair = labels_by_pair(labels)
    for pair_id, rows in sorted(by_pair.items()):
        for row in rows:
            given[row["round"], row["annotator"]][pair_id] = row
    raters = sorted(given, key=lambda rater: (ROUNDS.index(rater[0]), rater[1]))
    counts_first = {pair: sum(row["round"] == "first" for row in rows) for pair, rows in by_pair.items()}
    comparisons = []
    for one, two in itertools.combinations(raters, 2):
        shared = [pair for pair in given[one] if pair in given[two]] if one[1] != two[1] else []
        if one[0] == two[0] == "first":
            shared = [pair for pair in shared if given[one][pair]["batch"] == given[two][pair]["batch"]]
        elif one[0] == "first" and two[0] in drawn:
            shared = [pair for pair in shared if counts_first[pair] == 1]
        if shared:
            comparisons.append(_compare(one, given[one], two, given[two], shared, two[0] in drawn))
    units = {name: _units(by_pair.values(), name) if name in drawn else [] for name in ROUNDS}
    mixed = [
        [row["label"] for row in rows if row["round"] in ("first", "double_check")]
        for pair, rows in by_pair.items()
        if counts_first[pair] == 1 and "double_check" in drawn
    ]
    rounds = {
        name: _pool([c for c in comparisons if c["later_round"] == name]) | {"alpha": krippendorff_alpha(units[name])}
        for name in ROUNDS
    }
    rounds["double_check"]["confirmed"] = _confirmed(by_pair.values())
    return {
        "kappa": _pool(comparisons)["kappa"],
        "alpha": krippendorff_alpha([*units["first"], *mixed]),
        "raters": [_rater(rater, list(given[rater].values())) for rater in raters],
        "comparisons": comparisons,
        "rounds": rounds,
    }


def agreement_texts(report: Mapping[str, Any]) -> list[str]:
    """What a dataset says about agreement, from agreement.json; no line for what was not computed.

    Files of earlier versions hold kappas of pairs that a label chose, and a pooled kappa with these in it. Both are
    left out.
    """
    rounds = report.get("rounds") or {}
    second = rounds.get("double_check") or {}
    confirmed = second.get("confirmed")
    reliable = {name: row for name, row in rounds.items() if name == "first" or (row.get("pairs") and confirmed)}
    texts = [
        f"Round {name}: Cohen's kappa {row['kappa']:.3f} over {number_of(row['pairs'], 'shared pair')}."
        for name, row in reliable.items()
        if row.get("kappa") is not None
    ]
    if confirmed and confirmed["n"]:
        texts.append(
            f"Double-check: {confirmed['confirmed']:,} of {number_of(confirmed['n'], 'pair')} confirmed by another "
            f"annotator (95 % interval {confirmed['low']:.3f}–{confirmed['high']:.3f})."
        )
    if report.get("kappa") is not None and (confirmed or not second.get("pairs")):
        texts.append(f"Cohen's kappa: {report['kappa']:.4g}.")
    return texts


def _units(pairs: Iterable[list[dict[str, Any]]], round_: str) -> list[list[str]]:
    """The labels that each pair got in this round; of the first round, those of one batch are a unit."""
    units: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in itertools.chain.from_iterable(pairs):
        if row["round"] == round_:
            units[row["pair_id"], row["batch"] if round_ == "first" else 0].append(row["label"])
    return list(units.values())


def _confirmed(pairs: Iterable[list[dict[str, Any]]]) -> dict[str, Any]:
    equal = []
    for rows in pairs:
        first, second = ({row["label"] for row in rows if row["round"] == name} for name in ("first", "double_check"))
        if first and second:
            equal.append(len(first | second) == 1)
    low, high = wilson(sum(equal), len(equal))
    share = sum(equal) / len(equal) if equal else None
    return {"n": len(equal), "confirmed": sum(equal), "share": share, "low": low, "high": high}


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
    one: _Rater,
    first: dict[str, dict[str, Any]],
    two: _Rater,
    second: dict[str, dict[str, Any]],
    shared: Sequence[str],
    drawn: bool,
) -> dict[str, Any]:
    """Figures of two raters over the `shared` pairs; kappa is null unless the pairs were `drawn` without a label."""
    a, b = ([rows[pair_id]["label"] for pair_id in shared] for rows in (first, second))
    equal = sum(x == y for x, y in zip(a, b, strict=True))
    return {
        "round": one[0],
        "annotator": one[1],
        "later_round": two[0],
        "other_annotator": two[1],
        "pairs": len(shared),
        "equal": equal,
        "raw_agreement": equal / len(shared),
        "kappa": cohen_kappa(a, b) if drawn else None,
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
