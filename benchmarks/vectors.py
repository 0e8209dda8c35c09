"""Synthetic vectors for the search benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ndec_builder.embeddings.stored_vectors import MappedVectors

DIM = 512
PART = 50_000  # rows of one part file, as `ndec embed` writes several


def write_vectors(folder: Path, pool: int, references: int, seed: int = 0) -> None:
    """Write unit vectors as float16 parts: pool-*.npy and reference-*.npy.

    Half of the pool is near a reference, at a cosine of 0.2 to 0.95, so that the top pairs are not noise; one in
    thirty of these at one of 100 hub references, so that the caps have work. The rest is random.
    """
    rng = np.random.default_rng(seed)
    gallery = _unit(rng.standard_normal((references, DIM), dtype=np.float32))
    _write(folder, "reference", [gallery])
    parts = []
    for start in range(0, pool, PART):
        count = min(PART, pool - start)
        part = _unit(rng.standard_normal((count, DIM), dtype=np.float32))
        near = rng.permutation(count)[: count // 2]
        hub = rng.random(len(near)) < 1 / 30
        owners = rng.integers(0, np.where(hub, min(100, references), references))
        cosine = rng.uniform(0.2, 0.95, (len(near), 1)).astype(np.float32)
        part[near] = _unit(cosine * gallery[owners] + np.sqrt(1 - cosine**2) * part[near])
        parts.append(part.astype(np.float16))
    _write(folder, "pool", parts)


def read_vectors(folder: Path, role: str, rows: int | None = None) -> MappedVectors:
    paths = sorted(folder.glob(f"{role}-*.npy"))
    counts = [len(np.load(path, mmap_mode="r")) for path in paths]
    vectors = MappedVectors(paths, counts, DIM)
    return vectors if rows is None else vectors.take(np.arange(rows))


def names_of(role: str, count: int) -> list[str]:
    return [f"{role}{row:08d}" for row in range(count)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _write(folder: Path, role: str, parts: list[np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, part in enumerate(parts):
        np.save(folder / f"{role}-{index:05d}.npy", part.astype(np.float16))
