"""Result formats that other tools read: submission csv, TREC run, descriptor HDF5. Same content, same bytes."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import atomic_path
from ndec_builder.evaluation.predictions import PREDICTION_COLUMNS, Predictions


@dataclass(frozen=True)
class Descriptors:
    """ids: (n,) str, ascending in a submission · vectors: (n, d) float32."""

    ids: list[str]
    vectors: np.ndarray


def write_csv6(path: Path, predictions: Predictions, query_ids: Sequence[str], reference_ids: Sequence[str]) -> int:
    """Write the submission csv: header, six decimals, order (score desc, query_id, reference_id).

    Returns the number of ties that rounding added.
    """
    order = _total_order(predictions)
    texts = [f"{score:.6f}" for score in predictions.scores[order].tolist()]
    texts = ["0.000000" if text == "-0.000000" else text for text in texts]  # one form of zero
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PREDICTION_COLUMNS)
        columns = zip(predictions.query[order].tolist(), predictions.reference[order].tolist(), texts, strict=True)
        writer.writerows((query_ids[q], reference_ids[r], text) for q, r, text in columns)
    return len(np.unique(predictions.scores)) - len(set(texts))


def write_trec(
    path: Path, predictions: Predictions, query_ids: Sequence[str], reference_ids: Sequence[str], tag: str
) -> Path:
    """Write a TREC run: `query Q0 reference rank score tag`, by query, ranks from 1 by (score desc, reference_id).

    Scores read back exactly. Raises NdecError for an id with white space, which separates columns in this format.
    """
    used = {query_ids[q] for q in np.unique(predictions.query)} | {
        reference_ids[r] for r in np.unique(predictions.reference)
    }
    if bad := sorted(name for name in used if not name or re.search(r"\s", name)):
        raise NdecError(
            f"{number_of(len(bad), 'id contains', 'ids contain')} white space (first: {bad[0]!r}), which a TREC run "
            "does not allow; use csv"
        )
    order = np.lexsort((predictions.reference, -predictions.scores, predictions.query))
    tag = re.sub(r"\s+", "-", tag.strip()) or "ndec"
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        before, rank = -1, 0
        columns = (values[order].tolist() for values in (predictions.query, predictions.reference, predictions.scores))
        for query, reference, score in zip(*columns, strict=True):
            rank = rank + 1 if query == before else 1
            before = query
            file.write(f"{query_ids[query]} Q0 {reference_ids[reference]} {rank} {score!r} {tag}\n")
    return path


def write_submission(path: Path, queries: Descriptors, references: Descriptors) -> Path:
    """Write the descriptor submission: float32 `query`, `reference`, bytes `query_ids`, `reference_ids`, ids ascending.

    Raises NdecError for different numbers of dimensions, repeated ids, more ids than vectors, or non-finite values.
    """
    sides = {"query": _sorted(queries, "query"), "reference": _sorted(references, "reference")}
    widths = {name: side.vectors.shape[1] for name, side in sides.items()}
    if len(set(widths.values())) > 1:
        raise NdecError(
            f"queries have {widths['query']} dimensions and references {widths['reference']}; use one model"
        )
    arrays = {name: side.vectors for name, side in sides.items()}
    return _write(path, arrays | {f"{name}_ids": _bytes(side.ids) for name, side in sides.items()})


def reduce(queries: np.ndarray, references: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """PCA in float64, fitted on the references; the largest entry of each axis is positive; L2-normalized float32."""
    wide = references.astype(np.float64)
    mean = wide.mean(axis=0)
    centred = wide - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :dim]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    small = [(side.astype(np.float64) - mean) @ axes for side in (queries, references)]
    norms = [np.maximum(np.linalg.norm(side, axis=1, keepdims=True), np.finfo(np.float64).tiny) for side in small]
    first, second = ((side / norm).astype(np.float32) for side, norm in zip(small, norms, strict=True))
    return first, second


def _total_order(predictions: Predictions) -> np.ndarray:
    return np.lexsort((predictions.reference, predictions.query, -predictions.scores))


def _sorted(side: Descriptors, what: str) -> Descriptors:
    _check(side, what)
    order = sorted(range(len(side.ids)), key=side.ids.__getitem__)
    return Descriptors([side.ids[row] for row in order], side.vectors[order].astype(np.float32))


def _check(side: Descriptors, what: str) -> None:
    if side.vectors.ndim != 2 or len(side.ids) != len(side.vectors):
        raise NdecError(f"{len(side.ids)} {what} ids do not fit vectors of shape {side.vectors.shape}; expected (n, d)")
    if len(set(side.ids)) < len(side.ids):
        twice = number_of(len(side.ids) - len(set(side.ids)), f"{what} id appears", f"{what} ids appear")
        raise NdecError(f"{twice} twice; each image has one descriptor")
    if not np.isfinite(side.vectors).all():
        raise NdecError(f"a {what} descriptor contains a value that is not finite; embed the images again")


def _write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    import h5py

    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)
    return path


def _bytes(ids: list[str]) -> np.ndarray:
    return np.array([name.encode("utf-8") for name in ids], dtype=np.bytes_)
