"""Estimates of time and size for the sizing guide, and sizes for the forecast of a verb.

The rates were measured on two cores of an AMD EPYC with bfloat16 in hardware (benchmarks/results/embedding.md and
search.md, 24 November 2026). Commands do not use them: they measure their first items (`core.console.Pace`).
"""

from __future__ import annotations

EMBED_PER_CORE = 175.0  # images per second and core: JPEGs of 1024 × 768 px, efficientnet-lite0 at 224 px
SEARCH_FLOPS = 300e9  # per second and core, bfloat16 first pass; FAISS without it: a third
WORKER_BYTES = 0.9e9  # of an embedding process: torch, the default model, a batch (867 MB measured)
PAIR_SECONDS = 5.0  # of a person, for one pair: assumed until a workspace has labels
START_SECONDS = 4.0  # until torch and the model are loaded


def vectors_bytes(images: int, dim: int) -> int:
    """Memory of stored float16 vectors.

    >>> vectors_bytes(1_000_000, 256)
    512000000
    """
    return 2 * images * dim


def embed_seconds(images: int, cores: int, per_core: float = EMBED_PER_CORE) -> float:
    """Seconds to embed a number of images.

    >>> embed_seconds(3500, cores=2)
    14.0
    """
    return START_SECONDS + images / (per_core * max(1, cores))


def search_seconds(queries: int, references: int, dim: int, cores: int, flops: float = SEARCH_FLOPS) -> float:
    """Seconds of the exact search: 2 · queries · references · dim operations.

    >>> round(search_seconds(1_000_000, 100_000, 256, cores=2))
    85
    """
    return 2.0 * queries * references * dim / (flops * max(1, cores))


def person_hours(pairs: int, seconds_per_pair: float, overlap: float = 0.0, people: int = 2) -> float:
    """Hours of labelling: every pair once, and a share `overlap` of them by `people` annotators.

    >>> round(person_hours(3600, seconds_per_pair=5, overlap=0.1), 2)
    5.5
    """
    return pairs * (1 + overlap * (people - 1)) * seconds_per_pair / 3600


def size(count: float) -> str:
    """A readable size: `0.4 MB`, `512 MB`, `6.2 GB`."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 10e6 else f"{count / 1e6:.1f} MB"
