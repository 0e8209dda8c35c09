"""`ndec annotate relearn`: what each pair probably is, learnt from the labels that people gave so far.

Pre-labels from synthetic edits (`ndec prelabel`) have never seen what mining finds: look-alikes of one scene. The
labels have. No pair's own label, and none of a pair of the same reference's group, enters its probability: pairs are
dealt into folds by group, and each fold is judged by a model (pair_model.py) that was fitted without its labels.
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
from ndec_builder.annotation.settings import RelearnConfig
from ndec_builder.annotation.tables import AUDIT_ROUND, FILE, copy_probabilities, counting_labels, newest
from ndec_builder.candidates.geometry.table import read_geometry
from ndec_builder.candidates.logistic import calibration_error
from ndec_builder.candidates.prelabel import auc, pair_features
from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import CANDIDATES, LABELS, PRELABELS, conform, table_of
from ndec_builder.core.storage import read_table, sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 2  # 2: what the other pairs of query and reference look like
FOLDS = 5
MIN_LABELS, MIN_EACH = 200, 40  # labelled pairs, and of copies and of others at least so many
NOTHING = -9.0  # in place of what cannot be measured: below every value of a feature
REPORT = "prelabels.json"


def relearn(features: np.ndarray, groups: Sequence[str], answers: Answers, first: np.ndarray) -> np.ndarray:
    """Probabilities (n, 3) of CLASSES for pairs with features (n, d), each from the labels of other groups.

    `first` (n,): P(edited copy) before any label, NaN where unknown: one more feature. What cannot be measured is NaN.
    Raises NdecError with too few labels.
    """
    labelled = len(np.unique(answers.pairs))
    copies = len(np.unique(answers.pairs[answers.labels == 0]))
    if labelled < MIN_LABELS or min(copies, labelled - copies) < MIN_EACH:
        raise NdecError(
            f"{labelled} labelled pairs, {copies} of them called edited copies, are too few to learn from; "
            f"{MIN_LABELS} with {MIN_EACH} copies and {MIN_EACH} others are needed: label more, pull, and relearn"
        )
    known = np.where(np.isnan(first), 0.5, np.clip(first, 0.002, 0.998))
    told = np.nan_to_num(np.column_stack([features, np.log(known / (1 - known))]), nan=NOTHING)
    return cross_fit(told, fold_of(groups), answers)


def fold_of(groups: Sequence[str]) -> np.ndarray:
    """The fold (n,) of each pair by its group: by a hash, so that it stays the same when pairs are added."""
    folds = {group: int.from_bytes(hashlib.sha256(group.encode()).digest()[:4]) % FOLDS for group in set(groups)}
    return np.array([folds[group] for group in groups], np.int64)


def answers_of(labels: pa.Table, pair_ids: Sequence[str]) -> Answers:
    """The newest labels but gold and audit, of pairs that are among `pair_ids`."""
    place = {pair: row for row, pair in enumerate(pair_ids)}
    rows = [row for row in newest(labels).to_pylist() if row["round"] != AUDIT_ROUND and row["pair_id"] in place]
    return Answers(
        np.array([place[row["pair_id"]] for row in rows], np.int64),
        [row["annotator"] for row in rows],
        np.array([LABELS.index(row["label"]) for row in rows], np.int64),
    )


@one_writer(lambda config: Workspace(config.workspace).annotation(config.split))
def run(config: RelearnConfig) -> Path:
    """Write prelabels.parquet (schema PRELABELS) and prelabels.json; returns the path of the table.

    From then on it stands in for the candidates' pre-labels wherever annotation asks for one. Raises NdecError without
    candidates, geometry or enough labels.
    """
    record = RunRecord("annotate relearn", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    geometry = read_geometry(workspace, config.split)
    if not geometry.num_rows:
        raise NdecError(
            f"the pairs of split {config.split!r} have no geometry, and that is what is learnt from; "
            f"run `ndec mine --split {config.split} --workspace {workspace.root}` with geometry on"
        )
    table = shown_pairs(workspace, config.split)
    pair_ids = table["pair_id"].to_pylist()
    first = copy_probabilities([table])
    prior = np.array([first.get(pair, np.nan) for pair in pair_ids])
    answers = answers_of(counting_labels(workspace, config.split), pair_ids)
    groups = reference_groups(workspace, config.split, table["reference_id"].to_pylist())
    features = np.column_stack([pair_features(table, geometry), rival_features(table, prior)])
    found = relearn(features, groups, answers, prior)
    path = write_table(directory / FILE, prelabel_table(pair_ids, found))
    report = _report(found, prior, answers)
    write_json(directory / REPORT, report)
    inputs = {"labels.parquet": sha256_file(directory / "labels.parquet")}
    record.write(directory, name="relearn.run.json", counts={"pairs": len(pair_ids), **report}, inputs=inputs)
    say(
        f"{len(pair_ids)} pairs judged by the labels of {report['labelled']}; copy or not, against people's labels of "
        f"pairs whose group was left out: AUC {report['auc']:.3f} (first pre-labels: {_three(report['first_auc'])})"
    )
    return path


def prelabel_table(pair_ids: Sequence[str], probabilities: np.ndarray) -> pa.Table:
    """Schema PRELABELS, ascending pair_id."""
    rows = [
        {"pair_id": pair, **dict(zip(CLASSES, row, strict=True))}
        for pair, row in sorted(zip(pair_ids, probabilities.tolist(), strict=True))
    ]
    return table_of(PRELABELS, rows)


def shown_pairs(workspace: Workspace, split: str) -> pa.Table:
    """The pairs that people are shown: mined and of the second search, duplicates left out."""
    tables = [conform(read_table(path), CANDIDATES) for path in workspace.candidate_files(split)]
    if not tables:
        raise NdecError(f"there are no candidates of the split {split!r} yet; run `ndec mine --split {split}` first")
    table = pa.concat_tables(tables)
    return table.filter(pc.is_null(table["duplicate_of"]))


def reference_groups(workspace: Workspace, split: str, reference_ids: Sequence[str]) -> list[str]:
    """The group of each reference, or its id where it has none."""
    known = workspace.image_rows(GALLERY[split], reference_ids, ["group"])
    return [known[name]["group"] or name if name in known else name for name in reference_ids]


def _report(found: np.ndarray, first: np.ndarray, answers: Answers) -> dict[str, Any]:
    """How well both pre-labels tell the pairs that most people called a copy from the others; no truth is known."""
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
        "calibration_error": calibration_error(found[rows, 0], is_copy),
    }


def _three(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
