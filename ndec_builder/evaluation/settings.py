"""Settings of `ndec benchmark`. Light on purpose: the command line imports it to show its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import setting
from ndec_builder.core.errors import UsageError, nearest

SCORERS = ("cosine", "asl")
SCOPES = ("all", "topN")
ACTIONS = ("drop", "demote")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One evaluation: a dataset (manifest, or folders with a ground truth), a source of predictions, a scorer."""

    workspace: Path
    manifest: Path | None = None
    queries: Path | None = None
    references: Path | None = None
    ground_truth: Path | None = None
    model: str | None = None
    checkpoint: Path | None = None
    predictions: Path | None = None
    asl_checkpoint: Path | None = None  # an independently trained ASL as post-processing: Table 1 of the paper
    baseline: Path | None = None  # report directory of the run to compare with
    name: str | None = None  # of the folder under reports/; made from the model and the scorer when not given
    out: Path | None = None  # another place for the report than reports/<name>

    scorer: str = setting("cosine", "cosine, or asl: reject a pair whose query has the larger norm")
    threshold: float = setting(1.0, "asl: reject when query_over_reference is strictly greater")
    scope: str = setting("all", "asl: for μAP, filter the whole list (all) or its first N (topN)")
    action: str = setting("drop", "asl: drop rejected pairs, or demote them below all others")
    n: int | None = setting(None, "cut for precision at N; the default is the number of ground-truth pairs")
    k: int | None = setting(None, "search the k nearest references per query; the default is the global top 500,000")
    replicates: int = setting(1000, "bootstrap replicates for the 95 % intervals")
    seed: int = setting(0, "seed of the bootstrap")
    gallery: int = setting(12, "pictures per gallery of the report", result=False)
    batch_size: int = setting(32, "images per forward pass")
    device: str = setting("auto", "auto, cpu or cuda", result=False)
    max_reject_share: float = setting(0.05, "more unusable images than this: exit 3", result=False)

    def check(self) -> None:
        """Raise UsageError unless there is exactly one dataset, one source of predictions and a scorer that fits."""
        folders = (self.queries, self.references, self.ground_truth)
        if self.manifest is not None and any(folders):
            raise UsageError("give --manifest, or --queries with --references and --ground-truth, not both")
        if self.manifest is None and not all(folders):
            raise UsageError(
                "benchmark needs a dataset: --manifest DIR, or all three of --queries DIR --references DIR "
                f"--ground-truth CSV; given: {self._given('queries', 'references', 'ground_truth')}"
            )
        if sum(source is not None for source in (self.model, self.checkpoint, self.predictions)) != 1:
            raise UsageError(
                "benchmark needs exactly one source of predictions: --model NAME, --checkpoint FILE or "
                f"--predictions CSV; given: {self._given('model', 'checkpoint', 'predictions')}"
            )
        for what, value, choices in (
            ("scorer", self.scorer, SCORERS), ("scope", self.scope, SCOPES), ("action", self.action, ACTIONS)
        ):  # fmt: skip
            if value not in choices:
                known = " or ".join(choices)
                raise UsageError(f"--{what} {value!r} is unknown{nearest(value, choices)}; choose {known}")
        if self.scorer == "asl" and self.checkpoint is None and self.asl_checkpoint is None:
            raise UsageError(
                "--scorer asl compares norms of a network trained for it: give --checkpoint FILE of `ndec train-asl`, "
                "or --asl-checkpoint FILE to filter the predictions of another model"
            )
        if self.scorer != "asl" and self.asl_checkpoint is not None:
            raise UsageError(f"--asl-checkpoint is used by --scorer asl only, and the scorer is {self.scorer!r}")
        if self.predictions is not None and self.k is not None:
            raise UsageError("--k belongs to a search; --predictions brings its own list")
        for what, number, low in (("n", self.n, 1), ("k", self.k, 1), ("replicates", self.replicates, 100)):
            if number is not None and number < low:
                raise UsageError(f"--{what} is {number}; it must be at least {low}")
        if not self.threshold > 0:
            raise UsageError(f"--threshold is {self.threshold}; a ratio of norms is above 0, so it must be too")

    def _given(self, *fields: str) -> str:
        return ", ".join(f"--{f.replace('_', '-')}" for f in fields if getattr(self, f) is not None) or "none"
