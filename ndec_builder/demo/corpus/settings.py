"""Settings of `ndec corpus fetch`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import Config, option, setting
from ndec_builder.sources.settings import GROUP_BY

SIZE_NAMES = ("full", "small")


@dataclass(frozen=True)
class CorpusConfig(Config):
    """`ndec corpus fetch`: the mini corpus, or a demo corpus from the user's own photos."""

    workspace: Path
    images: Path | None = option(None, "Folder with your own photos, used instead of the packages.")
    group_by: str = option("auto", f"Of --images: {GROUP_BY['help']}", choices=GROUP_BY["choices"])
    cache: Path | None = option(None, "Folder for downloads; default: $NDEC_CACHE, else ~/.cache/ndec.")
    size: str = setting("full", "full (about 3,000 images) or small (a quarter of that, for CI).", choices=SIZE_NAMES)
    seed: int = setting(0, "Seed for split, roles, crops and edits; the same seed gives the same bytes.")
    workers: int = setting(0, "Threads that decode; 0: one per core.", ge=0, result=False)
