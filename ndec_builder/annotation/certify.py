"""`ndec annotate certify`: how far the queue has to be labelled to find a certain share of the hard negatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.annotation.assignment.order import likeliest_first
from ndec_builder.annotation.assignment.queues import pairs_to_label
from ndec_builder.annotation.certificate_settings import CertifyConfig
from ndec_builder.annotation.decisions.binomial import clopper_pearson_upper
from ndec_builder.annotation.decisions.label_statistics import draw_pairs
from ndec_builder.annotation.decisions.recall_certificate import (
    RecallCertificate,
    RecallGoal,
    certify_recall,
    least_positives,
)
from ndec_builder.annotation.label_tables import labels_by_pair, no_gold
from ndec_builder.annotation.tables import RELEARNT_FILE, AnnotationTables
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import read_json, sha256_file, write_json
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1
_ASSUMED_ERROR = 0.03  # without gold pairs, and said so
_FILE = "certificate.json"


@one_writer(lambda config: Workspace(config.workspace).annotation(config.split))
def run(config: CertifyConfig) -> Path:
    """Write certificate.json, or report on the one that exists; returns its path.

    The ranking is that of `push --order likeliest` at the time of the certificate. The sample is the longest part of
    `push --sample`'s random order in which every pair has a label. Raises NdecError before `relearn`, without a
    labelled sample, and where the sample holds too few hard negatives.
    """
    record = RunRecord("annotate certify", config, RESULT_VERSION)
    tables = AnnotationTables(Workspace(config.workspace), config.split)
    path = tables.directory / _FILE
    labels = {pair: majority(rows) for pair, rows in labels_by_pair(no_gold(tables.counting_labels)).items()}
    stored: dict[str, Any] | None = read_json(path) if path.is_file() else None
    if stored is None or config.again:
        stored = _new_certificate(config, tables, labels, 0 if stored is None else stored["replaced"] + 1)
        write_json(path, stored)
        inputs = {name: sha256_file(tables.directory / name) for name in ("labels.parquet", RELEARNT_FILE)}
        counts = {name: stored[name] for name in ("pairs", "sample", "positives", "stop", "replaced")}
        record.write(tables.directory, counts=counts, inputs=inputs, name="certificate.run.json")
    elif (stored["recall"], stored["confidence"]) != (config.recall, config.confidence):
        raise NdecError(
            f"{path} certifies a recall of {stored['recall']:g} with confidence {stored['confidence']:g}, not "
            f"{config.recall:g} with {config.confidence:g}; add --again to replace it"
        )
    say(certificate_text(stored, labels))
    return path


def majority(rows: list[dict[str, Any]]) -> str:
    """The label that most annotators gave; `unsure` where two labels lead."""
    first, *rest = Counter(row["label"] for row in rows).most_common(2)
    return "unsure" if rest and rest[0][1] == first[1] else str(first[0])


def _new_certificate(
    config: CertifyConfig, tables: AnnotationTables, labels: Mapping[str, str], replaced: int
) -> dict[str, Any]:
    """The content of certificate.json: the certificate, and the pairs to label in the order of the ranking."""
    ranking = [pair for pair, _, _ in likeliest_first(pairs_to_label(tables.candidates), tables.relearnt)]
    drawn = list(takewhile(labels.__contains__, draw_pairs(ranking, len(ranking), "sample")))
    error, source = (config.error, "given") if config.error is not None else measured_error(tables)
    confidence = 1 - (1 - config.confidence) / 2**replaced
    rank = {pair: number for number, pair in enumerate(ranking, 1)}
    ranks = np.array([rank[pair] for pair in drawn if labels[pair] == "hard_negative"], np.int64)
    goal = RecallGoal(config.recall, confidence)
    found = certify_recall(ranks, len(ranking), len(drawn), goal, error)
    if found.stop is None:
        raise NdecError(_too_few(found, goal, config))
    return found.as_json() | {
        "recall": config.recall,
        "confidence": config.confidence,
        "error": error,
        "error_source": source,
        "replaced": replaced,
        "to_label": ranking[: found.stop],
    }


def measured_error(tables: AnnotationTables) -> tuple[float, str]:
    """(P(labelled hard_negative | it is none) at most, where it comes from), from all annotators' gold labels."""
    truth = tables.gold_truth()
    rows = zip(tables.labels["pair_id"].to_pylist(), tables.labels["label"].to_pylist(), strict=True)
    wrong = [label == "hard_negative" for pair, label in rows if truth.get(pair, "hard_negative") != "hard_negative"]
    if not wrong:
        return _ASSUMED_ERROR, "assumed: there are no labelled gold pairs"
    return clopper_pearson_upper(sum(wrong), len(wrong), 0.975), f"{sum(wrong)} of {len(wrong)} gold pairs"


def _too_few(found: RecallCertificate, goal: RecallGoal, config: CertifyConfig) -> str:
    push = f"`ndec annotate push --split {config.split} --sample N`"
    if not found.sample:
        return (
            f"no random sample of the split {config.split!r} is labelled; give one to annotators with {push}, "
            "pull, and run `ndec annotate relearn`"
        )
    return (
        f"the random sample of {found.sample:,} labelled pairs holds {found.positives} hard negatives, up to "
        f"{found.false} of them by wrong labels; a recall of {goal.recall:g} with confidence {goal.confidence:g} needs "
        f"at least {least_positives(goal)} right ones: enlarge the sample with {push}, or lower --recall"
    )


def certificate_text(stored: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """What is certified, how many labels are missing, and what it assumes."""
    open_ = sum(pair not in labels for pair in stored["to_label"])
    rest = stored["pairs"] - len(set(stored["to_label"]) | set(labels))
    statement = (
        f"at least {stored['recall']:.0%} of the hard negatives among these {stored['pairs']:,} candidates are "
        f"labelled ({stored['confidence']:.0%} confidence)"
    )
    basis = (
        f"based on {stored['sample']:,} random pairs with {stored['positives']} hard negatives, up to "
        f"{stored['false']} of them wrong (error {stored['error']:.3f}: {stored['error_source']})"
    )
    if not open_:
        return f"certified: {statement}; {rest:,} pairs need not be labelled; {basis}"
    return (
        f"{open_:,} more labels certify that {statement}: the first {stored['stop']:,} of the queue `push --order "
        f"likeliest`; {rest:,} pairs need not be labelled; {basis}. Do not relearn before they are labelled"
    )
