"""Settings of mining and of the second search. Light: the command line reads this module for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting

DEFAULT_MODEL = "efficientnet-lite0"
SEARCHES = ("auto", "bf16", "faiss", "ivf")
GALLERY = {"test": "reference", "train": "basic"}  # split → role of the images that the pool is searched in


@dataclass(frozen=True)
class MineConfig:
    """Mine the global top pairs: pool × reference (split test) or pool × basic (split train)."""

    workspace: Path
    split: str = "test"
    pool: Path | str | None = None  # folder, pattern or URI ingested as role pool first
    references: Path | str | None = None  # the same, as role reference (test) or basic (train)
    top: int = setting(1000, "pairs to mine: the global top N of all pool × reference pairs")
    max_per_query: int = setting(1, "at most so many pairs per pool image; 0: no limit")
    max_per_reference: int = setting(10, "at most so many pairs per reference: hub images attract all; 0: no limit")
    model: str = setting(DEFAULT_MODEL, "backbone whose embeddings are searched; embedded first where missing")
    geometry: bool = setting(True, "fit a homography to every pair and measure it: some 30 ms a pair and core")
    workers: int = setting(0, "processes that look at pictures; 0: as many as the cores allow", result=False)
    block: int = setting(8192, "pool images searched at a time; changes memory and time only", result=False)
    rank_by: str = setting("raw", "raw or normalized: the score that ranks pairs; normalized needs basic images")
    normalization_factor: float = setting(1.0, "score_normalized = score - factor * background score; D2LV 2, SSCD 1")
    normalization_neighbours: int = setting(3, "basic images nearest to the query that make its background score")
    normalization_mode: str = setting("mean", "background score: the mean of these neighbours, or min: the last alone")
    search: str = setting("auto", "auto, bf16 or faiss: all exact, the same result; ivf: approximate", result=False)
    ivf_lists: int = setting(0, "ivf: lists that the references are sorted into; 0: by their number", result=False)
    ivf_probes: int = setting(0, "ivf: lists looked into for each pool image; 0: a sixteenth of them", result=False)
    ivf_pq_bytes: int = setting(0, "ivf: bytes a reference is compressed to; 0: kept as float16", result=False)
    attribution: Path | None = None  # csv of photo ids, urls or authors of images whose tables lack them
    embed_settings: Path | None = None  # file whose [embed] is used; None: the ndec.toml of the workspace


@dataclass(frozen=True)
class RecheckConfig:
    """Search the pool images that would become hard-negative queries once more, against all references."""

    workspace: Path
    split: str = "test"
    model: str = setting(DEFAULT_MODEL, "backbone whose embeddings are searched: the one the split was mined with")
    workers: int = setting(0, "processes that look at pictures; 0: as many as the cores allow", result=False)


@dataclass(frozen=True)
class PrelabelConfig:
    """Judge mined pairs by score and geometry: how probable each is an edited copy."""

    workspace: Path
    split: str = "test"
    model: str = setting(DEFAULT_MODEL, "backbone whose embeddings were mined")
    count: int = setting(400, "synthetic copies to learn from; half as many reverse crops, twice as many other pairs")
    seed: int = setting(0, "of the synthetic edits")
