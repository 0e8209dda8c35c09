"""Settings of mining, of the second search and of pre-labels. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import Config, option, setting
from ndec_builder.core.errors import UsageError
from ndec_builder.core.executor.settings import engine_option, ray_address_option
from ndec_builder.core.vocabulary import SPLITS
from ndec_builder.embeddings.settings import DEFAULT_MODEL, MODEL_FORMS
from ndec_builder.sources.settings import GROUP_BY

SEARCHES = ("auto", "bf16", "faiss")
RANKINGS = ("raw", "normalized")
SHORTLISTS = ("global", "local", "both")
GALLERY = {"test": "reference", "train": "basic"}  # split → role of the images that the pool is searched in
SPLIT_HELP = "test: pool × reference. train: pool × basic (training images)."
LEAST_TOP, MOST_TOP = 50, 1000  # bounds of `recommended_top`
WORKERS_HELP = "Processes that read pictures; the result is the same. 0: as many as the cores allow."


def recommended_top(pool: int) -> int:
    """Pairs to label for a pool of this many images: a tenth, at least LEAST_TOP (or half the pool), at most MOST_TOP.

    The rest of the pool stays free for distractors.
    """
    return max(1, min(MOST_TOP, max(pool // 10, min(LEAST_TOP, pool // 2))))


@dataclass(frozen=True)
class MineConfig(Config):
    """Mine the global top pairs: pool × reference (split test) or pool × basic (split train)."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    pool: Path | str | None = option(
        None, "Folder, pattern or URI of pool images, as for `ndec ingest`; ingested and embedded first."
    )
    references: Path | str | None = option(
        None, "The same for the references (with --split train: for the basic images)."
    )
    group_by: str | None = option(None, f"Of --pool and --references: {GROUP_BY['help']}", choices=GROUP_BY["choices"])
    shared_groups: bool = option(
        False, "--pool and --references are one collection: a burst or video may reach over both."
    )
    top: int = setting(
        0,
        "Pairs for people to label: the global top N of all pool × reference pairs, duplicates not counted. 0: the "
        "recommended number, a tenth of the pool, at least 50 and at most 1,000.",
        ge=0,
    )
    max_per_query: int = setting(1, "Pairs per pool image at most; 0: no limit.", ge=0)
    max_per_reference: int = setting(
        10, "Pairs per reference at most, because hub images attract all others; 0: no limit.", ge=0
    )
    model: str = setting(
        DEFAULT_MODEL, f"Model whose vectors are searched (missing ones are made first), {MODEL_FORMS}"
    )
    geometry: bool = setting(
        True, "Fit a homography to each pair and measure the overlap: about 30 ms per pair and core."
    )
    pictures: bool = setting(True, "Copies of pictures inside and next to the contact sheet.", result=False)
    workers: int = setting(0, WORKERS_HELP, ge=0, result=False)
    engine: str = engine_option()
    ray_address: str = ray_address_option()
    block: int = setting(
        8192, "Pool images searched at a time; changes memory and time, not the result.", ge=1, result=False
    )
    rank_by: str = setting(
        "raw", "Score that ranks the pairs: raw or normalized; normalized needs basic images.", choices=RANKINGS
    )
    normalization_factor: float = setting(
        1.0, "score_normalized = score - factor × background score; D2LV uses 2, SSCD 1."
    )
    normalization_neighbours: int = setting(
        3, "Number of basic images nearest to the query that give its background score.", ge=1
    )
    normalization_mode: str = setting(
        "mean", "Background score: mean of these neighbours, or min: the score of the last one.",
        choices=("mean", "min"),
    )  # fmt: skip
    search: str = setting("auto", "auto, bf16 or faiss: all exact, same result.", choices=SEARCHES, result=False)
    shortlist: str = setting(
        "global",
        "global: pairs by the descriptor. both: also pairs that share local features and fit by a homography, which "
        "the descriptor may have lost; people label them too. local: only those. About 20 ms per image and core.",
        choices=SHORTLISTS,
    )
    attribution: Path | None = option(
        None, "csv with image_id and photo_id, url, author or author_url, for images whose tables lack them."
    )
    pairs: Path | None = option(
        None,
        "Pairs from another tool instead of a search: csv or parquet with two columns of ids or paths, fastdup's "
        "similarity.csv, or the JSON of difPy. All are taken; --top and the limits per image do not apply.",
    )
    labels: str = option(
        "",
        "Column of --pairs with what people decided: edited_copy, hard_negative, unrelated or unsure. Empty: no label.",
    )
    label_map: tuple[str, ...] = option(
        (), "WORD=LABEL for other words in that column, for instance dup=edited_copy; WORD= for no label."
    )
    label_source: str = option("", "Name that these labels are recorded under. Default: the name of the file.")
    embed_settings: Path | None = option(
        None, "Settings file that [ingest] and [embed] are read from; default: the ndec.toml of the workspace."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shortlist != "global" and not self.geometry:
            raise UsageError(f"--shortlist {self.shortlist} keeps pairs that fit by a homography: leave --geometry on")
        if self.shortlist != "global" and self.pairs is not None:
            raise UsageError(
                f"--pairs takes the pairs of a file, without a search: leave out --shortlist {self.shortlist}"
            )
        if self.labels and self.pairs is None:
            raise UsageError("--labels names a column of the file of pairs: give --pairs FILE too")
        if (self.label_map or self.label_source) and not self.labels:
            raise UsageError("--label-map and --label-source are about labels: give --labels COLUMN too")
        if self.label_source and not self.label_source.isprintable():
            raise UsageError(f"label_source is {self.label_source!r}; give a name without line breaks")


@dataclass(frozen=True)
class RecheckConfig(Config):
    """Search the pool images that would become hard-negative queries once more, against all references."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    distractors: int = option(
        0,
        "Also send pool images that were never mined to annotation: this many of those closest to a reference, one "
        "pair each. Distractors are drawn from such images, and a copy among them would be wrong.",
        ge=0,
    )
    model: str = setting(DEFAULT_MODEL, "Model whose vectors are searched: the model that the split was mined with.")
    workers: int = setting(0, WORKERS_HELP, ge=0, result=False)
    engine: str = engine_option()
    ray_address: str = ray_address_option()


@dataclass(frozen=True)
class PrelabelConfig(Config):
    """Score mined pairs by descriptor and geometry: the probability that each is an edited copy."""

    workspace: Path
    split: str = option("test", SPLIT_HELP, choices=SPLITS)
    model: str = setting(DEFAULT_MODEL, f"Model that the pairs were mined with, {MODEL_FORMS}")
    count: int = setting(
        400, "Synthetic copies to learn from; half as many reverse crops and twice as many other pairs are added.",
        ge=20,
    )  # fmt: skip
    seed: int = setting(0, "Seed of the synthetic edits.")
    engine: str = engine_option()
    ray_address: str = ray_address_option()
