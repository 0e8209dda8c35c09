"""How accurate and how fast each annotator is, with intervals and over time; flags say what a person should check."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.binomial import wilson
from ndec_builder.annotation.label_tables import AUDIT_ROUND, keys, newest_labels

FAST_SECONDS = 1.5  # a lower median is too fast to compare two images
ONE_LABEL_SHARE = 0.97  # flagged: one label makes up this share of an annotator's labels …
OTHERS_SHARE = 0.85  # … while the others give it less often than this
FLAG_MIN_LABELS = 30  # no flags below this number of labels
LOW_ACCURACY = 0.85
WINDOWS = 5  # consecutive parts of an annotator's labels, of equal length, that show drift


def annotator_report(labels: pa.Table, truth: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per annotator, by name. `truth`: pair_id → label of the pairs of known truth (`known_truth`).

    `gold` and `checked`: share of the labels on gold pairs, and on other pairs of known truth, that are right, with
    Wilson's 95 % interval. Only labels that do not define the truth themselves count: on audited pairs those of the
    audit (the first label is why the pair was kept), on others those of the first round (an adjudicator would always be
    right). `windows`: accuracy and median seconds over five consecutive parts of the annotator's work. The truth
    "no_copy" accepts any label except edited_copy.
    """
    table = labels.select(["pair_id", "round", "annotator", "label", "seconds", "annotated_at", "is_gold"])
    who, names = _codes(table["annotator"])
    given = np.array(table["label"].to_pylist(), object)
    answers, words = _codes(table["label"])
    known = np.array([truth.get(pair) for pair in table["pair_id"].to_pylist()], object)
    right = np.where(known == "no_copy", given != "edited_copy", given == known)
    gold = table["is_gold"].to_numpy()
    checked = np.array([value is not None for value in known], bool) & (gold | _measuring(table))
    seconds = table["seconds"].cast(pa.float64()).to_numpy()
    moments = table["annotated_at"].cast(pa.int64()).to_numpy()
    rows = []
    every = np.bincount(answers, minlength=len(words))
    for number, name in sorted(enumerate(names), key=lambda item: item[1]):
        own = np.flatnonzero(who == number)
        own = own[np.argsort(moments[own], kind="stable")]
        counts = dict(zip(words, np.bincount(answers[own], minlength=len(words)).tolist(), strict=True))
        others = dict(zip(words, (every - np.bincount(answers[own], minlength=len(words))).tolist(), strict=True))
        row = {
            "annotator": name,
            "labels": len(own),
            "median_seconds": _median(seconds[own]),
            "gold": _share(right[own][gold[own] & checked[own]]),
            "checked": _share(right[own][~gold[own] & checked[own]]),
            "windows": [
                {"labels": len(part), "accuracy": _mean(right[part][checked[part]]),
                 "checked": int(checked[part].sum()), "right": int(right[part][checked[part]].sum()),
                 "seconds": _median(seconds[part])}
                for part in np.array_split(own, WINDOWS)
                if len(part)
            ],
        }  # fmt: skip
        rows.append(row | {"flags": flags(row, counts, others)})
    return rows


def _measuring(table: pa.Table) -> np.ndarray:
    """Labels (n,) bool that do not define their pair's truth themselves."""
    in_audit = pc.equal(table["round"], AUDIT_ROUND)
    audited = pc.is_in(table["pair_id"], pc.unique(table.filter(in_audit)["pair_id"]))
    return np.asarray(pc.if_else(audited, in_audit, pc.equal(table["round"], "first")).to_numpy())


def flags(row: Mapping[str, Any], counts: Mapping[str, int], others: Mapping[str, int]) -> list[str]:
    """What a person should check, in words; empty if nothing stands out or there are too few labels.

    `counts` and `others`: how often this annotator, and all others together, gave each label.
    """
    found: list[str] = []
    if row["labels"] < FLAG_MIN_LABELS:
        return found
    top = max(counts, key=lambda label: (counts[label], label))
    share, theirs = counts[top] / row["labels"], sum(others.values())
    alone = others[top] / theirs if theirs else 0.0
    fast = row["median_seconds"] is not None and row["median_seconds"] < FAST_SECONDS
    if fast:
        found.append(f"fast: {row['median_seconds']:.1f} s per pair")
    if share >= ONE_LABEL_SHARE and (fast or (theirs and alone < OTHERS_SHARE)):
        found.append(f"one answer: {top} on {share:.0%} of the pairs, the others on {alone:.0%}")
    for kind in ("gold", "checked"):
        part = row[kind]
        if part["n"] and part["high"] < LOW_ACCURACY:
            found.append(f"inaccurate: {part['right']} of {part['n']} {kind} pairs right")
    if row["windows"]:
        start, end = row["windows"][0], row["windows"][-1]
        if wilson(end["right"], end["checked"])[1] < wilson(start["right"], start["checked"])[0]:
            found.append(f"drift: {start['accuracy']:.0%} right at the start, {end['accuracy']:.0%} at the end")
    if found:
        found.append(f"check some of them; `ndec annotate send-back {row['annotator']} --why TEXT` gives all to others")
    return found


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """The code (n,) of each value, and the values by code."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


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
    """pair_id → truth to measure annotators by: gold, audited pairs, and decided pairs of the first round's overlap.

    The overlap was drawn at random: two annotators got these pairs in one batch. Pairs that got another label because
    they were doubtful do not count, since they would make every annotator look bad. The truth of an audited pair is the
    label that most annotators gave in all rounds, if at least two gave it and no other label ties; else the decision.
    """
    rows = newest_labels(labels)
    at_once = Counter(
        (pair, batch) for pair, round_, batch in keys(rows, "pair_id", "round", "batch") if round_ == "first"
    )
    overlap = {pair for (pair, _), people in at_once.items() if people >= 2}
    audited = {pair for pair, round_ in keys(rows, "pair_id", "round") if round_ == AUDIT_ROUND}
    truth = {
        pair: label
        for pair, label in keys(decisions, "pair_id", "decision")
        if label is not None and (pair in overlap or pair in audited)
    }
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for pair, label in keys(rows, "pair_id", "label"):
        if pair in audited:
            votes[pair][label] += 1
    for pair, given in votes.items():
        (label, most), *rest = given.most_common(2)
        if most >= 2 and (not rest or most > rest[0][1]):
            truth[pair] = label
    return truth | dict(gold)
