"""Decisions that weigh labels: what a pair is by everything that is known of it, instead of by counting hands.

A label counts as much as its annotator is worth, and what relearning thinks of the pair counts as well (posterior.py).
A pair is decided when the doubt that is left, copy or not, is within the tolerance; else it is open, and one more
person looks. So a single slip decides nothing, and nobody is asked about what is plain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

from ndec_builder.annotation.decisions.dawid_skene import CLASSES
from ndec_builder.annotation.decisions.label_statistics import posterior_of
from ndec_builder.annotation.tables import AUDIT_ROUND, Three, newest

Verdicts = dict[str, tuple[str | None, str | None]]


def weighed(
    labels: pa.Table, prior: Mapping[str, float] | Mapping[str, Three], tolerance: float, discard_tolerance: float
) -> Verdicts:
    """(decision, basis) of each labelled pair, from the newest labels of all rounds but the audit; gold left out.

    A copy: P(edited copy) ≥ 1 − `discard_tolerance`. The likelier of hard negative and unrelated: P(edited copy) ≤
    `tolerance`. unsure: two or more say so, and at least half of all who looked. Anything else is open: (None, None).
    basis is the last round that the pair was in: agreed (first), double_checked, adjudicated.
    """
    pairs, found = posterior_of(labels, prior)
    rows = newest(labels)
    given: dict[str, list[str]] = defaultdict(list)
    rounds: dict[str, set[str]] = defaultdict(set)
    columns = (rows[name].to_pylist() for name in ("pair_id", "round", "label"))
    for pair, round_, label in zip(*columns, strict=True):
        if round_ != AUDIT_ROUND:
            given[pair].append(label)
            rounds[pair].add(round_)
    verdicts: Verdicts = {}
    for pair, (copy, hard, unrelated) in zip(pairs, found.probabilities.tolist(), strict=True):
        unsure = given[pair].count("unsure")
        if unsure >= 2 and 2 * unsure >= len(given[pair]):
            decision = "unsure"
        elif copy >= 1 - discard_tolerance:
            decision = CLASSES[0]
        elif copy <= tolerance:
            decision = CLASSES[1] if hard >= unrelated else CLASSES[2]
        else:
            verdicts[pair] = (None, None)
            continue
        verdicts[pair] = (decision, _basis(rounds[pair]))
    return verdicts


def _basis(rounds: set[str]) -> str:
    if "adjudication" in rounds:
        return "adjudicated"
    return "double_checked" if "double_check" in rounds else "agreed"
