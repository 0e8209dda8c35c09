"""Auto-clearing: discard what the pre-label calls edited copies without a label, once a random slice proves it right.

Off unless `ndec annotate auto-clear` is run. It only discards pairs as edited copies and never accepts a hard negative.
The slice is drawn at random among the pairs with a high pre-label, and annotators label it without seeing a pre-label.
The check is repeated whenever decisions are made: if labels now contradict, the pairs go to annotators.

One annotator labels each pair of the slice. A "copy" label confirms the pre-label. Any other label triggers one more,
until "no copy" leads by two labels or "copy" leads. So single slips do not count against the slice; what counts is the
share of pairs that annotators, asked twice, call no copies. A pair that is no copy may be labelled as a copy by its
only annotator; at most a share MISSED of them, so the bound is widened by 1 / (1 − MISSED).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ndec_builder.annotation.decisions.binomial import clopper_pearson_upper
from ndec_builder.annotation.decisions.label_statistics import (
    CONFIDENCE_AT_ONCE,
    MISSED,
    clearing_threshold,
    draw_pairs,
    look_confidence,
    pairs_to_prove,
)
from ndec_builder.annotation.label_tables import AUDIT_ROUND, keys, newest_labels

SALT = "auto-clear"


@dataclass(frozen=True)
class Clearing:
    """What the random slice says about the pre-labels. `threshold` is None if nothing may be cleared."""

    above: float  # the slice was drawn among pairs with at least this P(edited copy)
    allowed: float  # share of wrongly cleared pairs that must be ruled out
    drawn: int  # pairs of the slice
    open: int  # of those, without a label or disputed; they count as no copies
    checked: int  # of the slice, at or above the threshold (all, when refused)
    wrong: int  # of the checked ones, no copies
    threshold: float | None
    bound: float | None  # one-sided upper bound of the share of no copies at or above the threshold
    refused: str = ""  # why nothing may be cleared
    confidence: float = CONFIDENCE_AT_ONCE  # of the bound: all tests at all looks share 95 %
    look: int = 1  # sizes of the slice before this one that could have proven `allowed`, plus 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def slice_pairs(probabilities: Mapping[str, float], above: float, count: int | None = None) -> list[str]:
    """`count` pairs (None: all) with P(edited copy) ≥ `above`, in a random order that anyone can draw again."""
    high = [pair for pair, value in probabilities.items() if value >= above]
    return draw_pairs(high, len(high) if count is None else count, SALT)


def votes_without_audit(labels: pa.Table) -> dict[str, list[str]]:
    """pair_id → its newest labels in the table's order; without gold and the audit."""
    votes = defaultdict(list)
    for pair, round_, label in keys(newest_labels(labels), "pair_id", "round", "label"):
        if round_ != AUDIT_ROUND:
            votes[pair].append(label)
    return dict(votes)


def slice_verdict(votes: Sequence[str]) -> bool | None:
    """Whether a pair of the slice is an edited copy; None while it needs a (further) label.

    True: more labels say copy than no copy. False: "no copy" leads by two labels.
    """
    copies = votes.count("edited_copy")
    clean = len(votes) - copies - votes.count("unsure")
    return True if copies > clean else False if clean - copies >= 2 else None


def contradicted_pairs(slice_: Iterable[str], votes: Mapping[str, Sequence[str]]) -> list[str]:
    """Labelled pairs of the slice that need one more label."""
    return [pair for pair in slice_ if votes.get(pair) and slice_verdict(votes[pair]) is None]


def check_slice(
    probabilities: Mapping[str, float],
    above: float,
    count: int,
    votes: Mapping[str, Sequence[str]],
    allowed: float,
    sizes: Sequence[int] = (),
) -> Clearing:
    """Find the lowest P(edited copy) that the slice of `count` pairs proves, or why there is none.

    `votes`: the labels by pair (`votes_without_audit`). A pair of the slice without a verdict counts as wrong. `sizes`:
    of the slices that were drawn so far, this one last (`PushOptions.check_sizes`). The bound is on the share of no
    copies among all pairs at or above the threshold, with 95 % confidence over all tests at all sizes.
    """
    drawn = slice_pairs(probabilities, above, count)
    values = np.array([probabilities[pair] for pair in drawn])
    found = [slice_verdict(votes.get(pair, ())) for pair in drawn]
    copies = np.array([one is True for one in found], bool)
    look = look_number(allowed, sizes)
    proven = clearing_threshold(values, copies, allowed * (1 - MISSED), look)
    threshold, confidence = proven or (None, look_confidence(CONFIDENCE_AT_ONCE, look))
    inside = values >= threshold if threshold is not None else np.ones(len(drawn), bool)
    checked, wrong = int(inside.sum()), int((~copies & inside).sum())
    bound = min(clopper_pearson_upper(wrong, checked, confidence) / (1 - MISSED), 1.0) if checked else None
    unknown = found.count(None)
    refused = "" if threshold is not None else _refusal(above, allowed, len(drawn), unknown, wrong, bound, look)
    return Clearing(above, allowed, len(drawn), unknown, checked, wrong, threshold, bound, refused, confidence, look)


def look_number(allowed: float, sizes: Sequence[int]) -> int:
    """Which look at the slice this is, from 1: earlier sizes that were too small to prove `allowed` are none."""
    looks = 1
    for size in sizes[:-1]:
        looks += size >= smallest_slice(allowed, looks)
    return looks


def smallest_slice(allowed: float, look: int = 1) -> int:
    """Pairs that a slice needs to prove `allowed` if all of them are copies."""
    return pairs_to_prove(allowed * (1 - MISSED), look_confidence(CONFIDENCE_AT_ONCE, look))


def _refusal(above: float, allowed: float, drawn: int, unknown: int, wrong: int, bound: float | None, look: int) -> str:
    need = smallest_slice(allowed, look)
    if drawn < need:
        return (
            f"the random slice has {drawn} pairs with a pre-label of at least {above:g}; {need} are needed to prove "
            f"that at most {allowed:.1%} of the cleared pairs are no copies. Push with `--check-pairs {need}` (or "
            "more), and have them labelled"
        )
    missing = f", {unknown} of them not labelled yet or disputed" if unknown else ""
    return (
        f"the random slice contradicts: {wrong} of its {drawn} pairs with a pre-label of at least {above:g} are not "
        f"proven to be copies{missing}; at most {bound or 1:.1%} may be wrong (one-sided 95 %), {allowed:.1%} are "
        "allowed. "
        + (
            "Label all pairs of the slice; the same push gives disputed pairs to one more annotator"
            if unknown
            else "Fix the pre-labels, or enlarge the slice; that is one more look at it, so it then needs at least "
            f"{smallest_slice(allowed, look + 1)} pairs if none is wrong"
        )
    )


def recheck_cleared(
    cleared: pa.Table,
    probabilities: Mapping[str, float],
    count: int,
    votes: Mapping[str, Sequence[str]],
    sizes: Sequence[int] = (),
) -> Clearing:
    """The check behind a table CLEARED (not empty), repeated with the current labels.

    `probabilities`: P(edited copy) of all pairs at the time of clearing.
    """
    above, allowed = cleared["above"][0].as_py(), cleared["allowed"][0].as_py()
    return check_slice(probabilities, above, count, votes, allowed, sizes)


def clearable(probabilities: Mapping[str, float], clearing: Clearing, labelled: Collection[str]) -> dict[str, float]:
    """pair_id → P(edited copy) of the pairs at or above the proven threshold without a label; none when refused."""
    if clearing.threshold is None:
        return {}
    return {
        pair: value
        for pair, value in sorted(probabilities.items())
        if value >= clearing.threshold and pair not in labelled
    }
