"""How good and how fast each annotator is, with intervals, over time, and what to look at: flags, not verdicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.binomial import wilson
from ndec_builder.annotation.tables import AUDIT_ROUND, newest

FAST_SECONDS = 1.5  # a median below it is no look at two pictures
ONE_LABEL_SHARE = 0.97  # of an annotator's labels that are one and the same …
OTHERS_SHARE = 0.85  # … while the others give it less often than this
MIN_LABELS = 30  # before a flag is raised
LOW_ACCURACY = 0.85
WINDOWS = 5  # stretches of equal length in which drift is shown


def annotators(labels: pa.Table, truth: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per annotator, by name. `truth`: pair → label, of gold and of pairs decided without this annotator alone.

    accuracy: share of the labels on pairs of known truth that equal it, with Wilson's 95 % interval (gold pairs and
    others apart). Only labels that did not choose the pair count: those of the audit on audited pairs (their first
    labels are why they were kept), of the first round on others (who adjudicates is always right). seconds: median;
    windows: accuracy and seconds over five stretches of the annotator's work in the order of time; flags. A gold or
    other truth of "no_copy" is met by any label but edited_copy.
    """
    table = labels.select(["pair_id", "round", "annotator", "label", "seconds", "annotated_at", "is_gold"])
    names, people = _codes(table["annotator"])
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
    for number, name in sorted(enumerate(people), key=lambda item: item[1]):
        own = np.flatnonzero(names == number)
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
    """Labels (n,) bool that were not the reason why their pair is of known truth."""
    in_audit = pc.equal(table["round"], AUDIT_ROUND)
    audited = pc.is_in(table["pair_id"], pc.unique(table.filter(in_audit)["pair_id"]))
    return np.asarray(pc.if_else(audited, in_audit, pc.equal(table["round"], "first")).to_numpy())


def flags(row: Mapping[str, Any], counts: Mapping[str, int], others: Mapping[str, int]) -> list[str]:
    """What a person should look at, in words; empty when nothing stands out or there are too few labels.

    `counts` and `others`: how often this annotator, and all others together, gave each label.
    """
    found: list[str] = []
    if row["labels"] < MIN_LABELS:
        return found
    top = max(counts, key=lambda label: (counts[label], label))
    share, theirs = counts[top] / row["labels"], sum(others.values())
    alone = others[top] / theirs if theirs else 0.0
    fast = row["median_seconds"] is not None and row["median_seconds"] < FAST_SECONDS
    if fast:
        found.append(f"fast: {row['median_seconds']:.1f} s a pair")
    if share >= ONE_LABEL_SHARE and (fast or (theirs and alone < OTHERS_SHARE)):
        found.append(f"one answer: {top} on {share:.0%} of the pairs, the others on {alone:.0%}")
    for kind in ("gold", "checked"):
        part = row[kind]
        if part["n"] and part["high"] < LOW_ACCURACY:
            found.append(f"inaccurate: {part['right']} of {part['n']} {kind} pairs right")
    if row["windows"]:
        start, end = row["windows"][0], row["windows"][-1]
        if wilson(end["right"], end["checked"])[1] < wilson(start["right"], start["checked"])[0]:
            found.append(
                f"drift: {start['accuracy']:.0%} right in the first stretch, {end['accuracy']:.0%} in the last"
            )
    if found:
        found.append(
            f"look at some of them; `ndec annotate send-back {row['annotator']} --why TEXT` gives all to others"
        )
    return found


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Each value's number (n,) and the values."""
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
    """Truth to measure people by: gold, audited pairs, and decided pairs of the first round's overlap.

    These were drawn at random. Pairs that got a second look because they were doubtful would make everybody look bad;
    so only those count that two people got at once (in one batch). Of an audited pair it is the label that most people
    gave in all rounds, when two at least gave it and it leads, else the decision.
    """
    rows = newest(labels)
    pairs, rounds = rows["pair_id"].to_pylist(), rows["round"].to_pylist()
    keys = zip(pairs, rounds, rows["batch"].to_pylist(), strict=True)
    at_once = Counter((pair, batch) for pair, round_, batch in keys if round_ == "first")
    overlap = {pair for (pair, _), people in at_once.items() if people >= 2}
    columns = (decisions[name].to_pylist() for name in ("pair_id", "decision"))
    decided = {pair: label for pair, label in zip(*columns, strict=True) if label is not None}
    audited = {pair for pair, round_ in zip(pairs, rounds, strict=True) if round_ == AUDIT_ROUND}
    truth = {pair: label for pair, label in decided.items() if pair in overlap | audited}
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for pair, label in zip(pairs, rows["label"].to_pylist(), strict=True):
        if pair in audited:
            votes[pair][label] += 1
    for pair, given in votes.items():
        (label, most), *rest = given.most_common(2)
        if most >= 2 and (not rest or most > rest[0][1]):
            truth[pair] = label
    return truth | dict(gold)
