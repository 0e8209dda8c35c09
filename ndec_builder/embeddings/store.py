"""Stored vectors: part-*.npy beside part-*.parquet, read back with every check that a mix-up can need."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, read_table


@dataclass(frozen=True)
class Embeddings:
    """Vectors of one role and model, in the order of the images table; rejected images are not in it."""

    ids: list[str]
    vectors: np.ndarray  # (n, d) float16, L2-normed
    norms: np.ndarray  # (n,) float32, before normalising
    space: str  # equal for vectors that can be compared: model, weights and whitening
    model: str


def read_embeddings(directory: Path) -> Embeddings:
    """Read all parts of an embeddings folder.

    Raises NdecError when the folder is not finished, a part has another width or type than run.json says, rows and ids
    do not pair up, an id comes twice, or a value is not finite.
    """
    run = read_run(directory)
    paths = sorted(directory.glob("part-*.npy"))
    if len(paths) != run["parts"]:
        raise NdecError(
            f"{directory} has {len(paths)} part-*.npy files, its run.json names {run['parts']}; files were added or "
            "removed: run the same `ndec embed` again, it makes what is missing"
        )
    ids: list[str] = []
    vectors = [_read_part(path, run, ids) for path in paths]
    tables = [read_table(path.with_suffix(".parquet"), columns=["norm"]) for path in paths]
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise NdecError(f"the image {twice!r} has two vectors in {directory}; delete the folder and embed again")
    return Embeddings(
        ids,
        np.concatenate(vectors) if vectors else np.zeros((0, run["dim"]), np.float16),
        np.concatenate([table["norm"].to_numpy() for table in tables] or [np.zeros(0, np.float32)]),
        run["space"],
        run["config"]["model"],
    )


def check_same_space(query: Embeddings, reference: Embeddings) -> None:
    """Raises NdecError when two sets of vectors were made by different models, weights or whitenings."""
    if query.space != reference.space:
        raise NdecError(
            f"the vectors cannot be compared: they were made with model={query.model} and model={reference.model}, or "
            "with another whitening or other weights under that name; run `ndec embed` again for both roles"
        )


def read_run(directory: Path) -> dict[str, Any]:
    if not (directory / "run.json").is_file():
        raise NdecError(f"{directory} holds no finished embeddings (no run.json); run `ndec embed` for that role")
    run: dict[str, Any] = read_json(directory / "run.json")
    if missing := {"dim", "parts", "space", "config"} - set(run):
        raise NdecError(f"{directory}/run.json lacks {sorted(missing)}; delete the folder and run `ndec embed` again")
    return run


def _read_part(path: Path, run: dict[str, Any], ids: list[str]) -> np.ndarray:
    """The vectors (n, d) of one part; its ids are appended to `ids`."""
    try:
        vectors: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise NdecError(f"{path} cannot be read ({error}); delete it and run `ndec embed` again") from None
    made = f"the folder was made with model={run['config']['model']} (run.json)"
    if vectors.ndim != 2 or vectors.shape[1] != run["dim"]:
        got = f"{vectors.shape[1]}-d vectors" if vectors.ndim == 2 else f"an array of the shape {vectors.shape}"
        raise NdecError(f"expected {run['dim']}-d vectors, got {got} in {path.name}; {made}; re-embed")
    if vectors.dtype != np.float16:
        raise NdecError(f"expected float16 vectors, got {vectors.dtype} in {path.name}; {made}; re-embed")
    names = read_table(path.with_suffix(".parquet"), columns=["image_id"])["image_id"].to_pylist()
    if len(names) != len(vectors):
        raise NdecError(f"{path.name} has {len(vectors)} vectors, its .parquet {len(names)} images; {made}; re-embed")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise NdecError(f"the vector of {names[int(finite.argmin())]!r} in {path.name} is not finite; {made}; re-embed")
    ids += names
    return vectors
