"""Settings of `ndec league`. Light: the command line imports this at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ndec_builder.core.config import Config, option, setting
from ndec_builder.core.errors import UsageError
from ndec_builder.core.executor.settings import engine_option, ray_address_option
from ndec_builder.evaluation.settings import KINDS_HELP, TRUTH_HELP

OWN = ("cosine", "asl", "fused")


@dataclass(frozen=True, kw_only=True)
class LeagueConfig(Config):
    """A comparison of detectors on one dataset, or with `bank` the false matches of a list of hashes."""

    workspace: Path
    manifest: Path | None = option(None, "Manifest directory.")
    queries: Path | None = option(None, "Folder of queries, with --references and --ground-truth.")
    references: Path | None = option(None, "Folder of references.")
    ground_truth: Path | None = option(None, TRUTH_HELP)
    kinds: Path | None = option(None, KINDS_HELP)
    detector: tuple[str, ...] = option(
        (),
        "A built-in name, the file of an adapter, or NAME=SOURCE: a csv, HDF5 files, a run or a model. Repeat it for "
        "several; default: all that are built in.",
    )
    checkpoint: Path | None = option(None, "asl: run of `ndec train-asl` whose norms filter the list.")
    fused_model: Path | None = option(
        None, "fused: run of `ndec train-asl --recipe fused`; default: the model shipped with ndec."
    )
    bank: Path | None = option(None, "csv of PDQ hashes (hex): count false matches against these instead.")
    benign: Path | None = option(
        None, "--bank: pictures known to be harmless, a folder or a csv of PDQ hashes; default: the manifest's queries "
        "that are no copies.",
    )  # fmt: skip
    name: str = option("league", "Name of the report.")
    out: Path | None = option(None, "Directory of the report; default: reports/NAME in the workspace.")
    engine: str = engine_option()
    ray_address: str = ray_address_option()

    model: str = setting(
        "efficientnet-lite0", "cosine, asl and the list that fused re-scores: model as for `ndec embed`."
    )
    target_precision: float = setting(0.9, "Precision for which a threshold is tuned on the tuning half.", gt=0, le=1)
    replicates: int = setting(1000, "Bootstrap replicates for the 95 % intervals.", ge=100)
    seed: int = setting(0, "Seed of the bootstrap.")
    minutes: float = setting(30, "Longest time for one detector, in minutes.", gt=0, result=False)
    gallery: int = setting(12, "Pairs in the gallery of disagreements.", ge=0, result=False)
    pictures: bool = setting(True, "Pictures inside the report.", result=False)

    def check(self) -> None:
        """Raise UsageError unless there is exactly one dataset."""
        folders = (self.queries, self.references, self.ground_truth)
        if self.bank is not None:
            if self.engine != "local":
                raise UsageError("--bank compares hashes on one machine; give it --engine local")
            if (self.benign is None) == (self.manifest is None):
                raise UsageError(
                    "--bank needs harmless pictures: --benign FOLDER or CSV, or --manifest DIR, one of them"
                )
            return
        if self.benign is not None:
            raise UsageError("--benign belongs to --bank CSV; give both, or neither")
        if self.kinds is not None and self.manifest is not None:
            raise UsageError("--kinds belongs to --queries; a manifest has the kinds of its queries")
        if self.manifest is not None and any(folders):
            raise UsageError("give --manifest, or --queries with --references and --ground-truth, not both")
        if self.manifest is None and not all(folders):
            raise UsageError(
                "league needs a dataset: --manifest DIR, or all three of --queries DIR --references DIR "
                "--ground-truth CSV"
            )
