"""Labels → one decision per pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.audit import Audit, judges, kept_pairs, look, overruled, sample, votes_of
from ndec_builder.annotation.decisions.clearing import Clearing, check_of, clearable, votes_in
from ndec_builder.annotation.decisions.label_statistics import prior_of
from ndec_builder.annotation.decisions.weighted import Verdicts, weighed
from ndec_builder.annotation.push_options import read_told
from ndec_builder.annotation.settings import DecisionRules
from ndec_builder.annotation.tables import (
    AUDIT_ROUND,
    candidate_tables,
    cleared_by,
    counting_labels,
    latest_labels,
    no_gold,
    read_cleared,
    read_relearnt,
)
from ndec_builder.core.schemas import DECISIONS, table_of
from ndec_builder.core.workspace import Workspace


def decide(rows: list[dict[str, Any]]) -> tuple[str | None, str | None]:
    """(decision, basis) from a pair's newest labels.

    Adjudication wins over all; else first-round and double-check labels must all be equal. Anything else, and no
    label at all, is undecided: (None, None).
    """
    by_round = {name: {row["label"] for row in rows if row["round"] == name} for name in ("first", "double_check")}
    adjudicated = {row["label"] for row in rows if row["round"] == "adjudication"}
    if adjudicated:
        return (adjudicated.pop(), "adjudicated") if len(adjudicated) == 1 else (None, None)
    seen = by_round["first"] | by_round["double_check"]
    if len(seen) != 1:
        return None, None
    return seen.pop(), "double_checked" if by_round["double_check"] else "agreed"


def resolve(
    tasks: pa.Table,
    labels: pa.Table,
    cleared: Collection[str] = (),
    *,
    audited: bool = True,
    verdicts: Verdicts | None = None,
) -> pa.Table:
    """One row (schema DECISIONS) per pair of the tasks and of `cleared`, ascending pair_id, undecided ones with a null
    decision. Gold pairs are no pairs of the dataset and left out.

    `labels` counts the newest labels of every round; `agreement` is the share of them equal to the decision. What two
    people of the audit say overrules a hard_negative, unless `audited` is off (the audit measures what was kept before
    it). A pair of `cleared` without a label is an edited_copy, auto_cleared; with one, people decide. `verdicts`:
    decisions that weigh labels (weighing.py) instead of `decide`'s.
    """
    newest = latest_labels(no_gold(labels))
    votes_in_audit = votes_of(labels) if audited else {}
    decisions = []
    for pair_id in sorted({*no_gold(tasks)["pair_id"].to_pylist(), *cleared}):
        rows = [row for row in newest.get(pair_id, []) if audited or row["round"] != AUDIT_ROUND]
        decision, basis = decide(rows) if verdicts is None else verdicts.get(pair_id, (None, None))
        if decision == "hard_negative":
            decision, basis = overruled(votes_in_audit.get(pair_id, ())) or (decision, basis)
        if not rows and pair_id in cleared:
            decision, basis = "edited_copy", "auto_cleared"
        votes = Counter(row["label"] for row in rows)
        decisions.append(
            {"pair_id": pair_id, "decision": decision, "basis": basis, "labels": len(rows),
             "agreement": votes[decision] / len(rows) if decision and rows else None}
        )  # fmt: skip
    return table_of(DECISIONS, decisions)


@dataclass(frozen=True, eq=False)
class Resolved:
    """Decisions, and what is known of how good they are."""

    decisions: pa.Table
    kept: list[str]  # hard negatives that a dataset would keep, before the audit overrules some
    sample: list[str]  # of those, drawn for the audit
    audit: Audit
    clearing: Clearing | None  # None: nothing was auto-cleared
    withdrawn: int  # pairs that were cleared and are not any more

    @property
    def cleared(self) -> int:
        return int(pc.sum(pc.equal(self.decisions["basis"], "auto_cleared")).as_py() or 0)


def resolved(
    workspace: Workspace, split: str, tasks: pa.Table, labels: pa.Table, how: DecisionRules | None = None
) -> Resolved:
    """Decide every pair of a split from the labels that count; looks at the audit and at the check of auto-clearing.

    `how`: whether labels are weighed, and what doubt is left alone then; None: they are counted.
    """
    candidates = candidate_tables(workspace, split)
    clearing, cleared = _still_cleared(workspace, split, labels, candidates)
    verdicts = verdicts_of(workspace, split, labels, candidates, how) if how else None
    without = resolve(tasks, labels, cleared, audited=False, verdicts=verdicts)
    kept = kept_pairs(pa.concat_tables(candidates) if candidates else None, without, split)
    given = tasks.filter(pc.equal(tasks["round"], AUDIT_ROUND))["pair_id"].to_pylist()
    drawn = sample(kept, set(given))
    return Resolved(
        resolve(tasks, labels, cleared, verdicts=verdicts) if given else without,
        kept,
        drawn,
        look(len(kept), drawn, votes_of(labels), judges(workspace.annotation(split))),
        clearing,
        read_cleared(workspace, split).num_rows - len(cleared),
    )


def verdicts_of(
    workspace: Workspace, split: str, labels: pa.Table, candidates: list[pa.Table], how: DecisionRules
) -> Verdicts | None:
    """Decisions that weigh labels with what was relearnt; None where they are counted."""
    if how.decide != "weighed":
        return None
    prior = prior_of(candidates, read_relearnt(workspace, split))
    return weighed(labels, prior, how.tolerance, how.discard_tolerance)


def standing(workspace: Workspace, split: str) -> set[str]:
    """Pairs that are auto-cleared and still may be, as the labels of today tell."""
    if not read_cleared(workspace, split).num_rows:
        return set()
    labels, candidates = counting_labels(workspace, split), candidate_tables(workspace, split)
    return _still_cleared(workspace, split, labels, candidates)[1]


def _still_cleared(
    workspace: Workspace, split: str, labels: pa.Table, candidates: list[pa.Table]
) -> tuple[Clearing | None, set[str]]:
    table = read_cleared(workspace, split)
    if not table.num_rows:
        return None, set()
    probabilities = cleared_by(workspace, split, candidates)
    size = read_told(workspace.annotation(split)).check_pairs
    clearing = check_of(table, probabilities, size, votes_in(labels))
    allowed = clearable(probabilities, clearing, ())
    return clearing, {pair for pair in table["pair_id"].to_pylist() if pair in allowed}
