"""Estimates of time and size, for the forecast of a verb and for the sizing guide.

The rates are guesses for a machine without earlier runs, measured on two cores of an AMD EPYC with bfloat16
in hardware (benchmarks/results/embedding.md and search.md, 24 November 2026). A workspace with earlier
runs has its own rate.
"""

from __future__ import annotations

EMBED_PER_CORE = 175.0  # images per second and core: JPEGs of 1024 × 768 px, efficientnet-lite0 at 224 px
FIT_SECONDS = 0.03  # per pair and core: both pictures matched and aligned
SEARCH_FLOPS = 300e9  # per second and core, bfloat16 first pass; FAISS without it: a third
WORKER_BYTES = 0.9e9  # of an embedding process: torch, the default model, a batch (867 MB measured)
EDIT_PIXELS = 15e6  # per second and core: a picture decoded, edited as a copy and written
TABLE_ROWS = 100e3  # per second, of a dataset that is written (benchmarks/results/manifest_scale.md)
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


def edit_seconds(pixels: float, cores: int) -> float:
    """Seconds to make edited copies of pictures with this number of pixels in total."""
    return 1 + pixels / (EDIT_PIXELS * max(1, cores))


def table_seconds(rows: int) -> float:
    """Seconds to write a dataset's tables."""
    return 1 + rows / TABLE_ROWS


def fit_seconds(pairs: int, cores: int, seconds: float = FIT_SECONDS) -> float:
    """Seconds to align and measure pairs."""
    return pairs * seconds / max(1, cores)


def person_hours(pairs: int, seconds_per_pair: float, overlap: float = 0.0, people: int = 2) -> float:
    """Hours of labelling: every pair once, and a share `overlap` of them by `people` annotators.

    >>> round(person_hours(3600, seconds_per_pair=5, overlap=0.1), 2)
    5.5
    """
    return pairs * (1 + overlap * (people - 1)) * seconds_per_pair / 3600


def duration(seconds: float) -> str:
    """A readable duration: `8 s`, `3 min`, `2 h 05 min`, `3.5 days`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes:02d} min"
    return f"{seconds / 86400:.1f} days"


def size(count: float) -> str:
    """A readable size: `0.4 MB`, `512 MB`, `6.2 GB`."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 10e6 else f"{count / 1e6:.1f} MB"
