"""Labels → one decision per pair, with agreement figures. A later look at the same labels gives the same bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.agreement import agreement
from ndec_builder.annotation.labels import latest_labels, read_labels, read_tasks
from ndec_builder.annotation.policy import kept_by_one, residual_bound
from ndec_builder.annotation.quality import annotators, known_truth
from ndec_builder.annotation.settings import ResolveConfig
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.schemas import DECISIONS, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 2  # 2: annotators and the residual bound in agreement.json


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


def resolve(tasks: pa.Table, labels: pa.Table) -> pa.Table:
    """One row (schema DECISIONS) per pair of the tasks, ascending pair_id, undecided ones with a null decision.

    `labels` counts the newest labels of every round; `agreement` is the share of them equal to the decision.
    """
    newest = latest_labels(labels)
    decisions = []
    for pair_id in sorted(set(tasks["pair_id"].to_pylist())):
        rows = newest.get(pair_id, [])
        decision, basis = decide(rows)
        votes = Counter(row["label"] for row in rows)
        decisions.append(
            {"pair_id": pair_id, "decision": decision, "basis": basis, "labels": len(rows),
             "agreement": votes[decision] / len(rows) if decision else None}
        )  # fmt: skip
    return table_of(DECISIONS, decisions)


def _quality(labels: pa.Table, decisions: pa.Table) -> dict[str, Any]:
    """Per annotator accuracy, speed, drift and flags; the bound on edited copies left among kept hard negatives.

    residual: n pairs that the first of two people kept, k of them edited copies by the final decision. The bound holds
    for pairs that one person alone decided; what was double-checked is cleaner.
    """
    columns = (decisions[name].to_pylist() for name in ("pair_id", "decision"))
    verdicts = dict(zip(*columns, strict=True))
    residual = residual_bound(kept_by_one(labels), verdicts)
    return {
        "annotators": annotators(labels, known_truth(labels, decisions, {})),
        "residual": {"n": residual["n"], "k": residual["k"]},
        "residual_bound": residual["bound"],
    }


@one_writer(lambda config: Workspace(config.workspace).annotation(config.split))
def run(config: ResolveConfig) -> Path:
    """Write decisions.parquet and agreement.json; returns the path of the decisions."""
    record = RunRecord("annotate resolve", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    tasks, labels = read_tasks(workspace, config.split), read_labels(workspace, config.split)
    if not labels.num_rows:
        raise NdecError(
            f"no label of the split {config.split!r} was pulled yet; label some pairs, then run "
            f"`ndec annotate pull --split {config.split} --workspace {workspace.root}`"
        )
    decisions = resolve(tasks, labels)
    write_json(directory / "agreement.json", agreement(labels) | _quality(labels, decisions))
    path = write_table(directory / "decisions.parquet", decisions)
    counts = Counter(decision or "undecided" for decision in decisions["decision"].to_pylist())
    bases = Counter(basis for basis in decisions["basis"].to_pylist() if basis)
    inputs = {name: sha256_file(directory / name) for name in ("tasks.parquet", "labels.parquet")}
    record.write(directory, counts={"pairs": decisions.num_rows, **counts, "basis": dict(bases)}, inputs=inputs)
    return path
