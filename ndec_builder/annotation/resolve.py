"""Labels → one decision per pair, with agreement figures. A later look at the same labels gives the same bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.decisions.agreement import agreement
from ndec_builder.annotation.decisions.annotator_quality import annotators, known_truth
from ndec_builder.annotation.decisions.audit import (
    as_text,
    write_sample,
)
from ndec_builder.annotation.decisions.dawid_skene import CLASSES
from ndec_builder.annotation.decisions.label_statistics import kept_by_one, posterior_of, prior_of, residual_bound
from ndec_builder.annotation.decisions.resolution import Resolved, resolved
from ndec_builder.annotation.settings import ResolveConfig
from ndec_builder.annotation.tables import (
    candidate_tables,
    counting_labels,
    gold_truth,
    no_gold,
    read_relearnt,
    read_set_aside,
    read_tasks,
)
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import POSTERIOR, conform
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 4  # 2: annotators and the residual bound in agreement.json; 3: audit, auto-clearing, no gold; 4:
# the audit asks one more person, its bound is of a finite number of pairs


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
