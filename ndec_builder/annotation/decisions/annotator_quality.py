"""How accurate and how fast each annotator is, with intervals and over time; flags say what a person should check."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.binomial import wilson
from ndec_builder.annotation.label_tables import AUDIT_ROUND, keys, newest_labels, uncorrected
from ndec_builder.core.console import number_of
from ndec_builder.core.vocabulary import ROUNDS

FAST_SECONDS = 1.5  # a lower median is too fast to compare two images
ONE_LABEL_SHARE = 0.97  # flagged: one label makes up this share of an annotator's labels, and others give it less often
FAST_PACE = 3600 / FAST_SECONDS  # labels an hour, by Label Studio's clock; an easy queue can be that fast
# A person needs about half a second to choose one of four keys for a picture that is already known; nobody compares two
# new ones faster, hour after hour.
IMPOSSIBLE_PACE = 3600 / 0.5
REACTION_SECONDS = 0.2  # nobody sees two pictures, decides and presses a key in less, at the median
PAUSE_SECONDS = 300.0  # a longer gap between two labels is a break, not work
FLAG_MIN_LABELS = 30  # no flags below this number of labels
LOW_ACCURACY = 0.85
WINDOWS = 5  # consecutive parts of an annotator's labels, of equal length, that show drift


def annotator_report(
    labels: pa.Table, truth: Mapping[str, str], undecided: Collection[str] = ()
) -> list[dict[str, Any]]:
    """One row per annotator, by name. `truth`: pair_id → label of the pairs of known truth (`known_truth`).

    A label that was corrected later does not count, except for the pace.

    `undecided`: pairs that belong to the same random draws but have no decision yet (`undecided_truth`).

    `gold` and `checked`: share of the labels on gold pairs, and on other pairs of known truth, that are right, with
    Wilson's 95 % interval. Only labels that do not define the truth themselves count: on audited pairs those of the
    audit (the first label is why the pair was kept), on others those of the first round (an adjudicator would always be
    right). Pairs on which annotators differ are the ones that wait for a decision, and leaving them out would make
    everybody right: while `checked` has `open` ones, its share is null, and its interval takes them for wrong at the
    lower end and for right at the upper one. Two annotators who make the same mistake both count as right. `pace`:
    labels per hour of work by Label Studio's clock, null if there is nothing to measure. `windows`: accuracy and median
    seconds over five consecutive parts of the annotator's work. The truth "no_copy" accepts any label except
    edited_copy.
    """
    table = labels.select(["pair_id", "round", "annotator", "label", "seconds", "annotated_at", "is_gold"])
    every_who, every_name = _codes(table["annotator"])
    every_moment = table["annotated_at"].cast(pa.int64()).to_numpy()
    table = uncorrected(table)
    who, names = _codes(table["annotator"])
    given = np.array(table["label"].to_pylist(), object)
    answers, words = _codes(table["label"])
    known = np.array([truth.get(pair) for pair in table["pair_id"].to_pylist()], object)
    right = np.where(known == "no_copy", given != "edited_copy", given == known)
    gold = table["is_gold"].to_numpy()
    measuring = gold | _measuring(table)
    checked = np.array([value is not None for value in known], bool) & measuring
    waits = measuring & ~checked & ~gold & np.array([pair in undecided for pair in table["pair_id"].to_pylist()], bool)
    seconds = table["seconds"].cast(pa.float64()).to_numpy()
    moments = table["annotated_at"].cast(pa.int64()).to_numpy()
    rows = []
    rounds = np.array([ROUNDS.index(name) for name in table["round"].to_pylist()], np.int64)
    pairs, _ = _codes(table["pair_id"])
    for number, name in sorted(enumerate(names), key=lambda item: item[1]):
        own = np.flatnonzero(who == number)
        own = own[np.argsort(moments[own], kind="stable")]
        counts = np.bincount(answers[own], minlength=len(words))
        top = max(range(len(words)), key=lambda word: (counts[word], words[word]))
        row = {
            "annotator": name,
            "labels": len(own),
            "median_seconds": _median(seconds[own]),
            "pace": pace(every_moment[every_who == every_name.index(name)]),
            "gold": _share(right[own][gold[own] & checked[own]]),
            "checked": _share(right[own][~gold[own] & checked[own]], int(waits[own].sum())),
            "windows": [
                {"labels": len(part), "accuracy": None if waits[part].any() else _mean(right[part][checked[part]]),
                 "checked": int(checked[part].sum()), "right": int(right[part][checked[part]].sum()),
                 "open": int(waits[part].sum()),
                 "seconds": _median(seconds[part])}
                for part in np.array_split(own, WINDOWS)
                if len(part)
            ],
        }  # fmt: skip
        usual = _usual_share(answers == top, own, who == number, rounds, pairs)
        rows.append(row | {"flags": flags(row, words[top], int(counts[top]), usual)})
    return rows


def pace(moments: np.ndarray) -> float | None:
    """Labels per hour of work, from the times (n,) int64 of labels in microseconds; None without two close in time.

    Gaps above five minutes are breaks.
    """
    gaps = np.diff(np.sort(moments)) / 1e6
    working = gaps[gaps <= PAUSE_SECONDS]
    total = float(working.sum())
    return round(3600 * len(working) / total, 1) if total > 0 else None


def faster_than_people(report: Sequence[Mapping[str, Any]], pace_limit: float = IMPOSSIBLE_PACE) -> list[str]:
    """Annotators of an `annotator_report` who gave labels faster than a person can, by name.

    A dataset must not say that people gave such labels, and not call a fast person a program. Rows of older versions,
    which lack `pace`, are not named. `pace_limit`: labels an hour.
    """

    def impossible(row: Mapping[str, Any]) -> bool:
        seconds = row.get("median_seconds")
        return (row.get("pace") or 0.0) > pace_limit or (seconds is not None and seconds < REACTION_SECONDS)

    return sorted(row["annotator"] for row in report if row["labels"] >= FLAG_MIN_LABELS and impossible(row))


def _usual_share(
    is_top: np.ndarray, own: np.ndarray, mine: np.ndarray, rounds: np.ndarray, pairs: np.ndarray
) -> tuple[str, int, int, int, int]:
    """(which pairs, own labels, those that are the top label, others' labels, those that are it): what to expect.

    Others' labels of the same pairs, in the same or an earlier round: a later round has only pairs that were chosen by
    the label. If there are too few, others' labels of other pairs in the annotator's main round.
    """
    shared: list[np.ndarray] = [np.zeros(0, np.int64)]
    theirs: list[np.ndarray] = [np.zeros(0, np.int64)]
    for round_ in np.unique(rounds[own]):
        here = own[rounds[own] == round_]
        others = np.flatnonzero(~mine & (rounds <= round_) & np.isin(pairs, pairs[here]))
        shared.append(here[np.isin(pairs[here], pairs[others])])
        theirs.append(others)
    mine_there, theirs_there = np.concatenate(shared), np.concatenate(theirs)
    if len(mine_there) < FLAG_MIN_LABELS:
        main = np.bincount(rounds[own]).argmax()
        mine_there, theirs_there = own[rounds[own] == main], np.flatnonzero(~mine & (rounds == main))
        where = f"of the round {ROUNDS[main]}"
    else:
        where = "that others labelled too"
    return (
        where,
        len(mine_there),
        int(is_top[mine_there].sum()),
        len(theirs_there),
        int(is_top[theirs_there].sum()),
    )


def _measuring(table: pa.Table) -> np.ndarray:
    """Labels (n,) bool that do not define their pair's truth themselves."""
    in_audit = pc.equal(table["round"], AUDIT_ROUND)
    audited = pc.is_in(table["pair_id"], pc.unique(table.filter(in_audit)["pair_id"]))
    return np.asarray(pc.if_else(audited, in_audit, pc.equal(table["round"], "first")).to_numpy())


def flags(row: Mapping[str, Any], top: str, given: int, usual: tuple[str, int, int, int, int]) -> list[str]:
    """What a person should check, in words; empty if nothing stands out or there are too few labels.

    `top`: the label that this annotator gave most, `given` times; `usual`: `_usual_share` of it.
    """
    found: list[str] = []
    if row["labels"] < FLAG_MIN_LABELS:
        return found
    fast = row["median_seconds"] is not None and row["median_seconds"] < FAST_SECONDS
    if fast:
        found.append(f"fast: {row['median_seconds']:.1f} s per pair")
    if row["pace"] is not None and row["pace"] > FAST_PACE:
        kind = "impossible" if row["pace"] > IMPOSSIBLE_PACE else "fast"
        found.append(f"{kind} pace: {row['pace']:,.0f} labels an hour by Label Studio's clock")
    where, mine, mine_top, theirs, theirs_top = usual
    low, high = wilson(mine_top, mine)[0], wilson(theirs_top, theirs)[1]
    if theirs >= FLAG_MIN_LABELS and mine_top >= ONE_LABEL_SHARE * mine and low > high:
        expected = f"the others on {theirs_top / theirs:.0%} (at most {high:.0%})"
        found.append(f"one answer: {top} on {mine_top / mine:.0%} of {number_of(mine, 'pair')} {where}, {expected}")
    elif fast and theirs < FLAG_MIN_LABELS and given >= ONE_LABEL_SHARE * row["labels"]:
        found.append(f"one answer: {top} on {given / row['labels']:.0%} of the pairs, and nobody else to compare with")
    for kind in ("gold", "checked"):
        part = row[kind]
        if part["n"] and part["high"] < LOW_ACCURACY:
            found.append(f"inaccurate: {part['right']} of {number_of(part['n'], f'{kind} pair')} right")
    if row["windows"]:
        start, end = row["windows"][0], row["windows"][-1]
        at_least = wilson(start["right"], start["checked"] + start["open"])[0]
        at_most = wilson(end["right"] + end["open"], end["checked"] + end["open"])[1]
        if at_most < at_least:
            share = [f"{part['right'] / part['checked']:.0%}" if part["checked"] else "0%" for part in (start, end)]
            found.append(f"drift: {share[0]} right at the start, {share[1]} at the end")
    if found:
        found.append(f"check some of them; `ndec annotate send-back {row['annotator']} --why TEXT` gives all to others")
    return found


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """The code (n,) of each value, and the values by code."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def _share(right: np.ndarray, waiting: int = 0) -> dict[str, Any]:
    successes, count = int(right.sum()), len(right)
    low, high = wilson(successes, count + waiting)[0], wilson(successes + waiting, count + waiting)[1]
    share = successes / count if count and not waiting else None
    return {"n": count, "right": successes, "open": waiting, "share": share, "low": low, "high": high}


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
    overlap, audited = _drawn_pairs(rows)
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


def undecided_truth(labels: pa.Table, decisions: pa.Table, truth: Mapping[str, str]) -> set[str]:
    """Pairs of the overlap and the audit that `known_truth` lacks because annotators differ about them."""
    overlap, audited = _drawn_pairs(newest_labels(labels))
    undecided = {pair for pair, label in keys(decisions, "pair_id", "decision") if label is None}
    return ((overlap | audited) & undecided) - set(truth)


def _drawn_pairs(rows: pa.Table) -> tuple[set[str], set[str]]:
    """(Pairs that several annotators got in one batch of the first round, pairs with a label of the audit)."""
    at_once = Counter(
        (pair, batch) for pair, round_, batch in keys(rows, "pair_id", "round", "batch") if round_ == "first"
    )
    overlap = {pair for (pair, _), people in at_once.items() if people >= 2}
    return overlap, {pair for pair, round_ in keys(rows, "pair_id", "round") if round_ == AUDIT_ROUND}
