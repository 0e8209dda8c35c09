"""Settings of `ndec ingest` and `ndec corpus fetch`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError


@dataclass(frozen=True)
class IngestConfig:
    """`ndec ingest ROLE SOURCE`: list a folder's images under a role."""

    workspace: Path
    role: str  # reference, basic, pool or query
    source: Path  # folder, searched recursively
    kind: str = "folder"
    ground_truth: Path | None = None  # csv of DISC21 form; with role query
    group_by: str = setting("image", "what becomes `group`: image (each its own) or folder (name of the parent folder)")
    license: str | None = setting("", "licence written for every image, e.g. CC-BY-4.0; empty: unknown")
    max_pixels: int = setting(200_000_000, "an image with more pixels is rejected before it is decoded")
    max_reject_share: float = setting(0.05, "share of unusable images above which the exit code is 3", result=False)
    workers: int = setting(0, "threads that read and decode; 0: one per core", result=False)

    def __post_init__(self) -> None:
        if self.kind != "folder":
            raise UsageError(f"kind {self.kind!r} is unknown; this version ingests 'folder'")
        if self.group_by not in ("image", "folder"):
            raise UsageError(f"group_by {self.group_by!r} is unknown; it is 'image' or 'folder'")
        if self.ground_truth is not None and self.role != "query":
            raise UsageError(
                f"a ground truth belongs to the role query, not {self.role!r}: `ndec ingest query FOLDER …`"
            )
        if not 0 <= self.max_reject_share <= 1:
            raise UsageError(f"max_reject_share is {self.max_reject_share}; it is a share between 0 and 1")


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
