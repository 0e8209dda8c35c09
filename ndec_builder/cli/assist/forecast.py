"""Forecast of a long verb before it starts: amount of work, shards, memory, and how long people label.

How long the machine takes depends on how busy it is now, so the verb measures its first items and its progress bar
shows the time left. This module reads tables and file sizes, never images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow.compute as pc

from ndec_builder.candidates.settings import GALLERY, recommended_top
from ndec_builder.cli.assist import rates, sizing
from ndec_builder.core.console import duration, number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.plan import plans_folder
from ndec_builder.core.schemas import TASKS
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace


def forecast(verb: str, config: Any) -> str | None:
    """One line on what `config` will do; None for short verbs and if the workspace does not have enough data yet."""
    said = FORECASTS.get(verb)
    try:
        return said(config) if said else None
    except (NdecError, OSError, KeyError, TypeError, ValueError):  # the verb itself reports a broken file
        return None


def _edit(config: Any) -> str | None:
    workspace = Workspace(config.workspace)
    images = rates.row_count(workspace.images(config.role))
    if not images or config.count < 1:
        return None
    each = -(-config.count // images)
    often = f", up to {each} of one image" if each > 1 else ""
    return (
        f"{config.count:,} edited copies of {images:,} {config.role} images{often}, {rates.cores()} at a time; "
        f"{rates.MEASURED_LATER}"
    )


def _embed(config: Any) -> str | None:
    images = rates.row_count(Workspace(config.workspace).images(config.role))
    if not images:
        return None
    shards = -(-images // config.shard_size)
    folder = Workspace(config.workspace).embeddings(config.role, config.model)
    done = len(list(plans_folder(folder).glob("*/*.done.json")))
    if not done and rates.run_counts(folder).get("images") == images:
        return None  # probably done; the verb checks and reports it
    workers = config.workers or max(1, min(rates.cores() // config.threads, shards))
    already = f", {done} of them done" if done else ""
    return (
        f"{images:,} {config.role} images in {shards:,} shard{'s' * (shards != 1)}{already}, {workers} at a time, "
        f"about {sizing.size(workers * sizing.WORKER_BYTES)} of memory; {rates.MEASURED_LATER}"
    )


def _mine(config: Any) -> str | None:
    workspace = Workspace(config.workspace)
    sides = {"pool": config.pool, GALLERY[config.split]: config.references}
    if any(folder is not None for folder in sides.values()):
        named = " and ".join(f"{folder} (as {role})" for role, folder in sides.items() if folder is not None)
        best = (
            f"the best {config.top:,} pairs" if config.top else "as many of the best pairs as the pool's size suggests"
        )
        return f"{named}: ingested, embedded if needed, then searched; {best} are kept"
    counts = {role: rates.row_count(workspace.images(role)) for role in sides}
    if not all(counts.values()):
        return None
    pool, gallery = counts.values()
    missing = sum(n for role, n in counts.items() if not rates.run_counts(workspace.embeddings(role, config.model)))
    dim = rates.dimensions(workspace, sides, config.model, config.embed_settings)
    first = ""
    if missing:
        first = f"{number_of(missing, 'image')} to embed first; "
    top = config.top or recommended_top(pool)
    local = f"local features of {number_of(pool + gallery, 'image')} compared"
    if config.shortlist == "local":
        return f"{first}{local}; of at most {number_of(top, 'pair')} with the most in common, those that fit are kept"
    if config.shortlist == "both":
        first += f"{local} as well; "
    return (
        f"{first}{pool:,} pool × {gallery:,} {GALLERY[config.split]} images = "
        f"{number_of(pool * gallery, 'pair')}, all of them "
        f"compared; the best {top:,} are kept{' and measured' if config.geometry else ''}; "
        f"{sizing.size(sizing.vectors_bytes(gallery, dim))} of vectors in memory"
    )


def _prelabel(config: Any) -> str | None:
    workspace = Workspace(config.workspace)
    images = rates.row_count(workspace.images(GALLERY[config.split]))
    pairs = sum(rates.row_count(path) for path in workspace.candidate_files(config.split))
    copies = min(config.count, images)
    if not pairs or copies < 1:
        return None
    made = copies + copies // 2
    return (
        f"{number_of(made, 'synthetic copy')} and crops of your {GALLERY[config.split]} images are made, "
        "embedded and measured "
        f"to learn from; then {number_of(pairs, 'mined pair is', 'mined pairs are')} scored; "
        f"{rates.MEASURED_LATER}"
    )


def _push(config: Any) -> str | None:
    if config.round != "first":
        return None  # the pairs of these rounds depend on labels, which only push reads
    from ndec_builder.annotation.assignment.queues import default_annotators
    from ndec_builder.annotation.tables import AnnotationTables

    workspace = Workspace(config.workspace)
    tables = [read_table(path, ["pair_id", "duplicate_of"]) for path in workspace.candidate_files(config.split)]
    shown = {pair for table in tables for pair in table.filter(table["duplicate_of"].is_null())["pair_id"].to_pylist()}
    path = workspace.annotation(config.split) / "tasks.parquet"
    tasks = read_table(path, ["pair_id", "round", "annotator"]) if path.is_file() else TASKS.empty_table()
    shown -= set(tasks.filter(pc.equal(tasks["round"], "first"))["pair_id"].to_pylist())
    names = config.annotators or default_annotators(tasks, AnnotationTables(workspace, config.split).labels, "first")
    pairs = min([len(shown), *(limit for limit in (config.count, config.sample) if limit)])
    people = len(names)
    if not pairs:
        return None
    several = min(config.overlap_people, people)
    overlap = config.overlap if several > 1 else 0.0
    pace, source = rates.pair_pace(workspace, config.split)
    hours = sizing.person_hours(pairs, pace, overlap, several) / people
    twice = f", {overlap:.0%} of them {'twice' if several == 2 else 'three times'}" if overlap else ""
    each = f"for {people} people{twice}: about {duration(3600 * hours)} of labelling each"
    whom = each if people > 1 else f"for {names[0]}: about {duration(3600 * hours)} of labelling"
    gold = f", and {config.gold:.0%} gold pairs among them" if config.gold else ""
    return f"{number_of(pairs, 'pair')} {whom} at {pace:.1f} s a pair ({source}){gold}"


def _export(config: Any) -> str | None:
    workspace = Workspace(config.workspace)
    counts = {role: rates.row_count(workspace.images(role)) for role in ("reference", "basic", "query")}
    mined = sum(rates.row_count(path) for split in GALLERY for path in workspace.candidate_files(split))
    if not counts["reference"]:
        return None
    what = (
        f"{number_of(counts['reference'], 'reference')}, {number_of(counts['query'], 'query')}, "
        f"{number_of(counts['basic'], 'training image')}, "
        f"{config.distractors:,} distractors and the hard negatives among {number_of(mined, 'mined pair')}"
    )
    if config.materialize == "none":
        return f"{what}: tables and hashes, no image is copied"
    images = sum(counts[role] for role in ("reference", "basic", "query")) + config.distractors
    each = rates.mean_bytes(workspace)
    if each is None:
        return f"{what}; about {number_of(images, 'image is', 'images are')} packed ({config.materialize})"
    total = images * each
    before = " before re-encoding" if config.resize or config.image_format != "keep" else ""
    return (
        f"{what}; about {number_of(images, 'image')} ({sizing.size(total)}{before}) are packed ({config.materialize})"
    )


def _train(config: Any) -> str | None:
    info = read_json(config.manifest / "manifest.json")
    images = int(info["counts"]["rows"]["train_basic"])
    steps = f"{config.steps:,} steps of {config.identities * config.views_per_identity} views"
    if config.whole_network:
        return f"{number_of(images, 'training image')}; {steps}, the whole network"
    views, made = images * config.views, f"{number_of(images, 'training image')} × {config.views} views"
    return f"{made} = {views:,} views, made and embedded once; {rates.MEASURED_LATER}; then {steps}"


def _benchmark(config: Any) -> str | None:
    if config.manifest is None or not (config.models or config.checkpoints):
        return None
    counts = read_json(config.manifest / "manifest.json")["counts"]["rows"]
    queries, references = int(counts["queries"]), int(counts["references"])
    return (
        f"{number_of(queries, 'query')} and {number_of(references, 'reference')} to embed (existing "
        f"vectors are reused), {config.replicates:,} bootstrap replicates; {rates.MEASURED_LATER}"
    )


FORECASTS: dict[str, Callable[[Any], str | None]] = {
    "edit": _edit,
    "embed": _embed,
    "mine": _mine,
    "prelabel": _prelabel,
    "push": _push,
    "export": _export,
    "train-asl": _train,
    "benchmark": _benchmark,
}
