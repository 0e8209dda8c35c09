"""Settings of `ndec export`, `validate`, `diff` and `fetch`. Light: the command line reads this module for `--help`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError, nearest

PRESETS = ("own", "ndec")
FORMS = ("none", "folder", "tar")
IMAGE_FORMATS = ("keep", "jpeg", "png", "webp")
SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?"


@dataclass(frozen=True)
class ExportConfig:
    """Build a dataset from the decisions of a workspace."""

    workspace: Path
    name: str = setting("benchmark", "name of the dataset; its folder is manifests/NAME-VERSION")
    version: str = setting("1.0.0", "semantic version of the dataset: raise it whenever its content changes")
    distractors: int = setting(0, "queries without any reference, drawn at random from the pool images never mined")
    seed: int = setting(0, "draws the distractors; fewer of them under one seed are a subset of more")
    preset: str = setting("own", "own: whatever this workspace holds; ndec: the parts and counts of the NDEC benchmark")
    partial: bool = setting(False, "preset ndec: accept other counts than the published ones; they are recorded")
    hard_queries: Path | None = setting(None, "file with one id a line: ingested queries that are hard negatives")
    materialize: str = setting("none", "pack the images into the dataset: none, folder, or tar (WebDataset shards)")
    shard_megabytes: int = setting(1000, "tar: a new shard is begun before this size (10^6 bytes) is exceeded")
    resize: int = setting(0, "packed images: shrink the longest side to this many pixels; 0 leaves the size")
    image_format: str = setting("keep", "packed images: keep, jpeg, png or webp")
    quality: int = setting(90, "packed images: quality of jpeg and webp, 1 to 100, when they are re-encoded")
    attribution_only: bool = setting(False, "list ids, URLs and hashes only; `ndec fetch` downloads the images")
    authors: str = setting("", "who made the dataset, for CITATION.cff; names separated by semicolons")

    def check(self) -> None:
        """Raise UsageError for values that cannot be, each with what can."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UsageError(f"name {self.name!r} becomes a folder name; use letters, digits, - _ and . only")
        if not re.fullmatch(SEMANTIC, self.version):
            raise UsageError(f"version {self.version!r} is no semantic version; write it like 1.0.0")
        if self.distractors < 0 or self.seed < 0:
            raise UsageError(f"distractors is {self.distractors} and seed {self.seed}; both must be 0 or more")
        for what, value, choices in (
            ("preset", self.preset, PRESETS),
            ("materialize", self.materialize, FORMS),
            ("image-format", self.image_format, IMAGE_FORMATS),
        ):
            if value not in choices:
                raise UsageError(
                    f"--{what} {value!r} is unknown{nearest(value, choices)}; choose of {', '.join(choices)}"
                )
        if self.attribution_only and self.materialize != "none":
            raise UsageError(
                f"--attribution-only passes no images on, --materialize {self.materialize} packs them; give one of them"
            )
        if self.materialize == "none" and (self.resize or self.image_format != "keep"):
            raise UsageError("--resize and --image-format change packed images; add --materialize tar (or folder)")
        if self.resize < 0 or self.shard_megabytes < 1 or not 1 <= self.quality <= 100:
            raise UsageError(
                f"resize is {self.resize} (0 or more), shard_megabytes {self.shard_megabytes} (1 or more), quality "
                f"{self.quality} (1 to 100); correct the one that is out of range"
            )
        if self.preset == "ndec" and self.distractors:
            raise UsageError(
                f"--distractors {self.distractors} with --preset ndec: its easy negatives are the DISC21 queries "
                "Q25000–Q49999 without a reference; leave --distractors out"
            )


@dataclass(frozen=True)
class ValidateConfig:
    """Check a dataset from its files alone."""

    manifest: Path  # directory that holds manifest.json
    images: bool = setting(True, "also hash every image file that can be found", result=False)
    pixels: bool = setting(False, "also decode all images: no training image may have the pixels of a test image")
    model: str | None = setting(None, "also embed all images with this model and look for near-duplicates")
    near_duplicate: float = setting(0.8, "with model: cosine from which a training image is too close to a test image")


@dataclass(frozen=True)
class DiffConfig:
    """Say what changed between two versions of a dataset."""

    before: Path
    after: Path


@dataclass(frozen=True)
class FetchConfig:
    """Download the images of an attribution-only dataset into its directory."""

    manifest: Path
    delay: float = setting(0.5, "seconds between two requests to one host", result=False)
    retries: int = setting(4, "tries more after 429, 5xx or a broken connection", result=False)
    timeout: float = setting(30.0, "seconds without a byte until a connection counts as broken", result=False)
    max_wait: float = setting(120.0, "longest wait in seconds before a retry, whatever the host asks for", result=False)
    max_megabytes: int = setting(100, "larger files (10^6 bytes) are not downloaded", result=False)
    hosts: int = setting(8, "how many hosts are asked at a time, each over one connection", result=False)
    contact: str = setting("", "address or URL for the User-Agent, so that a host can reach you", result=False)
