"""Auto-clearing: what the pre-label calls edited copies is discarded unseen, once a random slice proves it right.

Off unless `ndec annotate auto-clear` is run. It can only discard a pair as an edited copy; nothing is ever accepted as
a hard negative by it. The slice is drawn at random among the pairs of a high pre-label; people label it without any
pre-label in sight, and it is looked at again whenever decisions are made: when it contradicts, the pairs go to people.

One person judges a pair of the slice. Who says copy confirms the pre-label; who says anything else is asked after: one
more person looks, until no copy leads by two labels or copy leads. So slips of people do not count against the slice,
and what does count is the share of pairs that people, asked twice, call no copies. A no-copy that its one judge takes
for a copy is missed; that may be a share MISSED of them at most, and the bound is widened by 1 / (1 − MISSED).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ndec_builder.annotation.decisions.binomial import clopper_pearson_upper
from ndec_builder.annotation.decisions.label_statistics import MISSED, WHOLE, clearing_threshold, draw, pairs_to_prove
from ndec_builder.annotation.tables import AUDIT_ROUND, newest

SALT = "auto-clear"


@dataclass(frozen=True)
class Clearing:
    """What the random slice says of the pre-labels; `threshold` is None and `refused` says why when nothing may go."""

    above: float  # the slice was drawn among pairs with at least this P(edited copy)
    allowed: float  # share of no copies that it had to exclude
    drawn: int  # pairs of the slice
    open: int  # of those that nobody has labelled, or on which people are at odds; they count as no copies
    checked: int  # of those at or above the threshold (of all, when refused)
    wrong: int  # of the checked ones, no copies
    threshold: float | None
    bound: float | None  # one-sided upper bound of the share of no copies at or above the threshold
    refused: str = ""
    confidence: float = WHOLE  # of the bound: the two tests of `clearing_threshold` share out 95 %

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def slice_pairs(probabilities: Mapping[str, float], above: float, count: int | None = None) -> list[str]:
    """`count` pairs (all, when None) with P(edited copy) ≥ `above`, in a random order that anyone can draw again."""
    high = [pair for pair, value in probabilities.items() if value >= above]
    return draw(high, len(high) if count is None else count, SALT)


def votes_in(labels: pa.Table) -> dict[str, list[str]]:
    """The newest labels of each pair, in the table's order; gold and the audit left out."""
    rows, votes = newest(labels), defaultdict(list)
    columns = (rows[name].to_pylist() for name in ("pair_id", "round", "label"))
    for pair, round_, label in zip(*columns, strict=True):
        if round_ != AUDIT_ROUND:
            votes[pair].append(label)
    return dict(votes)


def verdict(votes: Sequence[str]) -> bool | None:
    """Whether a pair of the slice is an edited copy; None while people have to look (again).

    True: more labels say copy than no copy. False: no copy leads by two labels.
    """
    copies = votes.count("edited_copy")
    clean = len(votes) - copies - votes.count("unsure")
    return True if copies > clean else False if clean - copies >= 2 else None


def contradicted(slice_: Iterable[str], votes: Mapping[str, Sequence[str]]) -> list[str]:
    """Labelled pairs of the slice that one more person has to look at."""
    return [pair for pair in slice_ if votes.get(pair) and verdict(votes[pair]) is None]


def check(
    probabilities: Mapping[str, float], above: float, count: int, votes: Mapping[str, Sequence[str]], allowed: float
) -> Clearing:
    """Find the lowest P(edited copy) that the slice of `count` pairs proves, or why there is none.

    `votes`: the labels by pair (`votes_in`). A pair of the slice without a verdict counts as wrong. What is bounded,
    with 95 % confidence over all that is tried, is the share of no copies among all pairs at or above the threshold.
    """
    drawn = slice_pairs(probabilities, above, count)
    values = np.array([probabilities[pair] for pair in drawn])
    found = [verdict(votes.get(pair, ())) for pair in drawn]
    copies = np.array([one is True for one in found], bool)
    proven = clearing_threshold(values, copies, allowed * (1 - MISSED))
    threshold, confidence = proven or (None, WHOLE)
    inside = values >= threshold if threshold is not None else np.ones(len(drawn), bool)
    checked, wrong = int(inside.sum()), int((~copies & inside).sum())
    bound = min(clopper_pearson_upper(wrong, checked, confidence) / (1 - MISSED), 1.0) if checked else None
    unknown = found.count(None)
    refused = "" if threshold is not None else _why(above, allowed, len(drawn), unknown, wrong, bound)
    return Clearing(above, allowed, len(drawn), unknown, checked, wrong, threshold, bound, refused, confidence)


def least_slice(allowed: float) -> int:
    """Pairs of a slice that prove `allowed` when none of them is a no-copy."""
    return pairs_to_prove(allowed * (1 - MISSED), WHOLE)


def _why(above: float, allowed: float, drawn: int, unknown: int, wrong: int, bound: float | None) -> str:
    need = least_slice(allowed)
    if drawn < need:
        return (
            f"the random slice holds {drawn} pairs with a pre-label of at least {above:g}; {need} are needed to prove "
            f"that at most {allowed:.1%} of what is cleared are no copies. Push with `--check-pairs {need}` (or more), "
            "and let people label them"
        )
    missing = f", {unknown} of them not labelled yet or disputed" if unknown else ""
    return (
        f"the random slice contradicts: {wrong} of its {drawn} pairs with a pre-label of at least {above:g} are no "
        f"proven copies{missing}; at most {bound or 1:.1%} may be wrong (one-sided 95 %), {allowed:.1%} are allowed. "
        + (
            "Label the slice to its end; the same push gives disputed pairs to one more person"
            if unknown
            else "Let people label these pairs, or mend the pre-labels"
        )
    )


def check_of(
    cleared: pa.Table, probabilities: Mapping[str, float], count: int, votes: Mapping[str, Sequence[str]]
) -> Clearing:
    """The check behind a table CLEARED (not empty), as the labels of today tell.

    `probabilities`: those that were cleared by, of all pairs.
    """
    above, allowed = cleared["above"][0].as_py(), cleared["allowed"][0].as_py()
    return check(probabilities, above, count, votes, allowed)


def clearable(probabilities: Mapping[str, float], clearing: Clearing, labelled: Collection[str]) -> dict[str, float]:
    """Pairs at or above the proven threshold that nobody has labelled → P(edited copy); none when refused."""
    if clearing.threshold is None:
        return {}
    return {
        pair: value
        for pair, value in sorted(probabilities.items())
        if value >= clearing.threshold and pair not in labelled
    }
