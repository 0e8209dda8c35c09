"""Labels → one decision per pair, with agreement figures. Resolving the same labels again gives the same bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.assignment.replaced_pairs import removed_text, replaced_text
from ndec_builder.annotation.decisions.agreement import agreement_report
from ndec_builder.annotation.decisions.annotator_quality import annotator_report, known_truth, undecided_truth
from ndec_builder.annotation.decisions.audit import write_sample
from ndec_builder.annotation.decisions.audit_text import audit_text
from ndec_builder.annotation.decisions.dawid_skene import CLASSES
from ndec_builder.annotation.decisions.label_statistics import kept_by_one, posterior_of, prior_of, residual_bound
from ndec_builder.annotation.decisions.resolution import Resolution, resolve_tables
from ndec_builder.annotation.label_tables import keys, newest_labels, no_gold
from ndec_builder.annotation.records.given_labels import given_text, take_given_labels
from ndec_builder.annotation.records.skips import skips_by_annotator
from ndec_builder.annotation.settings import ResolveConfig
from ndec_builder.annotation.staleness import REPLACED_LABELS, RESOLVE_RECORD, STATEMENTS, replaced_labels, statements
from ndec_builder.annotation.stopping.progress import certificate_progress
from ndec_builder.annotation.tables import RELEARNT_FILE, AnnotationTables
from ndec_builder.candidates.contact_sheet import write_decisions
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import LABELS, POSTERIOR, conform
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace

# 2: annotators and the residual bound in agreement.json; 3: audit, auto-clearing, no gold; 4: the audit asks one more
# annotator, and its bound is for a finite number of pairs; 5: kappa of drawn pairs only, disputes count in `checked`
# and in the residual bound; 6: pairs that were skipped in the audit count as copies
RESULT_VERSION = 6


@one_writer(lambda config: Workspace(config.workspace).annotation(config.split))
def run(config: ResolveConfig) -> Path:
    """Write decisions.parquet and agreement.json; returns the path of the decisions."""
    record = RunRecord("annotate resolve", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    tables = AnnotationTables(workspace, config.split)
    directory = tables.directory
    take_given_labels(tables)
    tables.require_tasks()
    labels = tables.counting_labels
    if not labels.num_rows:
        raise NdecError(
            f"no label of the split {config.split!r} was pulled yet; label some pairs, then run "
            f"`ndec annotate pull --split {config.split} --workspace {workspace.root}`"
        )
    if (pushed := tables.options.decide) not in ("", config.decide):
        say(
            f"pairs were given to annotators with decide = {pushed}, and this resolves with decide = {config.decide}; "
            "use the same --plan, or the same `decide` in [annotate.push] and [annotate.resolve]"
        )
    found = resolve_tables(tables, config)
    quality = _quality(tables, found)
    quality |= {"labels_set_aside": tables.set_aside.num_rows, "posterior": _posterior(config, tables)}
    quality |= {"labels_withdrawn": tables.labels.num_rows - tables.valid_labels.num_rows}
    quality |= {"skipped": skips_by_annotator(tables.skipped)}
    tables.decisions = found.decisions
    quality |= {"certificate": certificate_progress(tables)}
    agreed = agreement_report(no_gold(labels), tables.options.drawn_rounds) | quality
    write_json(directory / "agreement.json", agreed)
    path = tables.write("decisions", found.decisions)
    write_decisions(workspace.candidates(config.split), dict(keys(found.decisions, "pair_id", "decision")))
    if found.clearing and found.withdrawn:
        why = found.clearing.refused or "the proven threshold rose"
        say(
            f"{number_of(found.withdrawn, 'pair is', 'pairs are')} no longer auto-cleared: {why}; "
            f"`ndec annotate push --split {config.split}` gives them to annotators"
        )
    if found.audit.drawn or found.audit.later:
        write_sample(directory, found.audit, found.kept, found.sample, tables.audit_weights)
        say(audit_text(found.audit))
    counts = Counter(decision or "undecided" for decision in found.decisions["decision"].to_pylist())
    still_open = open_pairs(tables, found.decisions)
    for line in replaced_text(tables):
        say(line)
    lines = _result_lines(tables, counts, still_open, agreed)
    for line in [lines[0], *given_text(labels), *lines[1:], *tables.former_text(), *removed_text(tables)]:
        say(line)
    bases = Counter(basis for basis in found.decisions["basis"].to_pylist() if basis)
    names = ("tasks.parquet", "labels.parquet", "skips.parquet", "set_aside.parquet", "cleared.parquet", "gold.parquet")
    inputs = {name: sha256_file(directory / name) for name in names if (directory / name).is_file()}
    if config.decide == "weighed" and (directory / RELEARNT_FILE).is_file():
        inputs[RELEARNT_FILE] = sha256_file(directory / RELEARNT_FILE)
    if (lost := replaced_labels(tables)) is not None:
        inputs[REPLACED_LABELS] = lost
    if (about := statements(tables)) is not None:
        inputs[STATEMENTS] = about
    facts = {
        "pairs": found.decisions.num_rows,
        **counts,
        "basis": dict(bases),
        **still_open,
        "former": tables.former.num_rows,
    }
    for name in ("run.json", RESOLVE_RECORD):  # push and pull replace run.json
        record.write(directory, counts=facts, inputs=inputs, name=name)
    return path


def open_pairs(tables: AnnotationTables, decisions: pa.Table) -> dict[str, int]:
    """Undecided pairs by reason. disputed: their labels differ · skipped: no label, and somebody skipped it ·
    unlabelled: the others.
    """
    skipped = {pair for pair, _, _ in tables.skipped}
    found = Counter(disputed=0, skipped=0, unlabelled=0)
    for pair, decision, labels in keys(decisions, "pair_id", "decision", "labels"):
        if decision is None:
            found["disputed" if labels else "skipped" if pair in skipped else "unlabelled"] += 1
    return dict(found)


def _result_lines(
    tables: AnnotationTables, counts: Counter[str], still_open: dict[str, int], agreed: dict[str, Any]
) -> list[str]:
    """What a person wants to know after resolving: labels and decisions by kind, what is open, agreement."""
    newest = Counter(newest_labels(tables.counting_labels)["label"].to_pylist())
    lines = [
        f"labels that count: {_by_kind(newest)}",
        f"decisions: {_by_kind(counts)} of {number_of(counts.total(), 'pair')}; open: "
        + ", ".join(f"{number} {kind}" for kind, number in still_open.items()),
    ]
    if withdrawn := agreed["labels_withdrawn"] + agreed["labels_set_aside"]:
        lines.append(
            f"{number_of(withdrawn, 'label does', 'labels do')} not count: withdrawn in Label Studio, or sent back"
        )
    rounds = agreed["rounds"].items()
    drawn = tables.options.drawn_rounds
    kappas = [
        f"{name} κ {_number(row['kappa'])} (n = {row['pairs']})"
        for name, row in rounds
        if row["pairs"] and name in drawn
    ]
    lines.append(f"agreement on pairs drawn for two annotators: {'; '.join(kappas) or 'no such pair yet'}")
    if (second := agreed["rounds"]["double_check"]["confirmed"])["n"]:
        lines.append(
            f"double-check: {second['confirmed']} of {number_of(second['n'], 'pair')} confirmed, {second['share']:.1%} "
            f"(95 % interval {second['low']:.1%}–{second['high']:.1%})"
        )
    return lines


def _by_kind(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[label]} {label}" for label in LABELS)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _quality(tables: AnnotationTables, found: Resolution) -> dict[str, Any]:
    """Accuracy, speed, drift and flags per annotator, and bounds on the edited copies left among kept hard negatives.

    audit: the re-labelled random sample of kept pairs; its bound applies to what the dataset keeps. residual: n pairs
    that the first of several annotators kept, k of them edited copies by the final decision; its bound counts undecided
    ones as copies and applies to pairs decided by one annotator alone; double-checked pairs are cleaner. auto_clear:
    null if nothing was cleared.
    """
    labels, clearing = tables.counting_labels, found.clearing
    decisions = dict(keys(found.decisions, "pair_id", "decision"))
    residual = residual_bound(kept_by_one(labels), decisions)
    truth = known_truth(labels, found.decisions, tables.gold_truth())
    return {
        "annotators": annotator_report(labels, truth, undecided_truth(labels, found.decisions, truth)),
        "residual": {name: residual[name] for name in ("n", "k", "undecided")},
        "residual_bound": residual["bound"],
        "audit": found.audit.as_json() if found.audit.drawn else None,
        "auto_clear": clearing.as_json() | {"pairs": found.cleared, "withdrawn": found.withdrawn} if clearing else None,
    }


def _posterior(config: ResolveConfig, tables: AnnotationTables) -> dict[str, Any] | None:
    """Write posterior.parquet (schema POSTERIOR) if requested; each annotator's accuracy and confusion matrix.

    Rows of a matrix: the class of a pair (POSTERIOR's order); columns: the label given (LABELS).
    """
    path = tables.directory / "posterior.parquet"
    if not config.posterior:
        path.unlink(missing_ok=True)  # a table of older labels would mislead
        return None
    pairs, found = posterior_of(tables.counting_labels, prior_of(tables.candidates, tables.relearnt))
    columns = dict(zip(CLASSES, found.probabilities.T.tolist(), strict=True))
    table = conform(pa.table({"pair_id": pa.array(pairs, pa.string())} | columns), POSTERIOR)
    write_table(path, table)
    annotators = {
        name: {"accuracy": found.accuracy(name), "confusion": matrix.tolist()}
        for name, matrix in found.confusion.items()
    }
    return {"shares": dict(zip(CLASSES, found.shares.tolist(), strict=True)), "annotators": annotators}
