"""`ndec export`: build a complete, described and checksummed dataset directory from the decisions."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.staleness import stale_results
from ndec_builder.candidates.recheck import close_to_references
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked, one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.arrow_ops import row_numbers, take, within
from ndec_builder.manifests.pair_folders import folders_csv
from ndec_builder.manifests.publish import written_once
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.writing.gather import read_material
from ndec_builder.manifests.writing.lineage import corpus_facts, ingested_pairs, lineage
from ndec_builder.manifests.writing.open_selected import select_opened
from ndec_builder.manifests.writing.pack import pack
from ndec_builder.manifests.writing.presets import NDEC, compose
from ndec_builder.manifests.writing.selection import CLOSE, DatasetSelection, Material
from ndec_builder.manifests.writing.write import without_secrets, write_dataset

RESULT_VERSION = 2


@one_writer(lambda config: Workspace(config.workspace).manifest(f"{config.name}-{config.version}"))
def run(config: ExportConfig) -> Path:
    """Write manifests/<name>-<version>/ and return it. The same workspace and settings give the same bytes.

    While it reads, no command may write candidates or labels. Raises UsageError for an invalid name, version or count,
    and NdecError for a test set without positives, an undecided split, missing parts of a preset, clashing ids, images
    that cannot be packed, a folder that cannot be written, and while another command writes candidates or labels.
    """
    config.check()
    record = RunRecord("export", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    with contextlib.ExitStack() as locks:
        for folder in _labelled_folders(workspace):  # a command that is half done there would be mixed into the dataset
            locks.enter_context(locked(folder))
        refuse_stale(workspace)
        material = read_material(workspace, config.hard_queries, config.preset, config.confirmed_copies)
        origin = lineage(workspace), corpus_facts(workspace)
    if config.distractors:
        material = replace(material, close_to_references=close_to_references(workspace))
    preset = None
    if config.preset == "ndec":
        material, preset = compose(material, NDEC, config.partial)
    material, selection = select_opened(workspace, material, config.distractors, config.seed)
    tables, cleaned = without_secrets(selection.tables, config.attribution_only)
    selection = replace(selection, tables=tables)
    directory = workspace.manifest(f"{config.name}-{config.version}")
    try:
        with written_once(directory) as building:
            packed, shards = None, list[Path]()
            if config.materialize != "none":
                done = pack(building, selection.tables, workspace.resolve, config)
                selection = replace(selection, tables=done.tables)
                packed, shards = done.facts, done.shards
            info = write_dataset(
                building, config, selection, *origin, preset,
                ingested_pairs(workspace), packed, shards, _folders(material, selection), cleaned,
            )  # fmt: skip
            record.write(building, counts=info["counts"] | {"dropped": info["dropped"]})
        rows = info["counts"]["rows"]
    except OSError as error:
        raise NdecError(
            f"the dataset cannot be written to {directory} ({error.strerror or error}); "
            "export to a workspace on a disk with free space and write permission"
        ) from None
    _say_result(config, info)
    say(
        f"{directory}: {rows['queries']} queries, {rows['references']} references, {rows['train_pairs']} training pairs"
    )
    return directory


def _labelled_folders(workspace: Workspace) -> list[Path]:
    """The folders of candidates and labels that exist."""
    folders = [folder(split) for folder in (workspace.candidates, workspace.annotation) for split in SPLITS]
    return [folder for folder in folders if folder.is_dir()]


def refuse_stale(workspace: Workspace) -> None:
    """Raise NdecError if candidates or decisions are older than what they were made from; print lesser cases."""
    stale = stale_results(workspace)
    for result in stale:
        if not result.blocks:
            say(f"note: {result}")
    if blocking := [str(result) for result in stale if result.blocks]:
        raise NdecError(f"a dataset made now would mix old and new results: {'; '.join(blocking)}. Then export again")


def _folders(material: Material, selection: DatasetSelection) -> bytes | None:
    """pair_folders.csv: where the pairs of an ingested release were stored in it; None without one."""
    released = material.released
    released = released.filter(pa.array(within(released["pair_id"], selection.tables["train_pairs"]["pair_id"])))
    if not released.num_rows:
        return None
    latters = take(material.pool["uri"], row_numbers(released["latter_id"], material.pool["image_id"]))
    formers = take(material.basic["uri"], row_numbers(released["former_id"], material.basic["image_id"]))
    uris = zip(latters.to_pylist(), formers.to_pylist(), strict=True)
    return folders_csv(released["pair_id"].to_pylist(), list(uris))


def _say_result(config: ExportConfig, info: dict[str, Any]) -> None:
    if not info["counts"]["queries"].get("hard_negative"):
        say("this dataset has no hard negatives: no pool image was kept (see `dropped` in manifest.json)")
    settings = info["settings"]
    if settings["distractors_drawn"] < config.distractors:
        drawn = settings["distractors_drawn"]
        say(f"{config.distractors} distractors were requested; the unmined pool has only {drawn}")
    if config.distractors and not settings["distractors_compared"]:
        say(
            "the distractors were not compared with the references, because the vectors of the mining are missing or "
            "out of date; some may be copies: run `ndec mine` and export again"
        )
    if close := info["dropped"].get("distractors", {}).get(CLOSE, 0):
        say(
            f"{close} pool images drawn as distractors are as close to a reference as the mined pairs, and nobody "
            f"labelled them: others were drawn instead. `ndec annotate recheck --distractors {close}` and "
            "`ndec annotate push` give the closest ones to annotators"
        )
    if removed := info["credentials_removed"]:
        say(f"passwords, tokens or signatures were removed from the URLs of {removed} images")
    for table, reasons in info["dropped"].items():
        for reason, count in reasons.items():
            say(f"left out of {table}: {count} × {reason}")
