"""Weighted decisions: the most probable class of a pair, instead of a majority vote.

A label counts more if its annotator is more accurate, and the relearnt pre-label counts as well (dawid_skene.py). A
pair is decided if the remaining doubt whether it is a copy is within the tolerance; else it stays open and gets one
more label. So a single slip decides nothing, and clear pairs need no further label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

from ndec_builder.annotation.decisions.dawid_skene import CLASSES
from ndec_builder.annotation.decisions.label_statistics import posterior_of
from ndec_builder.annotation.label_tables import AUDIT_ROUND, ClassProbabilities, keys, newest_labels

PairDecisions = dict[str, tuple[str | None, str | None]]


def weighted_decisions(
    labels: pa.Table,
    prior: Mapping[str, float] | Mapping[str, ClassProbabilities],
    tolerance: float,
    discard_tolerance: float,
) -> PairDecisions:
    """(decision, basis) of each labelled pair, from the newest labels of all rounds except the audit; without gold.

    edited_copy: P(edited copy) ≥ 1 − `discard_tolerance`. The more probable of hard_negative and unrelated: P(edited
    copy) ≤ `tolerance`. unsure: at least two labels say so, and at least half of all. Anything else is open: (None,
    None). basis is the last round of the pair: agreed (first), double_checked, adjudicated.
    """
    pairs, found = posterior_of(labels, prior)
    given: dict[str, list[str]] = defaultdict(list)
    rounds: dict[str, set[str]] = defaultdict(set)
    for pair, round_, label in keys(newest_labels(labels), "pair_id", "round", "label"):
        if round_ != AUDIT_ROUND:
            given[pair].append(label)
            rounds[pair].add(round_)
    decisions: PairDecisions = {}
    for pair, (copy, hard, unrelated) in zip(pairs, found.probabilities.tolist(), strict=True):
        unsure = given[pair].count("unsure")
        if unsure >= 2 and 2 * unsure >= len(given[pair]):
            decision = "unsure"
        elif copy >= 1 - discard_tolerance:
            decision = CLASSES[0]
        elif copy <= tolerance:
            decision = CLASSES[1] if hard >= unrelated else CLASSES[2]
        else:
            decisions[pair] = (None, None)
            continue
        decisions[pair] = (decision, _basis(rounds[pair]))
    return decisions


def _basis(rounds: set[str]) -> str:
    if "adjudication" in rounds:
        return "adjudicated"
    return "double_checked" if "double_check" in rounds else "agreed"
