"""`ndec export`: decisions → a dataset directory that is complete, described and checksummed."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa

import ndec_builder
from ndec_builder.candidates.kept import Kept, kept_queries
from ndec_builder.candidates.rows import all_candidates
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.schemas import DECISIONS, EDITS, GROUND_TRUTH, MANIFEST_TABLES, SCHEMA_VERSION, SPLITS
from ndec_builder.core.storage import read_table, sha256_file, write_json, write_table, write_text
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.card import card
from ndec_builder.manifests.croissant import croissant
from ndec_builder.manifests.csvs import attribution_csv, ground_truth_csv
from ndec_builder.manifests.lineage import annotators, corpus, count_tables, labels_by, lineage
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.tables import Material, Selection, TrainPair, select

RESULT_VERSION = 1


def run(config: ExportConfig) -> Path:
    """Write manifests/<name>-<version>/ and return it. The same workspace and settings give the same bytes.

    Raises UsageError for a name, version or count that cannot be, NdecError for a test set without positives, a split
    that is not decided, and ids that clash. `manifest.json` is written last: without it there is no dataset.
    """
    _check(config)
    record = RunRecord("export", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    selection = select(read_material(workspace), config.distractors, config.seed)
    directory = workspace.manifest(f"{config.name}-{config.version}")
    (directory / "manifest.json").unlink(missing_ok=True)
    info = write_dataset(directory, config, selection, lineage(workspace), corpus(workspace))
    rows = info["counts"]["rows"]
    record.write(directory, counts=info["counts"] | {"dropped": info["dropped"]})
    _say_result(config, info)
    say(
        f"{directory}: {rows['queries']} queries, {rows['references']} references, {rows['train_pairs']} training pairs"
    )
    return directory


def read_material(workspace: Workspace) -> Material:
    """Read all that a dataset is made from. A workspace without training decisions gives empty training pairs."""
    pool = {row["image_id"]: row for row in _images(workspace, "pool")}
    tables = {split: _candidates(workspace, split) for split in SPLITS}
    mined = {name for table in tables.values() if table is not None for name in table["query_id"].to_pylist()}
    edits = read_table(workspace.edits) if workspace.edits.is_file() else EDITS.empty_table()
    return Material(
        references=sorted(workspace.read_images("reference").to_pylist(), key=lambda row: row["image_id"]),
        pool=pool,
        queries=_images(workspace, "query"),
        basic=_images(workspace, "basic"),
        edits=edits.to_pylist(),
        truth=_truth(workspace),
        kept=_kept(workspace, tables["test"]),
        train_pairs=_train_pairs(workspace, tables["train"]),
        mined=frozenset(mined),
    )


def write_dataset(
    directory: Path,
    config: ExportConfig,
    selection: Selection,
    facts: dict[str, Any],
    source: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write every file of the dataset into `directory`; return the content of its manifest.json."""
    names = annotators(facts)
    counts = count_tables(selection.tables)
    info: dict[str, Any] = {
        "name": config.name,
        "version": config.version,
        "schema_version": SCHEMA_VERSION,
        "ndec_version": ndec_builder.__version__,
        "description": _description(counts),
        "images_root": Path(os.path.relpath(config.workspace.absolute(), directory.absolute())).as_posix(),
        "settings": {
            "distractors": config.distractors,
            "distractors_drawn": selection.distractors_drawn,
            "seed": config.seed,
        },
        "counts": counts,
        "dropped": selection.dropped,
        "lineage": facts,
        "corpus": source,
        "annotators": names,
        "labels_by": labels_by(names),
    }
    paths = []
    for name, (split, _) in MANIFEST_TABLES.items():
        path = directory / "data" / name / f"{split}-00000-of-00001.parquet"
        paths.append(write_table(path, selection.tables[name]))
    paths.append(write_text(directory / "ground_truth.csv", ground_truth_csv(selection.tables["ground_truth"])))
    paths.append(write_text(directory / "ATTRIBUTION.csv", attribution_csv(selection.tables)))
    files = {path.relative_to(directory).as_posix(): (sha256_file(path), path.stat().st_size) for path in paths}
    described = croissant(config.name, config.version, info["description"], list(counts["licenses"]), files)
    paths.append(write_json(directory / "croissant.json", described))
    paths.append(write_text(directory / "README.md", card(info)))
    info["files"] = {
        path.relative_to(directory).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in paths
    }
    write_json(directory / "manifest.json", info)
    return info


def _check(config: ExportConfig) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", config.name):
        raise UsageError(f"name {config.name!r} becomes a folder name; use letters, digits, - _ and . only")
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", config.version):
        raise UsageError(f"version {config.version!r} is no semantic version; write it like 1.0.0")
    if config.distractors < 0 or config.seed < 0:
        raise UsageError(f"distractors is {config.distractors} and seed {config.seed}; both must be 0 or more")


def _images(workspace: Workspace, role: str) -> list[dict[str, Any]]:
    if not workspace.images(role).is_file():
        return []
    return sorted(workspace.read_images(role).to_pylist(), key=lambda row: row["image_id"])


def _candidates(workspace: Workspace, split: str) -> pa.Table | None:
    mined = (workspace.candidates(split) / "candidates.parquet").is_file()
    return all_candidates(workspace, split) if mined else None


def _decisions(workspace: Workspace, split: str) -> pa.Table:
    path = workspace.annotation(split) / "decisions.parquet"
    if not path.is_file():
        raise NdecError(
            f"split {split} is mined but not decided: {path} does not exist; "
            f"run `ndec annotate push`, label, then `ndec annotate pull` and `ndec annotate resolve`"
        )
    return read_table(path, DECISIONS.names)


def _kept(workspace: Workspace, candidates: pa.Table | None) -> Kept:
    if candidates is None:
        raise NdecError(
            f"split test is not mined in {workspace.root}, so there are no hard negatives to export; "
            f"run `ndec mine --split test`, label the pairs, then export"
        )
    return kept_queries(candidates, _decisions(workspace, "test"))


def _train_pairs(workspace: Workspace, candidates: pa.Table | None) -> list[TrainPair]:
    if candidates is None:
        return []
    decided = {row["pair_id"]: row for row in _decisions(workspace, "train").to_pylist()}
    return [
        TrainPair(row["pair_id"], row["reference_id"], row["query_id"], row["score"], decided[row["pair_id"]]["basis"])
        for row in candidates.to_pylist()
        if row["duplicate_of"] is None and decided.get(row["pair_id"], {}).get("decision") == "hard_negative"
    ]


def _truth(workspace: Workspace) -> dict[str, list[str]]:
    if not workspace.ground_truth.is_file():
        return {}
    truth: dict[str, list[str]] = defaultdict(list)
    for row in read_table(workspace.ground_truth, GROUND_TRUTH.names).to_pylist():
        if row["reference_id"] is not None:
            truth[row["query_id"]].append(row["reference_id"])
    return truth


def _description(counts: dict[str, Any]) -> str:
    kinds = counts["queries"]
    return (
        f"A benchmark for image copy detection with hard negatives: {counts['rows']['queries']} queries "
        f"({kinds.get('edited_copy', 0)} edited copies, {kinds.get('hard_negative', 0)} hard negatives, "
        f"{kinds.get('distractor', 0)} distractors) against {counts['rows']['references']} references, with "
        f"{counts['rows']['train_basic']} images and {counts['rows']['train_pairs']} hard negative pairs to train on."
    )


def _say_result(config: ExportConfig, info: dict[str, Any]) -> None:
    if not info["counts"]["queries"].get("hard_negative"):
        say("this dataset has no hard negatives: no pool image was kept (manifest.json, dropped, says why)")
    drawn = info["settings"]["distractors_drawn"]
    if drawn < config.distractors:
        say(f"asked for {config.distractors} distractors; the unmined pool has only {drawn} to give")
    for table, reasons in info["dropped"].items():
        for reason, count in reasons.items():
            say(f"left out of {table}: {count} × {reason}")
