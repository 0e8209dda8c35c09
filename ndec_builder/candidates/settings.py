"""Settings of mining and of the second search. Light: the command line reads this module for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting

DEFAULT_MODEL = "efficientnet-lite0"
SEARCHES = ("auto", "bf16", "faiss", "ivf")


@dataclass(frozen=True)
class MineConfig:
    """Mine the global top pairs: pool × reference (split test) or pool × basic (split train)."""

    workspace: Path
    split: str = "test"
    pool: Path | None = None  # folder ingested as role pool first
    references: Path | None = None  # folder ingested first, as role reference (test) or basic (train)
    top: int = setting(1000, "pairs to mine: the global top N of all pool × reference pairs")
    max_per_query: int = setting(1, "at most so many pairs per pool image; 0: no limit")
    max_per_reference: int = setting(10, "at most so many pairs per reference: hub images attract all; 0: no limit")
    model: str = setting(DEFAULT_MODEL, "backbone whose embeddings are searched; embedded first where missing")
    geometry: bool = setting(True, "fit a homography to every pair and measure it: some 30 ms a pair and core")
    workers: int = setting(0, "processes that measure pairs; 0: as many as the cores allow", result=False)
    block: int = setting(16384, "pool images searched at a time; changes memory and time only", result=False)


@dataclass(frozen=True)
class RecheckConfig:
    """Search the pool images that would become hard-negative queries once more, against all references."""

    workspace: Path
    split: str = "test"
    model: str = setting(DEFAULT_MODEL, "backbone whose embeddings are searched: the one the split was mined with")
