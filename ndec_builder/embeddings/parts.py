"""Writes vectors: the files of one shard, and the result parts made from all shards.

A part holds PART_VECTORS vectors for any shard size, so result files do not depend on the shard size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.core.storage import atomic_path, read_table, write_table

PART = pa.schema([("image_id", pa.string()), ("norm", pa.float32())])  # norm: of the layer named in run.json
PART_VECTORS = 32_768  # 16 MB of 256-d float16: few files, each read at once

Piece = tuple[np.ndarray, pa.Table]  # vectors (n, d) float16 and their PART rows


def split_norms(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split (n, d) float32 into directions (n, d) float16 and lengths (n,) float32; a zero vector stays zero.

    A length below 1.2e-38, which float32 stores with fewer digits, counts as zero.
    """
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    some = norms >= np.finfo(np.float32).tiny
    directions = np.where(some[:, None], vectors, 0) / np.where(some, norms, 1)[:, None]
    return directions.astype(np.float16), np.where(some, norms, 0).astype(np.float32)


def write_part(directory: Path, name: str, ids: list[str], vectors: np.ndarray) -> tuple[str, str]:
    """Normalise (n, d) float32 vectors once and write them as NAME.npy and NAME.parquet; returns the two file names."""
    directions, norms = split_norms(vectors)
    return _write(directory, name, (directions, pa.table([pa.array(ids, pa.string()), pa.array(norms)], schema=PART)))


def read_shard(directory: Path, name: str) -> Piece:
    return np.load(directory / f"{name}.npy", allow_pickle=False), read_table(directory / f"{name}.parquet")


def write_parts(directory: Path, pieces: Iterable[Piece], size: int = PART_VECTORS) -> int:
    """Write part-00000, part-00001 … from pieces in order; return the number of parts. Deletes other part files."""
    kept: list[str] = []
    for index, piece in enumerate(_regroup(pieces, size)):
        kept += _write(directory, f"part-{index:05d}", piece)
    for path in directory.glob("part-*"):
        if path.name not in kept:
            path.unlink()
    return len(kept) // 2


def _regroup(pieces: Iterable[Piece], size: int) -> Iterator[Piece]:
    """The same rows in pieces of `size` (the last one smaller); holds at most one piece and one part in memory."""
    vectors: list[np.ndarray] = []
    tables: list[pa.Table] = []
    held = 0
    for piece, table in pieces:
        start = 0
        while start < len(piece):
            stop = min(len(piece), start + size - held)
            vectors.append(piece[start:stop])
            tables.append(table.slice(start, stop - start))
            held, start = held + stop - start, stop
            if held == size:
                yield np.concatenate(vectors), pa.concat_tables(tables)
                vectors, tables, held = [], [], 0
    if held:
        yield np.concatenate(vectors), pa.concat_tables(tables)


def _write(directory: Path, name: str, piece: Piece) -> tuple[str, str]:
    vectors, table = piece
    with atomic_path(directory / f"{name}.npy") as temporary:
        np.save(temporary, vectors)
    write_table(directory / f"{name}.parquet", table.combine_chunks())
    return f"{name}.npy", f"{name}.parquet"
