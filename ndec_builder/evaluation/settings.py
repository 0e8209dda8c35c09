"""Settings of `ndec benchmark` and `ndec export-results`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ndec_builder.candidates.settings import SHORTLISTS
from ndec_builder.core.config import Config, described, option, setting
from ndec_builder.core.errors import UsageError
from ndec_builder.core.executor.settings import engine_option, ray_address_option
from ndec_builder.embeddings.settings import DEVICES, REJECTS_HELP
from ndec_builder.sources.settings import GROUP_BY
from ndec_builder.training.settings import TRAINING_RECIPE_NAMES

SCORERS = ("cosine", "asl", "fused")
SCOPES = ("all", "topN")
ACTIONS = ("drop", "demote")
NORMALISATIONS = ("mean", "min")
TWIN_RULES = ("match", "drop")
ONE_PER_QUERY = "one reference per query, its best; the numbers of lists with all pairs are not comparable"
AUTO = "auto"  # the filter's threshold that the checkpoint chose on training data

RESULT_FORMATS = {
    "csv": "predictions.full.csv",
    "csv6": "predictions.6.csv",
    "trec": "predictions.trec",
    "hdf5": "descriptors.hdf5",
    "fiftyone": "fiftyone.json",
}
MAX_DIM = 256  # of a descriptor submission
KINDS_HELP = "Of --queries: hard negatives and groups; a csv with query_id, kind and, if known, hard_kind and group."
TRUTH_HELP = "Ground truth in the form of DISC21: csv with the columns query_id, reference_id."
TABLES, FIGURES = (1, 2), (6, 7, 8)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Config):
    """One evaluation: a dataset (manifest, or folders with a ground truth), a source of predictions, a scorer."""

    workspace: Path
    manifest: Path | None = option(None, "Manifest directory.")
    queries: Path | None = option(None, "Folder of queries, with --references and --ground-truth.")
    references: Path | None = option(None, "Folder of references.")
    ground_truth: Path | None = option(None, TRUTH_HELP)
    kinds: Path | None = option(None, KINDS_HELP)
    group_by: str = option("auto", f"Of --queries, for the intervals: {GROUP_BY['help']}", choices=GROUP_BY["choices"])
    model: str | tuple[str, ...] | None = option(
        None,
        "Model as for `ndec embed`. Several, or one together with --checkpoint, are an ensemble: features are joined.",
    )
    checkpoint: Path | tuple[Path, ...] | None = option(
        None, "Run directory or checkpoint of `ndec train-asl`; several are an ensemble."
    )
    predictions: Path | None = option(None, "Predictions of any detector: csv with query_id, reference_id, score.")
    probabilities: bool = option(
        False, "--predictions: the scores are probabilities of a copy; the report shows how well they hold."
    )
    descriptors: tuple[Path, ...] = option(
        (), "ISC2021 HDF5: one file for queries and one for references, or one for both; one more for the background."
    )
    asl_checkpoint: Path | None = option(
        None, "Independently trained ASL that filters the predictions, as in table 1 of the paper."
    )
    fused_model: Path | None = option(
        None, "fused: run of `ndec train-asl --recipe fused`; default: the model shipped with ndec."
    )
    baseline: Path | None = option(None, "Report directory of the run to compare with.")
    name: str | None = option(None, "Name of the report; default: made from the model or file and the scorer.")
    out: Path | None = option(None, "Directory of the report; default: reports/NAME in the workspace.")

    scorer: str = setting(
        "cosine", "cosine; asl: reject pairs whose query has the larger norm; fused: re-score the best pairs.",
        choices=SCORERS,
    )  # fmt: skip
    threshold: float | str = setting(
        1.0, "asl: reject a pair if its norm ratio is above this number; auto: the checkpoint's own threshold.",
        gt=0,
    )  # fmt: skip
    scope: str = setting("all", "asl: filter the full list (all) or its first N pairs (topN) for μAP.", choices=SCOPES)
    action: str = setting("drop", "asl: drop rejected pairs, or demote them below all others.", choices=ACTIONS)
    n: int | None = setting(None, "Cut for precision at N; default: the number of ground-truth pairs.", ge=1)
    k: int | None = setting(None, "Nearest references per query; default: the global top 500,000 pairs.", ge=1)
    replicates: int = setting(1000, "Bootstrap replicates for the 95 % intervals.", ge=100)
    seed: int = setting(0, "Seed of the bootstrap.")
    rescored: int = setting(20, "fused: best pairs per query to re-score; all others stay below them.", ge=1)
    rescored_within: float = setting(
        0.2, "fused: of these, only those whose cosine is at most this far below the query's best; 2: all of them.",
        ge=0, le=2,
    )  # fmt: skip
    shortlist: str = setting(
        "global", "fused: re-score the best pairs of the list (global), references with the same local features "
        "(local), or both.", choices=SHORTLISTS,
    )  # fmt: skip
    rescored_local: int = setting(5, "fused: references per query to re-score by local features.", ge=1)
    competition: bool = setting(
        True, "fused: the re-scored references of a query compete for it; off: each pair is scored on its own.",
        cli="--competition/--no-competition",
    )  # fmt: skip
    one_per_query: bool = setting(
        False, "Keep only the best reference of each query. This is a protocol of its own, named with every number."
    )
    workers: int = setting(0, "fused: processes that fit pairs; 0: as many as the cores allow.", ge=0, result=False)
    engine: str = engine_option()
    ray_address: str = ray_address_option()
    test_size: tuple[int, ...] = setting(
        (), "Input size in pixels; the features of several sizes are averaged. Default: the model's own size.", ge=32
    )
    norm_factor: float = setting(
        0.0, "Score normalisation: this factor times the query's background score is subtracted; 0: raw scores.", ge=0
    )
    norm_n: int = setting(
        10, "Score normalisation: best scores of a query against the background (training images) to use.", ge=1
    )
    norm_kind: str = setting(
        "mean", "Score normalisation: mean of these scores, or min: the lowest of them.", choices=NORMALISATIONS
    )
    twins: str | None = setting(
        None, "References that show the same picture: match (each counts as found) or drop (keep one); default: warn.",
        choices=TWIN_RULES,
    )  # fmt: skip
    target_precision: float = setting(0.9, "Precision for which a threshold is advised.", gt=0, le=1)
    gallery: int = setting(12, "Pictures per gallery of the report.", result=False)
    pictures: bool = setting(True, "Pictures inside the report.", result=False)
    batch_size: int = setting(8, "Images per forward pass; a GPU needs 64.", ge=1)
    device: str = setting("auto", "auto, cpu or cuda.", choices=DEVICES, result=False)
    max_reject_share: float = setting(0.05, REJECTS_HELP, ge=0, le=1, result=False)

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose features are used; more than one is an ensemble."""
        return (self.model,) if isinstance(self.model, str) else tuple(self.model or ())

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """The trained detectors whose features are used."""
        return (self.checkpoint,) if isinstance(self.checkpoint, Path) else tuple(self.checkpoint or ())

    @property
    def scores_are_known(self) -> bool:
        """Whether `scorer` says what the scores are; those of a given list stay as they are with the default."""
        return self.predictions is None or self.scorer != "cosine"

    def check(self) -> None:
        """Raise UsageError unless there is exactly one dataset, one source of predictions and a scorer that fits."""
        self._check_dataset()
        self._check_source()
        if isinstance(self.threshold, str) and self.threshold != AUTO:
            raise UsageError(f"threshold is {self.threshold!r}; it must be a number or {AUTO}")

    def _check_dataset(self) -> None:
        folders = (self.queries, self.references, self.ground_truth)
        if self.manifest is not None and self.group_by != "auto":
            raise UsageError("--group-by belongs to --queries; the groups of a manifest were set by `ndec ingest`")
        if self.manifest is not None and self.kinds is not None:
            raise UsageError("--kinds belongs to --queries; a manifest has the kinds of its queries")
        if self.manifest is not None and any(folders):
            raise UsageError("give --manifest, or --queries with --references and --ground-truth, not both")
        if self.manifest is None and not all(folders):
            raise UsageError(
                "benchmark needs a dataset: --manifest DIR, or all three of --queries DIR --references DIR "
                f"--ground-truth CSV; given: {self._given('queries', 'references', 'ground_truth')}"
            )

    def _check_source(self) -> None:
        # models and checkpoints together are one source, an ensemble
        sources = (self.models or self.checkpoints, self.descriptors, self.predictions)
        if sum(bool(source) for source in sources) != 1:
            raise UsageError(
                "benchmark needs exactly one source of predictions: --model NAME, --checkpoint FILE, --descriptors "
                "FILE or --predictions CSV (several models and checkpoints are an ensemble); given: "
                f"{self._given('model', 'checkpoint', 'descriptors', 'predictions')}"
            )
        if self.scorer == "asl" and not self.checkpoints and self.asl_checkpoint is None:
            raise UsageError(
                "--scorer asl compares norms of a network trained for it: give --checkpoint FILE of `ndec train-asl`, "
                "or --asl-checkpoint FILE to filter the predictions of another model"
            )
        if self.scorer == "asl" and self.models and self.checkpoints and self.asl_checkpoint is None:
            raise UsageError(
                f"the norms of {self.models[0]} were not trained, so an ensemble with it has none to compare; give "
                "--asl-checkpoint FILE for the filter, or checkpoints alone"
            )
        if self.fused_model is not None and self.scorer != "fused":
            raise UsageError("--fused-model RUN belongs to --scorer fused; give both, or neither")
        if self.scorer != "asl" and self.asl_checkpoint is not None:
            raise UsageError(f"--asl-checkpoint is used by --scorer asl only, and the scorer is {self.scorer!r}")
        if self.probabilities and self.predictions is None:
            raise UsageError("--probabilities says what the scores of --predictions CSV are; give both, or neither")
        if self.predictions is not None and (self.k is not None or self.norm_factor):
            raise UsageError("--k and --norm-factor belong to a search; --predictions brings its own list")
        if self.test_size and not (self.models or self.checkpoints):
            raise UsageError("--test-size applies to images that are embedded here: give --model or --checkpoint")

    def _given(self, *fields: str) -> str:
        return ", ".join(f"--{f.replace('_', '-')}" for f in fields if getattr(self, f)) or "none"


@dataclass(frozen=True, kw_only=True)
class PaperConfig(BenchmarkConfig):
    """One table or figure of the paper, on a manifest. It uses the protocol of [benchmark]."""

    table: int | None = option(
        None, "Make table 1 (published detectors, filtered by ASL) or 2 (the recipes) of the paper.", choices=TABLES
    )
    figure: int | None = option(
        None, "Make figure 6 (more and more hard negatives), 7 (with and without them) or 8 (gallery of norm ratios).",
        choices=FIGURES,
    )  # fmt: skip
    method: tuple[str, ...] = option(
        (), "Detector of a table or figure: NAME=SOURCE, a csv, HDF5 files, a model or a run. Repeat it for several."
    )
    recipe: tuple[str, ...] = option(
        (),
        f"Table 2: {', '.join(TRAINING_RECIPE_NAMES)}. Repeat it for several; default: all.",
        choices=TRAINING_RECIPE_NAMES,
    )
    seeds: int = option(5, "Table 2: training runs per recipe.", ge=1)
    shares: int = option(5, "Figure 6: points from none to all of the hard negatives.", ge=2)
    orders: int = option(5, "Figure 6: random orders in which hard negatives are added.", ge=1)

    def _check_source(self) -> None:
        """A table or figure takes its detectors by --method (table 2: trains them), and needs a manifest."""
        if (self.table is None) == (self.figure is None):
            raise UsageError("give --table or --figure, one at a time")
        if self.manifest is None:
            raise UsageError("tables and figures need a --manifest: plain folders do not say which are hard negatives")
        if given := self._given("model", "checkpoint", "descriptors", "predictions").replace("none", ""):
            raise UsageError(f"tables and figures take their detectors as --method NAME=SOURCE, not as {given}")
        if self.table == 2 and self.method:
            raise UsageError("--table 2 trains its own detectors; choose them with --recipe and --seeds")
        if self.table != 2 and not self.method:
            raise UsageError("give at least one --method NAME=SOURCE (a csv, HDF5 files, a model or a run)")
        if self.table == 1 and self.asl_checkpoint is None:
            raise UsageError("--table 1 needs --asl-checkpoint RUN: an independently trained ASL as post-processing")


@dataclass(frozen=True, kw_only=True)
class ResultsConfig(Config):
    """Write a report's predictions, or the descriptors behind them, in a form that other tools read."""

    workspace: Path
    report: Path = field(metadata=described("Report directory of `ndec benchmark`.", cli="argument"))
    format: str = field(
        metadata=described(
            "csv, csv6 (six decimals), trec, hdf5 (descriptors) or fiftyone (pairs, labels and errors).",
            choices=tuple(RESULT_FORMATS),
        )
    )
    out: Path | None = option(None, "File to write; default: next to the predictions.")
    pca: int | None = setting(
        None, "hdf5: reduce the descriptors to this number of dimensions, by a PCA fitted on the references.",
        ge=1, le=MAX_DIM,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pca is not None and self.format != "hdf5":
            raise UsageError(f"--pca reduces descriptors (--format hdf5); the format is {self.format}")
