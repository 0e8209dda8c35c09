"""`ndec prelabel`: the probability that a mined pair is an edited copy, learned from synthetic edits.

Writes the columns prelabel and prelabel_confidence of the candidates, and `prelabel.json` with the weights and their
calibration. A pre-label orders the queue of the annotators. It decides nothing unless auto-clearing is switched on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.geometry.fitting import SIGNALS
from ndec_builder.candidates.geometry.table import measured_earlier, read_geometry, report_unreadable
from ndec_builder.candidates.logistic import Logistic, equal_width_calibration_error, fit_logistic, shifted_prior
from ndec_builder.candidates.mining_cut import check_mined_model, check_mined_vectors
from ndec_builder.candidates.role_vectors import load_role_vectors
from ndec_builder.candidates.settings import GALLERY, PrelabelConfig
from ndec_builder.candidates.synthetic.known_pairs import Gallery, KnownPairs, make_known_pairs
from ndec_builder.candidates.synthetic.shard_works import PRELABEL_FEATURES, signal_features
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import engine_of
from ndec_builder.core.executor.runner import on_engine
from ndec_builder.core.locks import one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.storage import fingerprint, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1
_FOLDS = 5


@on_engine
@one_writer(lambda config: Workspace(config.workspace).candidates(config.split))
def run(config: PrelabelConfig) -> Path:
    """Learn from synthetic pairs, pre-label every mined and rechecked pair; return the path of candidates.parquet.

    prelabel is edited_copy or hard_negative (meaning "not a copy"); prelabel_confidence is its probability.
    Raises NdecError without geometry, with too few images or groups, and when the pairs were mined with other vectors;
    UsageError for a count below 20 or another model than that of the mining.
    """
    record = RunRecord("prelabel", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.candidates(config.split)
    paths = workspace.candidate_files(config.split) or [directory / "candidates.parquet"]
    tables = {path.name: read_table(path) for path in paths}  # the error for a missing file says what to do
    geometry = read_geometry(workspace, config.split)
    if not geometry.num_rows:
        raise NdecError(
            f"the pairs of split {config.split!r} have no geometry ({directory / 'geometry.parquet'} does not exist); "
            f"run `ndec mine --split {config.split} --geometry` again"
        )
    if earlier := sum(measured_earlier(workspace, config.split, table) for table in tables.values()):
        say(
            f"{number_of(earlier, 'pair was', 'pairs were')} measured by an earlier version of ndec; the synthetic "
            "pairs, from which pre-labels are learned, are measured by this one, and the signals differ slightly"
        )
    report_unreadable(workspace, config.split)  # their pre-labels come from the descriptor alone
    check_mined_model(directory, config.split, config.model)
    role = GALLERY[config.split]
    vectors = load_role_vectors(workspace, role, config.model)
    check_mined_vectors(directory, config.split, vectors)
    gallery = Gallery.of(vectors)
    if len(gallery.ids) < 20:
        raise NdecError(f"{len(gallery.ids)} {role} images are too few to learn pre-labels from; 20 are needed")
    if len({gallery.rows[name]["group"] or f"image {name}" for name in gallery.ids}) < 2:
        raise NdecError(_few_groups(f"all {len(gallery.ids)} {role} images are in one group", role))
    scratch = directory / "prelabel"
    engine = engine_of(config)
    known = make_known_pairs(workspace, gallery, config.model, config.count, config.seed, scratch, engine=engine)
    shutil.rmtree(scratch)
    model, report = learn(known, role)
    logits = [model.logits(candidate_features(table, geometry)) for table in tables.values()]
    probabilities, share = shifted_prior(np.concatenate(logits), float(known.is_copy.mean()))
    start = 0
    for (name, table), part in zip(tables.items(), logits, strict=True):
        write_table(directory / name, with_prelabels(table, probabilities[start : start + len(part)]))
        start += len(part)
    report |= {"share_of_copies": share, "pairs": start}
    write_json(directory / "prelabel.json", report)
    inputs = {"geometry": fingerprint(geometry["pair_id"].to_pylist()), role: fingerprint(gallery.ids)}
    record.write(
        directory, name="prelabel.run.json", counts={"pairs": start, "learnt_from": len(known.kinds)}, inputs=inputs
    )
    say(
        f"{number_of(start, 'pair')} pre-labelled, {share:.0%} edited copies; on synthetic pairs AUC "
        f"{report['auc']:.3f}, "
        f"calibration error {report['calibration_error']:.3f} (ten bins of equal width)"
    )
    return directory / "candidates.parquet"


def _few_groups(found: str, role: str) -> str:
    return (
        f"{found}, so pre-labels cannot be learned: only images of different groups count as different pictures. "
        f"Ingest them again in smaller groups, for instance `ndec ingest {role} FOLDER --group-by none`, and mine again"
    )


def learn(known: KnownPairs, role: str) -> tuple[Logistic, dict[str, object]]:
    """Fit on all known pairs; the report evaluates it on groups that a fold has not seen.

    Raises NdecError when the other groups have no copies or nothing but copies. role: of the images, for its message.
    """
    held = out_of_fold(known, role)
    y = known.is_copy
    model = fit_logistic(known.features, y)
    kinds = sorted(set(known.kinds))
    order = np.argsort(held, kind="stable")
    bins = np.array_split(order, 10)
    return model, {
        "learnt_from": {kind: known.kinds.count(kind) for kind in kinds},
        "auc": auc(held, y),
        "calibration_error": equal_width_calibration_error(held, y),
        "reliability": [[float(held[b].mean()), float(y[b].mean()), len(b)] for b in bins if len(b)],
        "mean_probability": {kind: float(held[np.array(known.kinds) == kind].mean()) for kind in kinds},
        "intercept": model.intercept,
        "weights": dict(zip(PRELABEL_FEATURES, (float(w) for w in model.weights), strict=True)),
    }


def out_of_fold(known: KnownPairs, role: str) -> np.ndarray:
    """Probabilities (n,) by cross-validation over groups: each fit predicts the groups that it has not seen.

    Raises NdecError as `learn`.
    """
    names = sorted(set(known.groups))
    fold = {name: number % _FOLDS for number, name in enumerate(np.random.default_rng(0).permutation(names))}
    place = np.array([fold[group] for group in known.groups])
    held = np.zeros(len(place))
    for number in range(_FOLDS):
        test = place == number
        if len(set(known.is_copy[~test].tolist())) < 2:
            found = f"the pairs made from {role} images belong to {number_of(len(names), 'group')}"
            raise NdecError(
                _few_groups(f"{found}, and without a fifth of them copies or other pairs are missing", role)
            )
        if test.any():
            held[test] = fit_logistic(known.features[~test], known.is_copy[~test]).probabilities(known.features[test])
    return held


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: P(positive above negative) + ½ P(equal)."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def candidate_features(table: pa.Table, geometry: pa.Table) -> np.ndarray:
    """Features (n, d) of a candidates table in its order, from its GEOMETRY rows."""
    rows = {row["pair_id"]: row for row in geometry.to_pylist()}
    features = []
    for pair, score in zip(table["pair_id"].to_pylist(), table["score"].to_pylist(), strict=True):
        row = rows.get(pair, {})
        values = {name: float(row.get(name) or 0.0) for name in SIGNALS}
        fitted = row.get("homography") is not None
        features.append(signal_features(score, values, fitted, row.get("seam") is None))
    return np.array(features)


def with_prelabels(table: pa.Table, probabilities: np.ndarray) -> pa.Table:
    """Fill prelabel and prelabel_confidence from P(edited copy) (n,); null for duplicates, which nobody sees."""
    shown = np.array([mark is None for mark in table["duplicate_of"].to_pylist()], dtype=bool)
    labels = [
        ("edited_copy" if p >= 0.5 else "hard_negative") if seen else None
        for p, seen in zip(probabilities, shown, strict=True)
    ]
    confidences = [float(max(p, 1 - p)) if seen else None for p, seen in zip(probabilities, shown, strict=True)]
    for name, values in (("prelabel", labels), ("prelabel_confidence", confidences)):
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table
