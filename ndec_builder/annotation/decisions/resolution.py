"""Labels → one decision per pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.audit import (
    Audit,
    audit_judges,
    audit_sample,
    audit_votes,
    evaluate_audit,
    kept_pairs,
    overruled,
    sample_chances,
    skipped_in_audit,
)
from ndec_builder.annotation.decisions.clearing import Clearing, clearable, recheck_cleared, votes_without_audit
from ndec_builder.annotation.decisions.label_statistics import prior_of
from ndec_builder.annotation.decisions.weighted import PairDecisions, weighted_decisions
from ndec_builder.annotation.label_tables import AUDIT_ROUND, labels_by_pair, no_gold
from ndec_builder.annotation.settings import DecisionRules
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import DECISIONS, table_of


def decide(rows: list[dict[str, Any]]) -> tuple[str | None, str | None]:
    """(decision, basis) from a pair's newest labels.

    Adjudication overrides the other rounds; otherwise all labels of the first round and the double-check must be equal.
    Anything else, and no label at all, is undecided: (None, None).
    """
    by_round = {name: {row["label"] for row in rows if row["round"] == name} for name in ("first", "double_check")}
    adjudicated = {row["label"] for row in rows if row["round"] == "adjudication"}
    if adjudicated:
        return (adjudicated.pop(), "adjudicated") if len(adjudicated) == 1 else (None, None)
    seen = by_round["first"] | by_round["double_check"]
    if len(seen) != 1:
        return None, None
    return seen.pop(), "double_checked" if by_round["double_check"] else "agreed"


def decision_table(
    tasks: pa.Table,
    labels: pa.Table,
    cleared: Collection[str] = (),
    *,
    audited: bool = True,
    weighted: PairDecisions | None = None,
) -> pa.Table:
    """One row (schema DECISIONS) per pair of the tasks and of `cleared`, ascending pair_id; undecided pairs have a null
    decision. Gold pairs are not part of the dataset and left out.

    The column `labels` counts the newest labels of all rounds; `agreement` is the share of them that equals the
    decision. The audit can overrule a hard_negative, unless `audited` is off (the audit measures what was kept before
    it). A pair of `cleared` without a label is an edited_copy, auto_cleared; with a label, the labels decide.
    `weighted`: weighted decisions that replace those of `decide`.
    """
    by_pair = labels_by_pair(no_gold(labels))
    votes_in_audit = audit_votes(labels) if audited else {}
    decisions = []
    for pair_id in sorted({*no_gold(tasks)["pair_id"].to_pylist(), *cleared}):
        rows = [row for row in by_pair.get(pair_id, []) if audited or row["round"] != AUDIT_ROUND]
        decision, basis = decide(rows) if weighted is None else weighted.get(pair_id, (None, None))
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
class Resolution:
    """The decisions, and what is known about their quality."""

    decisions: pa.Table
    kept: list[str]  # hard negatives that a dataset would keep, before the audit overrules some
    sample: list[str]  # of those, drawn for the audit
    audit: Audit
    clearing: Clearing | None  # None: nothing was auto-cleared
    withdrawn: int  # pairs that were auto-cleared and no longer are

    @property
    def cleared(self) -> int:
        return int(pc.sum(pc.equal(self.decisions["basis"], "auto_cleared")).as_py() or 0)


def resolve_tables(tables: AnnotationTables, rules: DecisionRules | None = None) -> Resolution:
    """Decide every pair of the split from the labels that count, and evaluate the audit and the auto-clearing check.

    `rules`: whether decisions are weighted and which doubt is tolerated; None: by agreement.
    """
    tasks, labels = tables.tasks, tables.counting_labels
    clearing, cleared = _recheck(tables)
    weighted = weighted_by(tables, rules) if rules else None
    without = decision_table(tasks, labels, cleared, audited=False, weighted=weighted)
    known = pa.concat_tables([*tables.candidates, tables.former]) if tables.candidates else None
    kept = kept_pairs(known, without, tables.split)
    given = tasks.filter(pc.equal(tasks["round"], AUDIT_ROUND))["pair_id"].to_pylist()
    weights = tables.audit_weights
    drawn = audit_sample(kept, set(given), weights)
    audit = evaluate_audit(
        len(kept),
        drawn,
        audit_votes(labels),
        audit_judges(tables.options),
        sample_chances(kept, drawn, weights),
        skipped_in_audit(tables.skips),
    )
    return Resolution(
        decision_table(tasks, labels, cleared, weighted=weighted) if given else without,
        kept,
        drawn,
        replace(audit, later=len(set(given) & set(kept)) - len(drawn)),
        clearing,
        tables.cleared.num_rows - len(cleared),
    )


def weighted_by(tables: AnnotationTables, rules: DecisionRules) -> PairDecisions | None:
    """Decisions that weigh the labels and the relearnt pre-labels; None if `rules` decide by agreement."""
    if rules.decide != "weighed":
        return None
    prior = prior_of(tables.candidates, tables.relearnt)
    return weighted_decisions(tables.counting_labels, prior, rules.tolerance, rules.discard_tolerance)


def still_cleared(tables: AnnotationTables) -> set[str]:
    """Pairs that are auto-cleared and may stay so by the current labels."""
    return _recheck(tables)[1]


def cleared_from(tables: AnnotationTables) -> float | None:
    """P(edited copy) from which pairs are auto-cleared; None if none are."""
    clearing = _recheck(tables)[0]
    return clearing.threshold if clearing else None


def _recheck(tables: AnnotationTables) -> tuple[Clearing | None, set[str]]:
    if not tables.cleared.num_rows:
        return None, set()
    probabilities = tables.cleared_by
    votes, options = votes_without_audit(tables.counting_labels), tables.options
    clearing = recheck_cleared(tables.cleared, probabilities, options.check_pairs, votes, options.check_sizes)
    allowed = clearable(probabilities, clearing, ())
    return clearing, {pair for pair in tables.cleared["pair_id"].to_pylist() if pair in allowed}
