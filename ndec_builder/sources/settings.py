"""Settings of `ndec ingest` and `ndec corpus fetch`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError, nearest

SOURCE_KINDS = {
    # name: what the source is
    "folder": "a folder with images, searched recursively; local or an fsspec URI",
    "list": "a text file with one path or URI a line",
    "imagefolder": "a folder of class folders: the class becomes the group",
    "tar": "tar or WebDataset shards, read in place: a file, a folder, or a pattern such as `part-{000..099}.tar`",
    "parquet": "parquet files with image bytes, paths or URIs",
    "hf": "a directory of the `datasets` library: parquet, save_to_disk, or images with metadata.csv or metadata.jsonl",
    "openimages": "OpenImages: the metadata csv, or its images as folder or tars with --metadata CSV",
    "disc21": "DISC21 images as folder or zips, read in place; the id's first letter says the role",
    "ndec": "the NDEC release: negative_pair, query_images_h5, public_ground_truth_h5.csv",
    "copydays": "CopyDays: original, crops/NN, jpeg/NN, strong",
    "descriptors": "HDF5 descriptors of ISC2021 form; they become an embeddings folder",
}
MANY_ROLES = ("ndec", "disc21", "copydays")  # kinds that know the roles themselves: `ndec ingest all`
GROUPS = ("auto", "image", "folder", "author")
LOOK_MODES = ("auto", "list", "header", "decode")


@dataclass(frozen=True)
class IngestConfig:
    """`ndec ingest ROLE SOURCE`: list the images of a source under a role."""

    workspace: Path
    role: str  # reference, basic, pool, query, or all for a kind that knows the roles itself
    source: Path | str  # path, pattern or fsspec URI
    kind: str = ""  # one of SOURCE_KINDS; empty: guessed when it is plain
    ground_truth: Path | None = None  # csv or json of DISC21 form; with role query
    ids: Path | None = None  # kind disc21: only these ids, one a line
    metadata: Path | None = None  # kind openimages: the metadata csv
    images: str | None = None  # kind openimages with a csv as source: folder or URI that holds train, validation, test
    add: bool = False  # keep the images that the role has already
    group_by: str = setting(
        "auto", "what becomes `group`: image (each its own), folder (its name), author; auto: what the kind suggests"
    )
    look: str = setting(
        "auto", "list (open no image), header, decode; auto: decode local images, only list remote ones and bare csvs"
    )
    column: str = setting("", "parquet: the column with the images; empty: the one that looks like it")
    verify_md5: bool = setting(False, "OpenImages: reject images whose MD5 is not the metadata's OriginalMD5")
    reverse_pairs: bool = setting(False, "NDEC release: the T image of a pair is the latter, the other the former")
    license: str | None = setting("", "licence written where the source names none, e.g. CC-BY-4.0; empty: unknown")
    max_pixels: int = setting(200_000_000, "an image with more pixels is rejected before it is decoded")
    max_reject_share: float = setting(0.05, "share of unusable images above which the exit code is 3", result=False)
    workers: int = setting(0, "threads that read and decode; 0: one per core", result=False)

    def __post_init__(self) -> None:
        for what, value, known in (
            ("kind", self.kind, ["", *SOURCE_KINDS]),
            ("group_by", self.group_by, GROUPS),
            ("look", self.look, LOOK_MODES),
        ):
            if value not in known:
                names = ", ".join(name for name in known if name)
                raise UsageError(f"{what} {value!r} is unknown; it is one of {names}{nearest(value, known)}")
        if self.ground_truth is not None and self.role not in ("query", "all"):
            raise UsageError(
                f"a ground truth belongs to the role query, not {self.role!r}: `ndec ingest query SOURCE …`"
            )
        if not 0 <= self.max_reject_share <= 1:
            raise UsageError(f"max_reject_share is {self.max_reject_share}; it is a share between 0 and 1")
