"""Skipped pairs and withdrawn labels: rows of skips.parquet say which label rows no longer count.

A row names the number of label rows of its (pair, round, annotator) at that time. These first rows do not count any
more, and a label given later does. So the meaning does not depend on any clock.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.label_tables import Key, keys
from ndec_builder.annotation.records.pictures import ShownPictures

SKIPPED, DELETED, OFFERED_AGAIN = "skipped", "deleted", "offered_again"  # kinds of rows


@dataclass(frozen=True, slots=True)
class LabelState:
    """One annotator's standing on one pair in one round."""

    label: str | None = None  # the newest label that was not withdrawn
    rows: int = 0  # label rows so far, withdrawn ones included
    skipped: bool = False  # the annotator skipped the pair and has not been given it again
    project: int | None = None  # Label Studio's project of the newest label row


def without_withdrawn(labels: pa.Table, skips: pa.Table) -> pa.Table:
    """The label rows that were not withdrawn, in the table's order."""
    void = _void_rows(skips)
    if not void:
        return labels
    seen: Counter[Key] = Counter()
    kept = []
    for key in keys(labels):
        seen[key] += 1
        kept.append(seen[key] > void.get(key, 0))
    return labels.filter(pa.array(kept, pa.bool_()))


def skipped_keys(labels: Iterable[pa.Table], skips: pa.Table, shown: ShownPictures | None = None) -> set[Key]:
    """(pair, round, annotator) of pairs that were skipped, not labelled since, and not given out again.

    `labels`: the labels table in parts, which are read only if there are skips · `shown`: labels of pictures that were
    replaced are no labels of the pair.
    """
    last = {key: (kind, rows) for *key_, kind, rows in keys(skips, *_NAMES) for key in [tuple(key_)]}
    given: Counter[Key] = Counter()
    labelled: set[Key] = set()
    for part in labels if last else ():
        former = itertools.repeat(False) if shown is None else shown.former_labels(part)
        for key_, is_old in zip(keys(part), former, strict=shown is not None):
            key = tuple(key_)
            if key in last:
                given[key] += 1
                if given[key] > last[key][1] and not is_old:
                    labelled.add(key)
    return {key for key, (kind, _) in last.items() if kind == SKIPPED and key not in labelled}


def waiting_skips(skipped: set[Key], tasks: pa.Table) -> set[Key]:
    """The skipped pairs that nobody else has got yet: a push that hands one over replaces the row of its task."""
    return skipped & set(keys(tasks)) if skipped else skipped


_NAMES = ("pair_id", "round", "annotator", "kind", "label_rows")


def label_states(labels: pa.Table, skips: pa.Table) -> dict[Key, LabelState]:
    """The state of every (pair, round, annotator) that has a label row or a row of skips.

    `question_states` tells apart the labels of the pictures that a pair has and had.
    """
    void, skipped = _void_rows(skips), skipped_keys([labels], skips)
    shared: dict[Any, Any] = {}  # few differ
    rows: dict[Key, tuple[int, str | None, int | None]] = dict.fromkeys({*void, *skipped}, (0, None, None))
    for *key_, label, project in keys(labels, "pair_id", "round", "annotator", "label", "project"):
        key = tuple(key_)
        row = (rows[key][0] + 1 if key in rows else 1, label, project)
        rows[key] = shared.setdefault(row, row)
    states: dict[Key, Any] = rows  # in place: a second dict of a million pairs takes 100 MB
    for key, (count, label, project) in rows.items():
        state = LabelState(label if count > void.get(key, 0) else None, count, key in skipped, project)
        states[key] = shared.setdefault(state, state)
    return states


def question_states(labels: pa.Table, skips: pa.Table, shown: ShownPictures) -> dict[str | None, LabelState]:
    """Question (records/pictures.py) → state of one annotator in one round, whose rows these are.

    `rows` counts those of all pictures of the pair, because rows of skips do.
    """
    states: dict[str | None, LabelState] = {pair: state for (pair, *_), state in label_states(labels, skips).items()}
    touched = [pair for pair in shown.touched if pair in states]
    if not touched:
        return states
    void = {pair: rows for (pair, *_), rows in _void_rows(skips).items()}
    for pair in touched:  # tasks of older versions have no tag
        states[pair] = states[shown.question(pair, None)] = replace(states[pair], label=None, project=None)
    seen: Counter[str] = Counter()
    own = labels.filter(pc.is_in(labels["pair_id"], pa.array(touched, pa.string())))
    for pair, tag, label, project in keys(own, "pair_id", "pictures", "label", "project"):
        seen[pair] += 1
        counts = seen[pair] > void.get(pair, 0)
        states[shown.question(pair, tag)] = replace(states[pair], label=label if counts else None, project=project)
    return states


def _void_rows(skips: pa.Table) -> dict[Key, int]:
    """How many of the first label rows of each (pair, round, annotator) were withdrawn."""
    void: dict[Key, int] = {}
    for *key_, _, rows in keys(skips, *_NAMES):
        key = tuple(key_)
        if rows:
            void[key] = max(void.get(key, 0), rows)
    return void


def skips_by_annotator(skipped: Iterable[Key]) -> dict[str, int]:
    """How many pairs each annotator has skipped now, by name."""
    return dict(sorted(Counter(annotator for _, _, annotator in skipped).items()))
