"""What all ranges of a search share: vectors on disk. A process reads the references once and keeps them."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndec_builder.candidates.search.first_pass import choose
from ndec_builder.candidates.search.pairs import Vectors, check_vectors
from ndec_builder.candidates.search.proposals import FirstPass
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import task_threads
from ndec_builder.core.executor.free_memory import free_memory
from ndec_builder.core.storage import atomic_path, fingerprint, sha256_file
from ndec_builder.embeddings.stored_vectors import MappedVectors


@dataclass(frozen=True)
class VectorFiles:
    """Vectors (n, d) as files, small when pickled. `rows`: a .npy file with the stored rows to use; None: all.

    `stamp`: changes with the files, so that a process that lives long does not use old vectors.
    """

    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    dim: int
    rows: Path | None
    stamp: str

    @property
    def size(self) -> int:
        return sum(self.counts) if self.rows is None else len(np.load(self.rows, mmap_mode="r"))

    def open(self) -> MappedVectors:
        rows = None if self.rows is None else np.load(self.rows, mmap_mode="r")
        return MappedVectors(list(self.paths), list(self.counts), self.dim, rows)


def share_vectors(vectors: Vectors, folder: Path, name: str) -> VectorFiles:
    """Make vectors readable for every process that sees `folder`. Writes only row numbers, and vectors in memory."""
    rows, counts = None, [len(vectors)]
    if isinstance(vectors, MappedVectors):
        paths, counts = [path.absolute() for path in vectors.paths], vectors.counts
        if vectors.rows is not None:
            rows = save_array(folder / f"{name}-rows.npy", vectors.rows)
    else:
        paths = [save_array(folder / f"{name}.npy", np.asarray(vectors))]
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    stamp = fingerprint([states, sha256_file(rows) if rows else None])
    return VectorFiles(tuple(paths), tuple(counts), vectors.shape[1], rows, stamp)


def save_array(path: Path, array: np.ndarray) -> Path:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return path.absolute()


@functools.lru_cache(maxsize=2)  # the references, and the background of normalised scores
def load_once(files: VectorFiles) -> np.ndarray:
    """(n, d) float16, kept in this process. Raises NdecError when they do not fit into its free memory."""
    needed, free = files.size * files.dim * 2, free_memory()
    if free is not None and needed > free:
        raise NdecError(
            f"{files.size:,} vectors of {files.dim} dimensions take {needed / 1e9:.1f} GB, but {os.uname().nodename} "
            f"has {free / 1e9:.1f} GB of free memory, and each process of a search holds all references: use nodes "
            "with more memory, or search fewer references"
        )
    return files.open().load()


@functools.lru_cache(maxsize=1)
def _first_pass(files: VectorFiles, search: str, queries: tuple[int, int]) -> FirstPass:
    references = load_once(files)
    check_vectors(np.zeros((1, queries[1]), np.float16), references)
    return choose(search, queries, references)


@dataclass(frozen=True)
class SharedSearch:
    """The two sides of a search and how to do it; picklable."""

    queries: VectorFiles
    references: VectorFiles
    search: str = "auto"
    block: int = 8192

    def open(self) -> tuple[MappedVectors, np.ndarray, FirstPass]:
        """The queries on disk, the references in memory, the first pass over them. Raises NdecError for bad vectors."""
        if threads := task_threads():
            _use_threads(threads)
        queries, references = self.queries.open(), load_once(self.references)
        return queries, references, _first_pass(self.references, self.search, queries.shape)


def _use_threads(threads: int) -> None:
    import faiss
    import torch

    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
