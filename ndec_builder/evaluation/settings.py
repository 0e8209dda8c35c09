"""Settings of `ndec benchmark`. Light on purpose: the command line imports it to show its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError, nearest

SCORERS = ("cosine", "asl", "fused")
SCOPES = ("all", "topN")
ACTIONS = ("drop", "demote")
NORMALISATIONS = ("mean", "min")
AUTO = "auto"  # the filter's threshold that the checkpoint chose on training data

RESULT_FORMATS = {
    "csv": "predictions.full.csv",
    "csv6": "predictions.6.csv",
    "trec": "predictions.trec",
    "hdf5": "descriptors.hdf5",
}
MAX_DIM = 256  # of a descriptor submission
TABLES, FIGURES = (1, 2), (6, 7, 8)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One evaluation: a dataset (manifest, or folders with a ground truth), a source of predictions, a scorer."""

    workspace: Path
    manifest: Path | None = None
    queries: Path | None = None
    references: Path | None = None
    ground_truth: Path | None = None
    model: str | tuple[str, ...] | None = None  # several are an ensemble: their normalised features are joined
    checkpoint: Path | tuple[Path, ...] | None = None
    predictions: Path | None = None
    descriptors: tuple[Path, ...] = ()  # isc2021 HDF5: a file a side, or one for both; one more is the background
    asl_checkpoint: Path | None = None  # an independently trained ASL as post-processing: Table 1 of the paper
    fused_model: Path | None = None  # run of `ndec train-asl --recipe fused`; None: the fit that comes with ndec
    baseline: Path | None = None  # report directory of the run to compare with
    name: str | None = None  # of the folder under reports/; made from the model and the scorer when not given
    out: Path | None = None  # another place for the report than reports/<name>

    scorer: str = setting(
        "cosine", "cosine; asl: reject a pair whose query has the larger norm; fused: judge the best pairs"
    )
    threshold: float | str = setting(
        1.0, 'asl: reject when query_over_reference is strictly greater; "auto": the checkpoint\'s own'
    )
    scope: str = setting("all", "asl: for μAP, filter the whole list (all) or its first N (topN)")
    action: str = setting("drop", "asl: drop rejected pairs, or demote them below all others")
    n: int | None = setting(None, "cut for precision at N; the default is the number of ground-truth pairs")
    k: int | None = setting(None, "search the k nearest references per query; the default is the global top 500,000")
    replicates: int = setting(1000, "bootstrap replicates for the 95 % intervals")
    seed: int = setting(0, "seed of the bootstrap")
    rescored: int = setting(10, "fused: best pairs of each query that are judged; the rest stays below them")
    workers: int = setting(0, "fused: processes that fit pairs; 0: as many as the cores allow", result=False)
    test_size: tuple[int, ...] = setting((), "input sizes in px whose features are averaged; none: the model's own")
    norm_factor: float = setting(0.0, "score normalisation: factor × a query's background score is taken off; 0: raw")
    norm_n: int = setting(10, "how many best scores of a query against the background (training images) count")
    norm_kind: str = setting("mean", "mean of the n best background scores, or min: the n-th best alone")
    target_precision: float = setting(0.9, "the precision that the advised threshold is for")
    gallery: int = setting(12, "pictures per gallery of the report", result=False)
    batch_size: int = setting(8, "images per forward pass; a GPU wants 64")
    device: str = setting("auto", "auto, cpu or cuda", result=False)
    max_reject_share: float = setting(0.05, "more unusable images than this: exit 3", result=False)

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose features are used; more than one is an ensemble."""
        return (self.model,) if isinstance(self.model, str) else tuple(self.model or ())

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """The trained detectors whose features are used."""
        return (self.checkpoint,) if isinstance(self.checkpoint, Path) else tuple(self.checkpoint or ())

    def check(self) -> None:
        """Raise UsageError unless there is exactly one dataset, one source of predictions and a scorer that fits."""
        self._check_dataset()
        self._check_source()
        self._check_values()

    def _check_dataset(self) -> None:
        folders = (self.queries, self.references, self.ground_truth)
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
        if self.predictions is not None and (self.k is not None or self.norm_factor):
            raise UsageError("--k and --norm-factor belong to a search; --predictions brings its own list")
        if self.test_size and not (self.models or self.checkpoints):
            raise UsageError("--test-size is of images that are embedded here: give --model or --checkpoint")

    def _check_values(self) -> None:
        for what, value, choices in (
            ("scorer", self.scorer, SCORERS), ("scope", self.scope, SCOPES), ("action", self.action, ACTIONS),
            ("norm-kind", self.norm_kind, NORMALISATIONS),
        ):  # fmt: skip
            if value not in choices:
                known = " or ".join(choices)
                raise UsageError(f"--{what} {value!r} is unknown{nearest(value, choices)}; choose {known}")
        for name, number, low in (
            ("n", self.n, 1), ("k", self.k, 1), ("replicates", self.replicates, 100), ("norm-n", self.norm_n, 1),
            ("rescored", self.rescored, 1),
            ("norm-factor", self.norm_factor, 0), ("test-size", min(self.test_size, default=None), 32),
        ):  # fmt: skip
            if number is not None and not number >= low:
                raise UsageError(f"--{name} is {number}; it must be at least {low}")
        if isinstance(self.threshold, str):
            if self.threshold != AUTO:
                raise UsageError(f"--threshold {self.threshold!r} is neither a number nor auto")
        elif not self.threshold > 0:
            raise UsageError(f"--threshold is {self.threshold}; a ratio of norms is above 0, so it must be too")
        if not 0 < self.target_precision <= 1:
            raise UsageError(f"--target-precision is {self.target_precision}; a precision lies above 0 and up to 1")

    def _given(self, *fields: str) -> str:
        return ", ".join(f"--{f.replace('_', '-')}" for f in fields if getattr(self, f)) or "none"


@dataclass(frozen=True, kw_only=True)
class PaperConfig(BenchmarkConfig):
    """One table or figure of the paper, on a manifest. Its protocol is that of [benchmark]; these are flags alone."""

    table: int | None = None  # 1: off-the-shelf detectors with ASL behind them · 2: the recipes over several seeds
    figure: int | None = None  # 6: nested hard negatives · 7: with and without them · 8: gallery of norm ratios
    method: tuple[str, ...] = ()  # NAME=SOURCE of table 1 and the figures: csv, HDF5, model or run, see `methods.py`
    recipe: tuple[str, ...] = ()  # of table 2; all of them when not given
    seeds: int = 5  # table 2: a recipe is trained with so many
    shares: int = 5  # figure 6: points from none to all of the hard negatives
    orders: int = 5  # figure 6: random orders in which they come in

    def _check_source(self) -> None:
        """A table or figure takes its detectors by --method (table 2: trains them), and needs a manifest."""
        if (self.table is None) == (self.figure is None):
            raise UsageError("give --table or --figure, one at a time")
        for what, number, known in (("table", self.table, TABLES), ("figure", self.figure, FIGURES)):
            if number is not None and number not in known:
                raise UsageError(f"--{what} {number} is not made here; choose {' or '.join(map(str, known))}")
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
        for name, number, low in (("seeds", self.seeds, 1), ("shares", self.shares, 2), ("orders", self.orders, 1)):
            if number < low:
                raise UsageError(f"--{name} is {number}; it must be at least {low}")


@dataclass(frozen=True, kw_only=True)
class ResultsConfig:
    """Write a report's predictions, or the descriptors behind them, in a form that other tools read."""

    workspace: Path
    report: Path  # directory of `ndec benchmark`
    format: str
    out: Path | None = None
    pca: int | None = setting(None, "hdf5: reduce the descriptors to so many dimensions (PCA fitted on the references)")

    def check(self) -> None:
        """Raise UsageError for an unknown form, or a number of dimensions that no submission has."""
        if self.format not in RESULT_FORMATS:
            raise UsageError(
                f"--format {self.format!r} is unknown{nearest(self.format, RESULT_FORMATS)}; choose one of "
                f"{', '.join(RESULT_FORMATS)}"
            )
        if self.pca is not None and self.format != "hdf5":
            raise UsageError(f"--pca reduces descriptors (--format hdf5); the format is {self.format}")
        if self.pca is not None and not 1 <= self.pca <= MAX_DIM:
            raise UsageError(f"--pca is {self.pca}; a submission has 1 to {MAX_DIM} dimensions")
