"""Settings of `ndec export`, `validate`, `diff`, `fetch` and `export-release`. Light: the command line imports this."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from ndec_builder.core.config import Config, described, setting
from ndec_builder.core.errors import UsageError
from ndec_builder.embeddings.settings import MODEL_FORMS

EXPORT_PRESETS = ("own", "ndec")
FORMS = ("none", "folder", "tar")
IMAGE_FORMATS = ("keep", "jpeg", "png", "webp")
HASHES = {"pdq": "pdqhash", "phash": "imagehash"}  # perceptual hash → the package that computes it
SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?"


@dataclass(frozen=True)
class CardConfig(Config):
    """What only people know about a dataset, for its card, its citation and its Croissant file (`[card]`)."""

    url: str = setting("", "Web page of the dataset.")
    date_published: str = setting("", "Day of publication, as 2026-11-29.")
    keywords: tuple[str, ...] = setting((), "More keywords, next to those that every dataset of ndec has.")
    collection: str = setting("", "How the pictures were collected: where, when, by whom, by which rule.")
    collection_type: tuple[str, ...] = setting(
        (), "Kinds of collection in the words of Croissant's RAI vocabulary, such as Web API or Direct measurement."
    )
    derived_from: tuple[str, ...] = setting((), "Datasets and collections that the pictures come from: names or URLs.")
    annotators: str = setting("", "Who labelled, without names: training, pay, what they have in common.")
    limitations: str = setting("", "What the dataset does not cover, and what it must not be used for.")
    biases: str = setting("", "Whom, where and what the pictures show more often than the world does.")
    use_cases: str = setting("", "Intended uses besides testing and training of copy detectors.")
    social_impact: str = setting("", "Good and bad effects that a use of the dataset may have on people.")
    personal_information: str = setting(
        "", "People and personal or sensitive facts in the pictures, and consent; or that there are none."
    )
    synthetic: str = setting(
        "",
        "Whether the source pictures are generated or rendered: yes or no. Copies that `ndec edit` made need no word.",
        choices=("", "yes", "no"),
    )
    maintenance: str = setting("", "Who maintains the dataset, how it is updated and withdrawn.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.url and not re.fullmatch(r"https?://[^\s]+", self.url):
            raise UsageError(f"[card] url is {self.url!r}; it must start with http:// or https://")
        with contextlib.suppress(ValueError):
            if not self.date_published or date.fromisoformat(self.date_published).isoformat() == self.date_published:
                return
        raise UsageError(f"[card] date_published is {self.date_published!r}; write the day like 2026-11-29")

    def stated(self) -> dict[str, Any]:
        """The settings that say something, for manifest.json."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if (value := getattr(self, field.name))
        }


@dataclass(frozen=True)
class ExportConfig(Config):
    """Build a dataset from the decisions of a workspace."""

    workspace: Path
    name: str = setting("benchmark", "Name of the dataset; its folder is manifests/NAME-VERSION.")
    version: str = setting("1.0.0", "Semantic version of the dataset: raise it whenever the content changes.")
    distractors: int = setting(
        0, "Queries without any reference (easy negatives), drawn at random from the pool images never mined.", ge=0
    )
    confirmed_copies: bool = setting(
        True, "Pool images that annotators decided to be edited copies become queries (not with --preset ndec)."
    )
    seed: int = setting(0, "Seed for drawing distractors; a smaller number of them is a subset of a larger one.", ge=0)
    preset: str = setting(
        "own",
        "own: what this workspace contains; ndec: the parts and counts of the NDEC benchmark.",
        choices=EXPORT_PRESETS,
    )
    partial: bool = setting(
        False, "With --preset ndec: accept counts that differ from the published ones; they are recorded."
    )
    hard_queries: Path | None = setting(None, "File with one id per line: ingested queries that are hard negatives.")
    materialize: str = setting(
        "none", "Pack the images into the dataset: none, folder or tar (WebDataset shards).", choices=FORMS
    )
    shard_megabytes: int = setting(1000, "tar: largest size of a shard, in units of 10^6 bytes.", ge=1)
    resize: int = setting(0, "Packed images: shrink the longest side to this number of pixels; 0 keeps the size.", ge=0)
    image_format: str = setting("keep", "Packed images: keep, jpeg, png or webp.", choices=IMAGE_FORMATS)
    quality: int = setting(90, "Packed images: quality of re-encoded jpeg and webp files, 1 to 100.", ge=1, le=100)
    attribution_only: bool = setting(False, "List ids, URLs and hashes only; `ndec fetch` downloads the images.")
    train_only: bool = setting(
        False, "The training tables only, without a test set; images that belong to the test stay out of them."
    )
    authors: str = setting("", "Authors of the dataset for CITATION.cff; names separated by semicolons.")
    hashes: str = setting(
        "", "Write perceptual hashes of all images to hashes.parquet: pdq, phash or both, separated by a comma."
    )
    card: CardConfig = field(
        default_factory=CardConfig,
        metadata=described("What only people know about the dataset: the section [card].", section="card"),
    )

    @property
    def hash_names(self) -> tuple[str, ...]:
        """The perceptual hashes to compute, in the order of HASHES."""
        named = {name.strip() for name in self.hashes.split(",")} - {""}
        return tuple(sorted(named, key=lambda name: (list(HASHES).index(name) if name in HASHES else -1, name)))

    def check(self) -> None:
        """Raise UsageError for a bad name or version and for settings that contradict each other."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise UsageError(f"name {self.name!r} becomes a folder name; use letters, digits, - _ and . only")
        if not re.fullmatch(SEMANTIC, self.version):
            raise UsageError(f"version {self.version!r} is not a semantic version; write it like 1.0.0")
        if self.attribution_only and self.materialize != "none":
            raise UsageError(
                f"--attribution-only leaves the images out, --materialize {self.materialize} packs them; give one of "
                "the two"
            )
        if self.materialize == "none" and (self.resize or self.image_format != "keep"):
            raise UsageError("--resize and --image-format change packed images; add --materialize tar (or folder)")
        test = {"distractors": self.distractors, "hard_queries": self.hard_queries, "preset": self.preset != "own"}
        if self.train_only and (named := [name for name, value in test.items() if value]):
            raise UsageError(
                f"--train-only leaves out the test set, which --{named[0].replace('_', '-')} is about; drop one"
            )
        if unknown := [name for name in self.hash_names if name not in HASHES]:
            raise UsageError(f"--hashes {self.hashes}: {unknown[0]!r} is unknown; it must be {' or '.join(HASHES)}")
        if self.preset == "ndec" and self.distractors:
            raise UsageError(
                f"--distractors {self.distractors} with --preset ndec: its easy negatives are the DISC21 queries "
                "Q25000–Q49999 without a reference; leave --distractors out"
            )


_MANIFEST = described("Manifest directory.", cli="argument")


@dataclass(frozen=True)
class ValidateConfig(Config):
    """Check a dataset from its files alone."""

    manifest: Path = field(metadata=_MANIFEST)
    images: bool = setting(True, "Also hash every image file that can be found next to the manifest.", result=False)
    pixels: bool = setting(
        False, "Also decode all images and check that no training image has the same pixels as a test image."
    )
    model: str | None = setting(
        None, f"Also embed all images with this model and look for near-duplicates, {MODEL_FORMS}"
    )
    near_duplicate: float = setting(
        0.8, "With a model: cosine at or above which a training image is too close to a test image.", gt=0, le=1
    )


@dataclass(frozen=True)
class DiffConfig(Config):
    """Say what changed between two versions of a dataset."""

    before: Path = field(metadata=described("Manifest directory of the older version.", cli="argument"))
    after: Path = field(metadata=described("Manifest directory of the newer version.", cli="argument"))


@dataclass(frozen=True)
class FetchConfig(Config):
    """Download the images of an attribution-only dataset into its directory."""

    manifest: Path = field(metadata=_MANIFEST)
    delay: float = setting(0.5, "Seconds between two requests to one host.", ge=0, result=False)
    retries: int = setting(4, "Retries after status 429, 5xx or a broken connection.", ge=0, result=False)
    timeout: float = setting(
        30.0, "Seconds without a byte after which a connection counts as broken.", ge=0.001, result=False
    )
    max_wait: float = setting(
        120.0, "Longest wait in seconds before a retry, whatever the host asks for.", ge=0, result=False
    )
    max_megabytes: int = setting(100, "Larger files (in units of 10^6 bytes) are not downloaded.", ge=1, result=False)
    hosts: int = setting(8, "Number of hosts contacted at a time, over one connection each.", ge=1, result=False)
    allow: tuple[str, ...] = setting(
        (), "Host names or addresses to contact although they are private or loopback.", result=False
    )
    contact: str = setting("", "Your address or URL for the User-Agent, so that a host can reach you.", result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.contact.isprintable() or not self.contact.isascii():
            raise UsageError(f"contact {self.contact!r} goes into an HTTP header; use plain ASCII text")


@dataclass(frozen=True)
class ReleaseConfig(Config):
    """`ndec export-release`: a dataset and the new folder for the layout of the NDEC release."""

    manifest: Path = field(metadata=_MANIFEST)
    out: Path = field(metadata=described("New folder."))
