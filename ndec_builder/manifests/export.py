"""`ndec export`: build a complete, described and checksummed dataset directory from the decisions."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.staleness import stale_results
from ndec_builder.candidates.recheck import close_to_references
from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked, one_writer
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.workspace import Workspace
from ndec_builder.manifests.arrow_ops import row_numbers, take, within
from ndec_builder.manifests.pair_folders import folders_csv
from ndec_builder.manifests.publish import version_note, written_once
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.writing.gather import read_material, renamed_images, with_distinct_ids
from ndec_builder.manifests.writing.hashes import hash_packages, write_hashes
from ndec_builder.manifests.writing.lineage import corpus_facts, ingested_pairs, lineage
from ndec_builder.manifests.writing.open_selected import select_opened
from ndec_builder.manifests.writing.pack import pack
from ndec_builder.manifests.writing.presets import NDEC, compose
from ndec_builder.manifests.writing.selection import DatasetSelection, Material
from ndec_builder.manifests.writing.summary import summary_lines
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
        material = read_material(
            workspace, config.hard_queries, config.preset, config.confirmed_copies, config.train_only
        )
        origin = lineage(workspace, ("train",) if config.train_only else SPLITS), corpus_facts(workspace)
    if config.distractors:
        material = replace(material, close_to_references=close_to_references(workspace))
    preset = None
    if config.preset == "ndec":
        material, preset = compose(material, NDEC, config.partial)
    if config.preset == "own":  # the ids of a preset are given
        material = with_distinct_ids(material)
    material, selection = select_opened(workspace, material, config.distractors, config.seed)
    tables, cleaned = without_secrets(selection.tables, config.attribution_only)
    selection = replace(selection, tables=tables, renamed=renamed_images(material, tables))
    directory = workspace.manifest(f"{config.name}-{config.version}")
    try:
        with written_once(directory) as building:
            packed, shards, hashed, resolve = None, list[Path](), dict[str, Any](), workspace.resolve
            hashes = hash_packages(config.hash_names)
            if config.materialize != "none":
                done = pack(building, selection.tables, workspace.resolve, config)
                selection = replace(selection, tables=done.tables)
                packed, shards, resolve = done.facts, done.shards, lambda uri: f"{building}/{uri}"
            if hashes:  # of the pictures that readers get, which may be smaller
                path, unhashed = write_hashes(building, selection.tables, resolve, config.hash_names)
                shards = [path, *shards]
                hashed = {"hashes": hashes} | ({"images_without_hashes": unhashed} if unhashed else {})
            info = write_dataset(
                building, config, selection, *origin, preset,
                ingested_pairs(workspace), packed, shards, _folders(material, selection), cleaned, hashed,
            )  # fmt: skip
            record.write(building, counts=info["counts"] | {"dropped": info["dropped"]})
        rows = info["counts"]["rows"]
    except OSError as error:
        raise NdecError(
            f"the dataset cannot be written to {directory} ({error.strerror or error}); "
            "export to a workspace on a disk with free space and write permission"
        ) from None
    for line in summary_lines(info, config.distractors):
        say(line)
    say(
        f"{directory}: {number_of(rows['queries'], 'query')}, {number_of(rows['references'], 'reference')}, "
        f"{number_of(rows['train_pairs'], 'training pair')}"
    )
    if note := version_note(directory):
        say(note)
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
