"""Auto-clearing: what the pre-label calls edited copies is discarded unseen, once a random slice proves it right.

Off unless `ndec annotate auto-clear` is run. It can only discard a pair as an edited copy; nothing is ever accepted as
a hard negative by it. The slice is drawn at random among the pairs of a high pre-label, labelled by two people without
any pre-label in sight, and looked at again whenever decisions are made: when it contradicts, the pairs go to people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.intervals import clopper_pearson_upper
from ndec_builder.annotation.labels import no_gold
from ndec_builder.annotation.policy import clearing_threshold, copy_probabilities, draw, pairs_to_prove
from ndec_builder.core.schemas import CLEARED, conform, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace

SALT = "auto-clear"
CLEARED_BY = "cleared-by.parquet"


@dataclass(frozen=True)
class Clearing:
    """What the random slice says of the pre-labels; `threshold` is None and `refused` says why when nothing may go."""

    above: float  # the slice was drawn among pairs with at least this P(edited copy)
    allowed: float  # share of no copies that it had to exclude
    drawn: int  # pairs of the slice
    open: int  # of those without a decision of two people; they count as no copies
    checked: int  # of those at or above the threshold (of all, when refused)
    wrong: int  # of the checked ones, no copies
    threshold: float | None
    bound: float | None  # one-sided 95 % upper bound of the share of no copies at or above the threshold
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"confidence": 0.95}


def slice_pairs(probabilities: Mapping[str, float], above: float, count: int | None = None) -> list[str]:
    """`count` pairs (all, when None) with P(edited copy) ≥ `above`, in a random order that anyone can draw again."""
    high = [pair for pair, value in probabilities.items() if value >= above]
    return draw(high, len(high) if count is None else count, SALT)


def slice_of(probabilities: Mapping[str, float], above: float, given: Collection[str]) -> list[str]:
    """The random slice: the longest beginning of that order within `given`."""
    return list(takewhile(lambda pair: pair in given, slice_pairs(probabilities, above)))


def check(
    probabilities: Mapping[str, float],
    above: float,
    given: Collection[str],
    verdicts: Mapping[str, str | None],
    allowed: float,
) -> Clearing:
    """Find the lowest P(edited copy) that the slice proves, or why there is none.

    `given`: pairs that two people got (`slice_of`). `verdicts`: what at least two people decided, pair by pair; a pair
    of the slice without one counts as wrong.
    """
    drawn = slice_of(probabilities, above, given)
    values = np.array([probabilities[pair] for pair in drawn])
    copies = np.array([verdicts.get(pair) == "edited_copy" for pair in drawn], bool)
    unknown = sum(verdicts.get(pair) is None for pair in drawn)
    threshold = clearing_threshold(values, copies, allowed)
    inside = values >= threshold if threshold is not None else np.ones(len(drawn), bool)
    checked, wrong = int(inside.sum()), int((~copies & inside).sum())
    bound = clopper_pearson_upper(wrong, checked) if checked else None
    refused = "" if threshold is not None else _why(above, allowed, len(drawn), unknown, wrong, bound)
    return Clearing(above, allowed, len(drawn), unknown, checked, wrong, threshold, bound, refused)


def _why(above: float, allowed: float, drawn: int, unknown: int, wrong: int, bound: float | None) -> str:
    need = pairs_to_prove(allowed)
    if drawn < need:
        return (
            f"the random slice holds {drawn} pairs with a pre-label of at least {above:g}; {need} are needed to prove "
            f"that at most {allowed:.1%} of what is cleared are no copies. Push with `--check-pairs {need}` (or more), "
            "and let two people label them"
        )
    missing = f", {unknown} of them not decided by two people yet" if unknown else ""
    return (
        f"the random slice contradicts: {wrong} of its {drawn} pairs with a pre-label of at least {above:g} are no "
        f"proven copies{missing}; at most {bound or 1:.1%} may be wrong (one-sided 95 %), {allowed:.1%} are allowed. "
        + ("Label the slice to its end" if unknown else "Let people label these pairs, or mend the pre-labels")
    )


def check_of(cleared: pa.Table, probabilities: Mapping[str, float], tasks: pa.Table, decisions: pa.Table) -> Clearing:
    """The check behind a table CLEARED (not empty), as the labels of today tell: `decisions` are those of people.

    `probabilities`: those that were cleared by, of all pairs.
    """
    above, allowed = cleared["above"][0].as_py(), cleared["allowed"][0].as_py()
    return check(probabilities, above, given_to_two(tasks), verdicts_of_two(decisions), allowed)


def given_to_two(tasks: pa.Table) -> set[str]:
    """Pairs that two people or more got in the first round, gold left out."""
    first = no_gold(tasks.filter(pc.equal(tasks["round"], "first")))
    people = first.group_by("pair_id").aggregate([("annotator", "count_distinct")])
    return set(people.filter(pc.greater_equal(people["annotator_count_distinct"], 2))["pair_id"].to_pylist())


def read_cleared(workspace: Workspace, split: str) -> pa.Table:
    """What `ndec annotate auto-clear` discarded (schema CLEARED); empty where it was never run."""
    path = workspace.annotation(split) / "cleared.parquet"
    return conform(read_table(path), CLEARED) if path.is_file() else table_of(CLEARED, [])


def write_cleared_by(directory: Path, probabilities: Mapping[str, float]) -> None:
    """Keep P(edited copy) of all pairs as they were cleared by: relearning later changes what is believed of pairs."""
    columns = {"pair_id": list(probabilities), "probability": list(probabilities.values())}
    write_table(directory / CLEARED_BY, pa.table(columns).sort_by("pair_id"))


def cleared_by(workspace: Workspace, split: str, candidates: Iterable[pa.Table]) -> dict[str, float]:
    """P(edited copy) that the cleared pairs were cleared by; that of today where none were kept."""
    path = workspace.annotation(split) / CLEARED_BY
    if not path.is_file():
        return copy_probabilities(candidates)
    table = read_table(path)
    return dict(zip(table["pair_id"].to_pylist(), table["probability"].to_pylist(), strict=True))


def clearable(probabilities: Mapping[str, float], clearing: Clearing, labelled: Collection[str]) -> dict[str, float]:
    """Pairs at or above the proven threshold that nobody has labelled → P(edited copy); none when refused."""
    if clearing.threshold is None:
        return {}
    return {
        pair: value
        for pair, value in sorted(probabilities.items())
        if value >= clearing.threshold and pair not in labelled
    }


def verdicts_of_two(decisions: pa.Table) -> dict[str, str | None]:
    """Decisions (schema DECISIONS) that rest on two labels or more."""
    columns = (decisions[name].to_pylist() for name in ("pair_id", "decision", "labels"))
    return {pair: decision for pair, decision, labels in zip(*columns, strict=True) if labels >= 2}
