"""Labels → one decision per pair, with agreement figures. A later look at the same labels gives the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.agreement import agreement
from ndec_builder.annotation.decisions.annotator_quality import annotators, known_truth
from ndec_builder.annotation.decisions.audit import (
    Audit,
    as_text,
    judges,
    kept_pairs,
    look,
    overruled,
    sample,
    votes_of,
    write_sample,
)
from ndec_builder.annotation.decisions.clearing import (
    Clearing,
    check_of,
    clearable,
    cleared_by,
    read_cleared,
    votes_in,
)
from ndec_builder.annotation.decisions.dawid_skene import CLASSES
from ndec_builder.annotation.decisions.label_statistics import (
    AUDIT_ROUND,
    kept_by_one,
    posterior_of,
    prior_of,
    residual_bound,
)
from ndec_builder.annotation.decisions.weighted import Verdicts, weighed
from ndec_builder.annotation.prior import read_relearnt
from ndec_builder.annotation.push_options import read_told
from ndec_builder.annotation.settings import ResolveConfig, Weighs
from ndec_builder.annotation.tables import (
    candidate_tables,
    counting_labels,
    gold_truth,
    latest_labels,
    no_gold,
    read_set_aside,
    read_tasks,
)
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import DECISIONS, POSTERIOR, conform, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 4  # 2: annotators and the residual bound in agreement.json; 3: audit, auto-clearing, no gold; 4:
# the audit asks one more person, its bound is of a finite number of pairs


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
    workspace: Workspace, split: str, tasks: pa.Table, labels: pa.Table, how: Weighs | None = None
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
    workspace: Workspace, split: str, labels: pa.Table, candidates: list[pa.Table], how: Weighs
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


def _quality(labels: pa.Table, found: Resolved, gold: Mapping[str, str]) -> dict[str, Any]:
    """Per annotator accuracy, speed, drift and flags; bounds on edited copies left among kept hard negatives.

    audit: the random sample of kept pairs, labelled anew; its bound holds for what the dataset keeps. residual:
    n pairs that the first of two people kept, k of them edited copies by the final decision; that bound holds for pairs
    that one person alone decided; what was double-checked is cleaner. auto_clear: null unless something was cleared.
    """
    columns = (found.decisions[name].to_pylist() for name in ("pair_id", "decision"))
    verdicts = dict(zip(*columns, strict=True))
    residual = residual_bound(kept_by_one(labels), verdicts)
    clearing = found.clearing
    return {
        "annotators": annotators(labels, known_truth(labels, found.decisions, gold)),
        "residual": {"n": residual["n"], "k": residual["k"]},
        "residual_bound": residual["bound"],
        "audit": found.audit.as_json() if found.audit.drawn else None,
        "auto_clear": clearing.as_json() | {"pairs": found.cleared, "withdrawn": found.withdrawn} if clearing else None,
    }


def _posterior(config: ResolveConfig, workspace: Workspace, labels: pa.Table) -> dict[str, Any] | None:
    """Write posterior.parquet (schema POSTERIOR) where it is asked for; each person's accuracy and confusion matrix.

    Rows of a matrix: what a pair is (POSTERIOR's classes); columns: the label given (LABELS).
    """
    path = workspace.annotation(config.split) / "posterior.parquet"
    if not config.posterior:
        path.unlink(missing_ok=True)  # one of other labels would mislead
        return None
    prior = prior_of(candidate_tables(workspace, config.split), read_relearnt(workspace, config.split))
    pairs, found = posterior_of(labels, prior)
    columns = dict(zip(CLASSES, found.probabilities.T.tolist(), strict=True))
    write_table(path, conform(pa.table({"pair_id": pa.array(pairs, pa.string())} | columns), POSTERIOR))
    people = {
        name: {"accuracy": found.accuracy(name), "confusion": matrix.tolist()}
        for name, matrix in found.confusion.items()
    }
    return {"shares": dict(zip(CLASSES, found.shares.tolist(), strict=True)), "annotators": people}


@one_writer(lambda config: Workspace(config.workspace).annotation(config.split))
def run(config: ResolveConfig) -> Path:
    """Write decisions.parquet and agreement.json; returns the path of the decisions."""
    record = RunRecord("annotate resolve", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    tasks = read_tasks(workspace, config.split)
    labels = counting_labels(workspace, config.split)
    if not labels.num_rows:
        raise NdecError(
            f"no label of the split {config.split!r} was pulled yet; label some pairs, then run "
            f"`ndec annotate pull --split {config.split} --workspace {workspace.root}`"
        )
    found = resolved(workspace, config.split, tasks, labels, config)
    quality = _quality(labels, found, gold_truth(workspace, config.split))
    set_aside = read_set_aside(workspace, config.split).num_rows
    quality |= {"labels_set_aside": set_aside, "posterior": _posterior(config, workspace, labels)}
    write_json(directory / "agreement.json", agreement(no_gold(labels)) | quality)
    path = write_table(directory / "decisions.parquet", found.decisions)
    if found.clearing and found.withdrawn:
        why = found.clearing.refused or "the proven threshold rose"
        say(
            f"{found.withdrawn} pairs are not cleared any more: {why}; "
            f"`ndec annotate push --split {config.split}` gives them to people"
        )
    if found.audit.drawn:
        write_sample(directory, found.kept, found.sample)
        say(as_text(found.audit))
    counts = Counter(decision or "undecided" for decision in found.decisions["decision"].to_pylist())
    bases = Counter(basis for basis in found.decisions["basis"].to_pylist() if basis)
    names = ("tasks.parquet", "labels.parquet", "set_aside.parquet", "cleared.parquet", "gold.parquet")
    inputs = {name: sha256_file(directory / name) for name in names if (directory / name).is_file()}
    record.write(directory, counts={"pairs": found.decisions.num_rows, **counts, "basis": dict(bases)}, inputs=inputs)
    return path
