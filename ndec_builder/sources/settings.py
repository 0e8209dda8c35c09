"""Settings of `ndec ingest`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ndec_builder.core.access.hosts import parse_allowed
from ndec_builder.core.config import MAX_PIXELS, Config, described, option, setting
from ndec_builder.core.errors import UsageError
from ndec_builder.core.vocabulary import ROLES
from ndec_builder.sources.image_ids import COLUMN, check_rule

SOURCE_KINDS = {
    # name: what the source is
    "folder": "a folder with images, searched recursively; local or an fsspec URI",
    "list": "a text file with one path or URI per line",
    "imagefolder": "a folder of class folders: the class becomes the group",
    "tar": "tar or WebDataset shards, read in place: a file, a folder, or a pattern such as `part-{000..099}.tar`",
    "parquet": "parquet files with image bytes, paths or URIs",
    "hf": "a directory of the `datasets` library: parquet, save_to_disk, or images with metadata.csv or metadata.jsonl",
    "openimages": "OpenImages: the metadata csv, or its images as folder or tars with --metadata CSV",
    "disc21": "DISC21 images as folder or zips, read in place; the first letter of an id gives the role",
    "ndec": "the NDEC release: negative_pair, query_images_h5, public_ground_truth_h5.csv",
    "copydays": "CopyDays: original, crops/NN, jpeg/NN, strong",
    "descriptors": "HDF5 descriptors in the form of ISC2021; they become an embeddings folder",
}
MANY_ROLES = ("ndec", "disc21", "copydays")  # kinds that know the roles themselves: `ndec ingest all`
FIXED_IDS = ("openimages", "disc21", "ndec", "copydays")  # kinds whose files define the ids
WITHOUT_COLUMNS = ("folder", "imagefolder", "list")  # kinds that know nothing but names
# kinds whose files define the groups, with the rules that they allow
OWN_GROUPS = {"openimages": ("none", "image", "folder", "author"), "disc21": (), "ndec": (), "copydays": ()}
# image is an older name of none
GROUP_RULES = ("auto", "none", "folder", "path", "video", "burst", "time", "author", "image")
GROUP_BY: dict[str, Any] = {
    # the definition of the setting, for every command that reads folders
    "help": "Images that are never in both training and test: none (or image: each its own group), folder, path (first "
    "folder below the source), video (numbered frames), burst (shots within seconds), time (shots within minutes), "
    "author, or auto: folder for class folders, the metadata's group, else none.",
    "choices": GROUP_RULES,
}
LOOK_MODES = ("auto", "list", "header", "decode")


@dataclass(frozen=True)
class IngestConfig(Config):
    """`ndec ingest ROLE SOURCE`: list the images of a source under a role."""

    workspace: Path
    role: str = field(
        metadata=described(
            "reference, basic (training images), pool or query; all for the kinds ndec, disc21 and copydays.",
            cli="argument",
            choices=(*ROLES, "all"),
        )
    )
    source: Path | str = field(
        metadata=described("Folder, file, pattern such as part-{000..099}.tar, or fsspec URI.", cli="argument")
    )
    kind: str = option("", f"{', '.join(SOURCE_KINDS)}; guessed if not given.", choices=("", *SOURCE_KINDS))
    ground_truth: Path | None = option(None, "Ground truth of the role query, csv or json in the form of DISC21.")
    ids: Path | None = option(None, "disc21: file with the ids to use, one per line.")
    metadata: Path | None = option(None, "openimages: the csv with licences and rotation.")
    images: str | None = option(
        None, "openimages, when the source is a csv: folder or URI that contains train, validation and test."
    )
    allow: tuple[str, ...] = setting(
        (),
        "Hosts from which images that a table names are read: https://HOST, https://*.HOST, s3://BUCKET; "
        "private:http://HOST for one in a private network.",
    )
    add: bool = option(False, "Keep the images that the role already has.")
    follow_links: Path | None = option(None, "Follow symbolic links whose targets are in this folder.")
    group_by: str = setting("auto", **GROUP_BY)
    group_pause: float = setting(
        0.0, "burst, time: longest pause inside a group, in seconds; 0: 3 for burst, 300 for time.", ge=0
    )
    group_with: tuple[Path, ...] = option(
        (), "Folders of the same collection: their groups and those of the source may be the same, e.g. one burst."
    )
    look: str = setting(
        "auto",
        "list (open no image), header, decode, or auto: decode local images, only list remote ones and bare csvs.",
        choices=LOOK_MODES,
    )
    column: str = setting("", "parquet: column with the images; empty: the one that looks like it.")
    id: str = setting(
        "",
        "What becomes `image_id`: stem (of the file name), path (in the source) or column:NAME; empty: the stem, "
        "or the path where stems repeat.",
    )
    verify_md5: bool = setting(False, "openimages: reject images whose MD5 differs from the metadata's OriginalMD5.")
    reverse_pairs: bool = setting(False, "ndec: the T image of a pair is the latter, the other one the former.")
    license: str | None = setting(
        "", "Licence to record where the source names none, such as CC-BY-4.0; empty: unknown."
    )
    max_pixels: int = setting(MAX_PIXELS, "An image with more pixels is rejected before it is decoded.")
    max_reject_share: float = setting(
        0.05, "Share of unusable images above which the exit code is 3.", ge=0, le=1, result=False
    )
    workers: int = setting(0, "Threads that read and decode; 0: one per core.", ge=0, result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "id", check_rule(self.id))
        for entry in self.allow:
            parse_allowed(entry)
        if self.ground_truth is not None and self.role not in ("query", "all"):
            raise UsageError(
                f"a ground truth belongs to the role query, not {self.role!r}: `ndec ingest query SOURCE …`"
            )


def check_source(config: IngestConfig) -> None:
    """Check that the settings fit the kind of the source. Raises UsageError."""
    if config.role == "all" and config.kind not in MANY_ROLES:
        raise UsageError(
            f"role 'all' is for sources that know the roles themselves ({', '.join(MANY_ROLES)}), not for kind "
            f"{config.kind!r}; name one of {', '.join(ROLES)}"
        )
    if config.kind == "descriptors":
        raise UsageError(
            f"{config.source} is {SOURCE_KINDS[config.kind]}, not images: use `ndec ingest` on the command line"
        )
    if config.id and config.kind in FIXED_IDS:
        raise UsageError(f"--id does not apply to kind {config.kind!r}: its files define the ids of their images")
    if config.id.startswith(COLUMN) and config.kind in WITHOUT_COLUMNS:
        raise UsageError(
            f"--id {config.id} names a column of a table, and {config.source} is read as {config.kind!r}, which has no "
            "columns; give --id stem or path, or describe the pictures in a metadata.csv in their folder"
        )
    allowed = ("auto", *OWN_GROUPS.get(config.kind, (config.group_by,)))
    if config.group_by not in allowed:
        raise UsageError(
            f"group_by is {config.group_by!r}, but the files of kind {config.kind!r} define the groups; it must be one "
            f"of {', '.join(allowed)}"
        )
    for name, kind in (("ids", "disc21"), ("metadata", "openimages"), ("images", "openimages")):
        if getattr(config, name) is not None and config.kind != kind:
            raise UsageError(f"--{name} belongs to kind {kind!r}; {config.source} is read as {config.kind!r} (--kind)")
