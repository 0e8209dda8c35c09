"""Stored vectors, part-*.npy next to part-*.parquet: ids in memory, rows read through memory maps on demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, read_table

READ_ROWS = 65536  # rows read at a time when all rows are read


class MappedVectors:
    """(n, d) float16 in part-*.npy files. `rows`: the stored row numbers to offer, in order; None: all as stored.

    Each read maps a part and lets it go, so that old pages do not count as memory. Reading raises NdecError for a
    vector that is not finite, and names its image.
    """

    def __init__(self, paths: list[Path], counts: list[int], dim: int, rows: np.ndarray | None = None) -> None:
        self.paths, self.counts, self.dim, self.rows = paths, counts, dim, rows
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.dim

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.rows is None else len(self.rows)

    def __getitem__(self, wanted: Any) -> np.ndarray:
        """Read a slice of rows, or rows by number (k,) int; returns (k, d) float16 in that order."""
        if isinstance(wanted, slice):
            wanted = np.arange(*wanted.indices(len(self)))
        stored = np.asarray(wanted, dtype=np.int64)
        if self.rows is not None:
            stored = self.rows[stored]
        out = np.empty((len(stored), self.dim), dtype=np.float16)
        parts = np.searchsorted(self.starts, stored, side="right") - 1
        for part in np.unique(parts):
            here = np.flatnonzero(parts == part)
            inside = stored[here] - self.starts[part]
            mapped = np.load(self.paths[part], mmap_mode="r", allow_pickle=False)
            if inside[-1] - inside[0] == len(inside) - 1 and (np.diff(inside) == 1).all():  # the usual case, and faster
                out[here] = mapped[inside[0] : inside[-1] + 1]
            else:
                out[here] = mapped[inside]
        self._check(out, stored)
        return out

    def take(self, rows: np.ndarray) -> MappedVectors:
        """The same files restricted to these rows (k,) int, in that order; reads nothing."""
        return MappedVectors(self.paths, self.counts, self.dim, rows if self.rows is None else self.rows[rows])

    def blocks(self, size: int = READ_ROWS) -> Iterator[np.ndarray]:
        return (self[start : start + size] for start in range(0, len(self), size))

    def load(self) -> np.ndarray:
        """All rows in memory, (n, d) float16, without a second copy."""
        out = np.empty(self.shape, dtype=np.float16)
        for start in range(0, len(self), READ_ROWS):
            out[start : start + READ_ROWS] = self[start : start + READ_ROWS]
        return out

    def _check(self, vectors: np.ndarray, stored: np.ndarray) -> None:
        finite = np.isfinite(vectors).all(axis=1)
        if finite.all():
            return
        row = int(stored[int(finite.argmin())])
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        path = self.paths[part]
        names = read_table(path.with_suffix(".parquet"), columns=["image_id"])["image_id"]
        name = names[row - int(self.starts[part])].as_py()
        raise NdecError(
            f"the vector of {name!r} in {path.name} holds NaN or infinity; delete {path} and run `ndec embed` again: "
            "it makes what is missing"
        )


@dataclass(frozen=True)
class MappedEmbeddings:
    """Ids (n,) string, ascending by code point, and their vectors in that order; space and model as in run.json."""

    ids: pa.StringArray
    vectors: MappedVectors
    space: str
    precision: str | None  # float32 or bfloat16; None: made before it was recorded
    model: str


@dataclass(frozen=True)
class Embeddings:
    """Vectors of one role and model in memory, in the order of the images table, without rejected images."""

    ids: list[str]
    vectors: np.ndarray  # (n, d) float16, L2-normed
    norms: np.ndarray  # (n,) float32, before normalising
    space: str  # equal for vectors that can be compared: same model, weights and whitening
    model: str


def map_embeddings(directory: Path) -> MappedEmbeddings:
    """Open an embeddings folder without reading its vectors.

    Raises NdecError when the folder is not finished, a part is missing, damaged, or differs in width or type from
    run.json, a part has more or fewer rows than ids, or an id occurs twice.
    """
    run, stored, vectors = _open_parts(directory)
    if len(stored) > 1 and not pc.all(pc.less(stored[:-1], stored[1:])).as_py():  # UTF-8 bytes sort like code points
        order = pc.sort_indices(stored)
        stored = stored.take(order)
        vectors = vectors.take(order.to_numpy().astype(np.int64))
        same = pc.equal(stored[:-1], stored[1:])
        if pc.any(same).as_py():
            twice = stored[pc.index(same, True).as_py()].as_py()
            raise NdecError(f"the image {twice!r} has two vectors in {directory}; delete the folder and embed again")
    return MappedEmbeddings(stored, vectors, run["space"], run.get("precision"), run["config"]["model"])


def read_embeddings(directory: Path) -> Embeddings:
    """Read all vectors of an embeddings folder into memory.

    Raises NdecError as `map_embeddings` does, and when a value is not finite.
    """
    mapped = map_embeddings(directory)
    _, stored, vectors = _open_parts(directory)
    tables = [read_table(path.with_suffix(".parquet"), columns=["norm"]) for path in vectors.paths]
    norms = np.concatenate([np.zeros(0, np.float32), *(table["norm"].to_numpy() for table in tables)])
    return Embeddings(stored.to_pylist(), vectors.load(), norms, mapped.space, mapped.model)


def _open_parts(directory: Path) -> tuple[dict[str, Any], pa.StringArray, MappedVectors]:
    """run.json, the ids (n,) and the vectors (n, d), in the stored order."""
    run = _read_run(directory)
    paths = sorted(directory.glob("part-*.npy"))
    if len(paths) != run["parts"]:
        raise NdecError(
            f"{directory} has {len(paths)} part-*.npy files, but its run.json names {run['parts']}; files were added "
            "or removed: run the same `ndec embed` again, it makes what is missing"
        )
    counts, ids = [], []
    for path in paths:
        names = read_table(path.with_suffix(".parquet"), columns=["image_id"])["image_id"]
        counts.append(_check_part(path, run, len(names)))
        ids.append(names.cast(pa.string()))
    stored = pa.chunked_array([chunk for names in ids for chunk in names.chunks], pa.string()).combine_chunks()
    return run, stored, MappedVectors(paths, counts, run["dim"])


def _read_run(directory: Path) -> dict[str, Any]:
    if not (directory / "run.json").is_file():
        raise NdecError(f"{directory} holds no finished embeddings (no run.json); run `ndec embed` for that role")
    run: dict[str, Any] = read_json(directory / "run.json")
    if missing := {"dim", "parts", "space", "config"} - set(run):
        raise NdecError(f"{directory}/run.json lacks {sorted(missing)}; delete the folder and run `ndec embed` again")
    return run


def _check_part(path: Path, run: dict[str, Any], names: int) -> int:
    """The number of rows of a part, from its header and its size."""
    made = f"the folder was made with model={run['config']['model']} (run.json)"
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise NdecError(f"{path} cannot be read ({error}); delete it and run `ndec embed` again") from None
    if mapped.ndim != 2 or mapped.shape[1] != run["dim"]:
        got = f"{mapped.shape[1]}-d vectors" if mapped.ndim == 2 else f"an array of the shape {mapped.shape}"
        raise NdecError(f"expected {run['dim']}-d vectors, got {got} in {path.name}; {made}; re-embed")
    if mapped.dtype != np.float16:
        raise NdecError(f"expected float16 vectors, got {mapped.dtype} in {path.name}; {made}; re-embed")
    if len(mapped) != names:
        raise NdecError(f"{path.name} has {len(mapped)} vectors, its .parquet {names} images; {made}; re-embed")
    return names
