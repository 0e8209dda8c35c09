"""Every verb that runs on an engine, one after the other in one workspace, and the sha256 of what they write."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from ndec_builder.candidates import duplicates
from ndec_builder.candidates.geometry import table
from ndec_builder.candidates.mine import run as mine
from ndec_builder.candidates.prelabel import run as prelabel
from ndec_builder.candidates.recheck import run as recheck
from ndec_builder.candidates.search import ranges
from ndec_builder.candidates.settings import MineConfig, PrelabelConfig, RecheckConfig
from ndec_builder.candidates.synthetic import known_pairs
from ndec_builder.core.storage import read_table, sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits import make
from ndec_builder.edits.make import run as edit
from ndec_builder.edits.settings import EditConfig
from ndec_builder.embeddings.embed import run as embed
from ndec_builder.embeddings.engines import describe_shards
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.evaluation.benchmark import run as benchmark
from ndec_builder.evaluation.detectors import pair_geometry
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.league import entries
from ndec_builder.league.own_detector import run_own
from ndec_builder.league.run import run as league
from ndec_builder.league.settings import LeagueConfig
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.sources.ingest import run as ingest
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.training import view_cache
from ndec_builder.training.fused import run as fused_run
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.train import run as train
from support.decided_world import World

ROLES = ("reference", "pool", "basic")
# They have times, settings (the engine among them), CPU times or the path of the workspace.
NOT_RESULTS = (
    "run.json", "inputs.json", "progress.json", "metrics.jsonl", "report.html", "league.json", "league.md", "job.json",
    "key.json", ".log", ".lock", ".csv.json",
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How much of everything; `shard`: items of a shard."""

    copies: int = 12
    known: int = 20
    steps: int = 4
    shard: int = 4
    top: int = 8


@contextlib.contextmanager
def small_shards(size: int) -> Iterator[None]:
    """So that a small workspace has many shards. Ranges of the search exist on a cluster only."""
    with contextlib.ExitStack() as stack:
        for module, name in (
            (make, "COPIES_PER_SHARD"), (duplicates, "PAIRS_PER_SHARD"), (table, "SHARD_SIZE"),
            (known_pairs, "MADE_PER_SHARD"), (describe_shards, "DESCRIBED_PER_SHARD"),
            (pair_geometry, "SHARD_PAIRS"), (view_cache, "SHARD_IMAGES"), (fused_run, "SHARD_ITEMS"),
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(module, name, size))
        stack.enter_context(mock.patch.object(ranges, "range_size_for", lambda *_: size))
        yield


def ingested(root: Path, pictures: Path) -> Path:
    """A workspace with the pictures of the folders `reference`, `pool` and `basic`."""
    for role in ROLES:
        ingest(IngestConfig(root, role, str(pictures / role)))
    return root


def decide(root: Path, split: str) -> None:
    """Labels that depend only on the pair: every third is a copy."""
    rows = [row for path in Workspace(root).candidate_files(split) for row in read_table(path).to_pylist()]
    shown = sorted((row["query_id"], row["reference_id"]) for row in rows if row["duplicate_of"] is None)
    labels = {pair: "hard_negative" if place % 3 else "edited_copy" for place, pair in enumerate(shown)}
    World(root).decide(split, labels)


def verbs(model: str, sizes: Sizes) -> dict[str, Callable[[Path, dict[str, Any]], None]]:
    """Name → function of a workspace and of what sets the engine: `engine`, `ray_address`, `workers`."""
    dataset = Path("manifests") / "same-1.0.0"

    def embed_all(root: Path, on: dict[str, Any]) -> None:
        for role in ("basic", "reference", "pool"):
            embed(EmbedConfig(root, role, model, threads=1, shard_size=8, whitening_images=32, **on))

    def mine_both(root: Path, on: dict[str, Any]) -> None:
        for split in ("test", "train"):
            mine(MineConfig(root, split, top=sizes.top, max_per_reference=3, model=model, **on))

    def prelabel_test(root: Path, on: dict[str, Any]) -> None:
        prelabel(PrelabelConfig(root, model=model, count=sizes.known, **without_workers(on)))

    def recheck_test(root: Path, on: dict[str, Any]) -> None:
        decide(root, "test")
        recheck(RecheckConfig(root, distractors=4, model=model, **on))

    def edit_references(root: Path, on: dict[str, Any]) -> None:
        edit(EditConfig(root, sizes.copies, **without_workers(on)))
        exported(root)

    def benchmark_cosine(root: Path, on: dict[str, Any]) -> None:
        benchmark(BenchmarkConfig(workspace=root, manifest=root / dataset, model=model, norm_factor=1.0, k=5,
                                  replicates=100, pictures=False, name="cosine", **without_workers(on)))  # fmt: skip

    def train_views(root: Path, on: dict[str, Any]) -> None:
        train(TrainConfig(root, root / dataset, backbone=model, views=3, steps=sizes.steps, identities=4, pairs=2,
                          dim=8, **without_workers(on)))  # fmt: skip

    def train_fused(root: Path, on: dict[str, Any]) -> None:
        fused_run.run(FusedConfig(root, root / dataset, backbone=model, dim=8, folds=2, networks=1, epochs=2, views=3,
                                  steps=sizes.steps, copies=1, rivals=1, **on))  # fmt: skip

    def benchmark_fused(root: Path, on: dict[str, Any]) -> None:
        benchmark(BenchmarkConfig(workspace=root, manifest=root / dataset, model=model, scorer="fused", rescored=2,
                                  norm_factor=1.0, fused_model=root / "runs" / "fused", replicates=100, pictures=False,
                                  name="fused", **without_workers(on)))  # fmt: skip

    def league_own(root: Path, on: dict[str, Any]) -> None:
        def here(command: list[str], log: Path, minutes: float) -> str:  # only this process is told to join on loopback
            run_own(Path(command[3]), command[4])
            return ""

        with mock.patch.object(entries, "_run", here):
            league(LeagueConfig(workspace=root, manifest=root / dataset, detector=("cosine", "fused"), model=model,
                                fused_model=root / "runs" / "fused", replicates=100, pictures=False,
                                **without_workers(on)))  # fmt: skip

    return {
        "embed": embed_all,
        "mine": mine_both,
        "prelabel": prelabel_test,
        "recheck": recheck_test,
        "edit": edit_references,
        "benchmark": benchmark_cosine,
        "train-asl": train_views,
        "train-asl --recipe fused": train_fused,
        "benchmark --scorer fused": benchmark_fused,
        "league": league_own,
    }


def without_workers(on: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in on.items() if name != "workers"}


def exported(root: Path) -> None:
    """The dataset that the verbs after `edit` use; export runs on one machine."""
    for split in ("test", "train"):
        decide(root, split)
    export(ExportConfig(root, "same", distractors=8))


def hashes(root: Path, *, caches: bool = True) -> dict[str, str]:
    """Relative path → sha256 of every result file. Caches have a file per shard."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        skipped = "tensorboard" in name or (name.startswith("cache/") and not caches)
        if path.is_file() and not skipped and not name.endswith(NOT_RESULTS):
            found[name] = sha256_file(path)
    return found


def fresh_copy(fresh: Path, root: Path) -> Path:
    shutil.copytree(fresh, root)
    return root
