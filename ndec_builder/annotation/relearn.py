"""`ndec annotate relearn`: new pre-labels, learnt from the labels that annotators gave so far.

The first pre-labels come from synthetic edits (`ndec prelabel`), which do not cover what mining finds: look-alikes of
one scene. The labels do. A pair's probability never depends on its own label or on one of the same reference group:
pairs are split into folds by group, and a model (pair_model.py) fitted without a fold's labels predicts that fold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.dawid_skene import CLASSES
from ndec_builder.annotation.decisions.pair_model import Answers, cross_fit
from ndec_builder.annotation.decisions.rival_features import rival_features
from ndec_builder.annotation.label_tables import AUDIT_ROUND, copy_probabilities, keys, newest_labels
from ndec_builder.annotation.records.given_labels import take_given_labels
from ndec_builder.annotation.settings import RelearnConfig
from ndec_builder.annotation.tables import RELEARN_RECORD, RELEARNT_FILE, AnnotationTables
from ndec_builder.candidates.geometry.table import read_geometry
from ndec_builder.candidates.logistic import equal_width_calibration_error
from ndec_builder.candidates.prelabel import auc, candidate_features
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import LABELS, PRELABELS, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 2  # 2: features of the other pairs of query and reference
_FOLDS = 5
_MIN_LABELLED, _MIN_EACH = 200, 40  # fewest labelled pairs, and fewest copies and others among them
_NOT_MEASURED = -9.0  # replaces missing values: below every value of a feature
_REPORT_FILE = "prelabels.json"


def fit_prelabels(features: np.ndarray, groups: Sequence[str], answers: Answers, first: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3) of CLASSES for pairs with features (n, d), each from the labels of other groups.

    `first` (n,): P(edited copy) before any label, NaN if unknown; it is one more feature. A missing feature is NaN.
    Raises NdecError with too few labels.
    """
    labelled = len(np.unique(answers.pairs))
    copies = len(np.unique(answers.pairs[answers.labels == 0]))
    if labelled < _MIN_LABELLED or min(copies, labelled - copies) < _MIN_EACH:
        raise NdecError(
            f"{labelled} labelled pairs, {copies} of them called edited copies, are too few to learn from; "
            f"{_MIN_LABELLED} with {_MIN_EACH} copies and {_MIN_EACH} others are needed: label more, pull, and relearn"
        )
    known = np.where(np.isnan(first), 0.5, np.clip(first, 0.002, 0.998))
    complete = np.nan_to_num(np.column_stack([features, np.log(known / (1 - known))]), nan=_NOT_MEASURED)
    return cross_fit(complete, folds_by_group(groups), answers)


def folds_by_group(groups: Sequence[str]) -> np.ndarray:
    """The fold (n,) of each pair, by a hash of its group: it stays the same when pairs are added."""
    folds = {group: int.from_bytes(hashlib.sha256(group.encode()).digest()[:4]) % _FOLDS for group in set(groups)}
    return np.array([folds[group] for group in groups], np.int64)


def answers_of(labels: pa.Table, pair_ids: Sequence[str]) -> Answers:
    """The newest labels of the pairs in `pair_ids`, without gold and the audit."""
    place = {pair: row for row, pair in enumerate(pair_ids)}
    rows = keys(newest_labels(labels), "pair_id", "round", "annotator", "label")
    known = [
        (place[pair], name, label) for pair, round_, name, label in rows if round_ != AUDIT_ROUND and pair in place
    ]
    return Answers(
        np.array([pair for pair, _, _ in known], np.int64),
        [name for _, name, _ in known],
        np.array([LABELS.index(label) for _, _, label in known], np.int64),
    )


@one_writer(lambda config: Workspace(config.workspace).annotation(config.split))
def run(config: RelearnConfig) -> Path:
    """Write prelabels.parquet (schema PRELABELS) and prelabels.json; returns the path of the table.

    From then on annotation uses it in place of the candidates' pre-labels. Raises NdecError without candidates,
    geometry or enough labels.
    """
    record = RunRecord("annotate relearn", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    geometry = read_geometry(workspace, config.split)
    if not geometry.num_rows:
        raise NdecError(
            f"the pairs of split {config.split!r} have no geometry, from which pre-labels are learnt; "
            f"run `ndec mine --split {config.split} --workspace {workspace.root}` with geometry on"
        )
    tables = AnnotationTables(workspace, config.split)
    take_given_labels(tables)
    table = shown_pairs(tables)
    pair_ids = table["pair_id"].to_pylist()
    first = copy_probabilities([table])
    prior = np.array([first.get(pair, np.nan) for pair in pair_ids])
    answers = answers_of(tables.counting_labels, pair_ids)
    groups = reference_groups(workspace, config.split, table["reference_id"].to_pylist())
    features = np.column_stack([candidate_features(table, geometry), rival_features(table, prior)])
    found = fit_prelabels(features, groups, answers, prior)
    path = write_table(directory / RELEARNT_FILE, prelabel_table(pair_ids, found))
    report = _compare_prelabels(found, prior, answers)
    write_json(directory / _REPORT_FILE, report)
    pictures = tables.shown.tags_to_keep(table)
    inputs = {"labels.parquet": sha256_file(directory / "labels.parquet")}
    record.write(
        directory, name=RELEARN_RECORD, counts={"pairs": len(pair_ids), **report}, inputs=inputs, pictures=pictures
    )
    say(
        f"{number_of(len(pair_ids), 'pair has', 'pairs have')} new pre-labels, learnt from the labels of "
        f"{report['labelled']}; copy or not, "
        f"against labels of groups left out of the fit: AUC {report['auc']:.3f} (first pre-labels: "
        f"{_decimals(report['first_auc'])})"
    )
    return path


def prelabel_table(pair_ids: Sequence[str], probabilities: np.ndarray) -> pa.Table:
    """Schema PRELABELS, ascending pair_id."""
    rows = [
        {"pair_id": pair, **dict(zip(CLASSES, row, strict=True))}
        for pair, row in sorted(zip(pair_ids, probabilities.tolist(), strict=True))
    ]
    return table_of(PRELABELS, rows)


def shown_pairs(tables: AnnotationTables) -> pa.Table:
    """The pairs that annotators are shown, with mining's pre-labels; without duplicates of a reference."""
    if not tables.mined:
        raise NdecError(
            f"there are no candidates of the split {tables.split!r} yet; run `ndec mine --split {tables.split}` first"
        )
    table = pa.concat_tables(tables.mined)
    return table.filter(pc.is_null(table["duplicate_of"]))


def reference_groups(workspace: Workspace, split: str, reference_ids: Sequence[str]) -> list[str]:
    """The group of each reference, or its id if it has none."""
    known = workspace.image_rows(GALLERY[split], reference_ids, ["group"])
    return [known[name]["group"] or name if name in known else name for name in reference_ids]


def _compare_prelabels(found: np.ndarray, first: np.ndarray, answers: Answers) -> dict[str, Any]:
    """How well both pre-labels separate pairs that most labels call a copy from the others; the truth is unknown."""
    votes = np.zeros((len(found), 2))
    np.add.at(votes, (answers.pairs, (answers.labels == 0).astype(int)), 1)
    rows = np.flatnonzero(votes.sum(1))
    is_copy = votes[rows, 1] > votes[rows, 0]
    both = bool(is_copy.any() and not is_copy.all())
    known = both and not np.isnan(first[rows]).any()
    return {
        "labelled": len(rows),
        "auc": auc(found[rows, 0], is_copy) if both else None,
        "first_auc": auc(first[rows], is_copy) if known else None,
        "calibration_error": equal_width_calibration_error(found[rows, 0], is_copy),
    }


def _decimals(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
