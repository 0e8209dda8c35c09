"""Reads HDF5 files of descriptors in the two ISC2021 forms.

Either one role: `vectors` float (n, d) with `image_names` (bytes or text, with or without folder and ending). Or a
submission: `query` and `reference` with `query_ids` and `reference_ids`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.pictures.formats import without_picture_ending
from ndec_builder.embeddings import hdf5

ONE_SIDE = {"vectors": "image_names"}
SUBMISSION = {"query": "query_ids", "reference": "reference_ids"}
EXPECTED = "vectors with image_names, or a submission: query, reference, query_ids, reference_ids"
LEAST_OF_ONE_MODEL = 0.9  # median cosine of one picture's descriptors in two files; rounding and decoders cost little
_LISTED_IDS = 20  # at most this many ids in a message
NamedVectors = tuple[list[str], np.ndarray]  # ids, (n, d) float32; file order


def read_hdf5(path: Path) -> dict[str, NamedVectors]:
    """Return {name: (ids without folder and picture ending, vectors)}; names: `vectors`, or `query` and `reference`.

    Raises UsageError when the file does not exist; NdecError when it has another form, the numbers of ids and vectors
    differ, an image occurs twice, or a value is not finite.
    """
    if not path.is_file():
        raise UsageError(f"there is no descriptors file {path}; give an HDF5 file in the form of ISC2021")
    with hdf5.opened(path) as file:
        form = next((form for form in (ONE_SIDE, SUBMISSION) if all(name in file for name in form)), None)
        if form is None:
            raise NdecError(f"{path} holds {listed(file)}; expected {EXPECTED}")
        return {name: _side(path, name, hdf5.array(file, name), hdf5.array(file, ids)) for name, ids in form.items()}


def listed_ids(names: list[str]) -> str:
    """The first ids, and how many more there are."""
    return ", ".join(names[:_LISTED_IDS]) + (
        f" and {len(names) - _LISTED_IDS} more" if len(names) > _LISTED_IDS else ""
    )


def listed(file: Any) -> str:
    return ", ".join(sorted(file)) or "nothing"


def _side(path: Path, what: str, vectors: Any, names: Any) -> NamedVectors:
    vectors = np.asarray(vectors, dtype=np.float32)
    ids = [_image_id(name) for name in np.asarray(names).reshape(-1).tolist()]
    if vectors.ndim != 2 or len(vectors) != len(ids) or not ids:
        raise NdecError(f"{path}: {what} has the shape {vectors.shape} for {len(ids)} names; expected (n, d) and n")
    if twice := sorted(name for name, count in Counter(ids).items() if count > 1):
        raise NdecError(f"{path}: {len(twice)} images occur twice: {listed_ids(twice)}; an image has one descriptor")
    if bad := [ids[row] for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()]:
        raise NdecError(f"{path}: {len(bad)} descriptors hold NaN or infinity: {listed_ids(bad)}; compute them again")
    return ids, vectors


def _image_id(name: Any) -> str:
    """`b"queries/Q00001.jpg"` → `Q00001`; another ending stays."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return without_picture_ending(PurePosixPath(text).name)
