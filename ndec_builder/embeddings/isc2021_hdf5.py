"""HDF5 files of descriptors in the forms of ISC2021, read in one place.

One side a file, `vectors` float (n, d) with `image_names` (bytes or text, perhaps with a folder and an ending); or a
submission: `query`, `reference` with `query_ids`, `reference_ids`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ndec_builder.core.decode import SUFFIXES
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.embeddings import hdf5

ONE_SIDE = {"vectors": "image_names"}
SUBMISSION = {"query": "query_ids", "reference": "reference_ids"}
EXPECTED = "vectors with image_names, or a submission: query, reference, query_ids, reference_ids"
NAMED = 20  # ids that a message lists
Side = tuple[list[str], np.ndarray]  # ids without folder and picture ending, (n, d) float32, in the order of the file


def read_hdf5(path: Path) -> dict[str, Side]:
    """`vectors`, or `query` and `reference` → that side's ids and vectors.

    Raises UsageError when there is no such file; NdecError when it is not of these forms, ids and vectors do not pair
    up, an image comes twice, or a value is not finite.
    """
    if not path.is_file():
        raise UsageError(f"there is no descriptors file {path}; give an HDF5 file in the form of ISC2021")
    with hdf5.opened(path) as file:
        form = next((form for form in (ONE_SIDE, SUBMISSION) if all(name in file for name in form)), None)
        if form is None:
            raise NdecError(f"{path} holds {listed(file)}; expected {EXPECTED}")
        return {name: _side(path, name, hdf5.array(file, name), hdf5.array(file, ids)) for name, ids in form.items()}


def some(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def listed(file: Any) -> str:
    return ", ".join(sorted(file)) or "nothing"


def _side(path: Path, what: str, vectors: Any, names: Any) -> Side:
    vectors = np.asarray(vectors, dtype=np.float32)
    ids = [_image_id(name) for name in np.asarray(names).reshape(-1).tolist()]
    if vectors.ndim != 2 or len(vectors) != len(ids) or not ids:
        raise NdecError(f"{path}: {what} has the shape {vectors.shape} for {len(ids)} names; expected (n, d) and n")
    if twice := sorted(name for name, count in Counter(ids).items() if count > 1):
        raise NdecError(f"{path}: {len(twice)} images come twice: {some(twice)}; an image has one descriptor")
    if bad := [ids[row] for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()]:
        raise NdecError(f"{path}: {len(bad)} descriptors hold NaN or infinity: {some(bad)}; make them again")
    return ids, vectors


def _image_id(name: Any) -> str:
    """`b"queries/Q00001.jpg"` → `Q00001`; an ending that is no picture's stays."""
    path = PurePosixPath(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name))
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
