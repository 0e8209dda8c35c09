"""How good and how fast each annotator is, with intervals, over time, and what to look at: flags, not verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.intervals import wilson
from ndec_builder.annotation.policy import audit_verdicts, newest

FAST_SECONDS = 1.5  # a median below it is no look at two pictures
ONE_LABEL_SHARE = 0.97  # of an annotator's labels that are one and the same …
OTHERS_SHARE = 0.85  # … while the others give it less often than this
MIN_LABELS = 30  # before a flag is raised
LOW_ACCURACY = 0.85
WINDOWS = 5  # stretches of equal length in which drift is shown


def annotators(labels: pa.Table, truth: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per annotator, by name. `truth`: pair → label, of gold and of pairs decided without this annotator alone.

    accuracy: share of the labels on pairs of known truth that equal it, with Wilson's 95 % interval (gold pairs and
    others apart); seconds: median; windows: accuracy and seconds over five stretches of the annotator's work in the
    order of time; flags. A gold or other truth of "no_copy" is met by any label but edited_copy.
    """
    table = labels.select(["pair_id", "annotator", "label", "seconds", "annotated_at", "is_gold"])
    names = np.array(table["annotator"].to_pylist(), object)
    given = np.array(table["label"].to_pylist(), object)
    known = np.array([truth.get(pair) for pair in table["pair_id"].to_pylist()], object)
    right = np.where(known == "no_copy", given != "edited_copy", given == known)
    checked = np.array([value is not None for value in known], bool)
    gold = np.array(table["is_gold"].to_pylist(), object).astype(bool)
    seconds = np.array([np.nan if s is None else s for s in table["seconds"].to_pylist()], float)
    moments = table["annotated_at"].cast(pa.int64()).to_numpy()
    rows = []
    for name in sorted(set(names.tolist())):
        own = np.flatnonzero(names == name)
        own = own[np.argsort(moments[own], kind="stable")]
        others = given[names != name]
        row = {
            "annotator": name,
            "labels": len(own),
            "median_seconds": _median(seconds[own]),
            "gold": _share(right[own][gold[own] & checked[own]]),
            "checked": _share(right[own][~gold[own] & checked[own]]),
            "windows": [
                {"labels": len(part), "accuracy": _mean(right[part][checked[part]]), "seconds": _median(seconds[part])}
                for part in np.array_split(own, WINDOWS)
                if len(part)
            ],
        }
        rows.append(row | {"flags": flags(row, given[own], others)})
    return rows


def flags(row: Mapping[str, Any], given: np.ndarray, others: np.ndarray) -> list[str]:
    """What a person should look at, in words; empty when nothing stands out or there are too few labels."""
    found: list[str] = []
    if row["labels"] < MIN_LABELS:
        return found
    labels, counts = np.unique(given.astype(str), return_counts=True)
    top, share = labels[counts.argmax()], counts.max() / len(given)
    alone = float((others.astype(str) == top).mean()) if len(others) else 0.0
    fast = row["median_seconds"] is not None and row["median_seconds"] < FAST_SECONDS
    if fast:
        found.append(f"fast: {row['median_seconds']:.1f} s a pair")
    if share >= ONE_LABEL_SHARE and (fast or (len(others) and alone < OTHERS_SHARE)):
        found.append(f"one answer: {top} on {share:.0%} of the pairs, the others on {alone:.0%}")
    for kind in ("gold", "checked"):
        part = row[kind]
        if part["n"] and part["high"] < LOW_ACCURACY:
            found.append(f"inaccurate: {part['right']} of {part['n']} {kind} pairs right")
    return found


def _share(right: np.ndarray) -> dict[str, Any]:
    successes, count = int(right.sum()), len(right)
    low, high = wilson(successes, count)
    return {"n": count, "right": successes, "share": successes / count if count else None, "low": low, "high": high}


def _mean(values: np.ndarray) -> float | None:
    return float(values.astype(float).mean()) if len(values) else None


def _median(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(np.median(known)), 3) if len(known) else None


def known_truth(labels: pa.Table, decisions: pa.Table, gold: Mapping[str, str]) -> dict[str, str]:
    """Truth to measure people by: gold, audit verdicts, and decided pairs that two people labelled in the first round.

    These were drawn at random. Pairs that got a second look because they were doubtful would make everybody look bad.
    """
    rows = newest(labels.filter(pc.equal(labels["round"], "first")))
    first = Counter(rows["pair_id"].to_pylist())
    decided = zip(decisions["pair_id"].to_pylist(), decisions["decision"].to_pylist(), strict=True)
    truth = {pair: label for pair, label in decided if label is not None and first[pair] >= 2}
    truth |= {pair: label for pair, label in audit_verdicts(labels).items() if label is not None}
    return truth | dict(gold)
