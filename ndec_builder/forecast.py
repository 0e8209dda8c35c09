"""What a long verb is about to do, said before it does it: how much, in how many shards, memory, a guess at the time.

A guess rests on what this workspace did before (its run.json files), else on the rates of `core/sizing.py`; the text
says which. It reads counts only, never images.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ndec_builder.candidates.settings import GALLERY
from ndec_builder.core import sizing
from ndec_builder.core.errors import NdecError
from ndec_builder.core.plans import plans_folder
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace

MEASURED = 1000  # images of a run whose rate counts: in a smaller one most of the time goes into starting


def forecast(verb: str, config: Any) -> str | None:
    """One line on what `config` will do; None for short verbs, and where the workspace does not say enough yet."""
    said = FORECASTS.get(verb)
    try:
        return said(config) if said else None
    except (NdecError, OSError, KeyError, TypeError, ValueError):  # a broken file is the verb's to report, not ours
        return None


def _embed(config: Any) -> str | None:
    images = _rows(Workspace(config.workspace).images(config.role))
    if not images:
        return None
    shards = -(-images // config.shard_size)
    folder = Workspace(config.workspace).embeddings(config.role, config.model)
    done = len(list(plans_folder(folder).glob("*/*.done.json")))
    if not done and _counts(folder).get("images") == images:
        return None  # made already; the verb looks closer and says so
    workers = config.workers or max(1, min(_cores() // config.threads, shards))
    left = images - min(images, done * config.shard_size)
    seconds, source = _embed_guess(config.workspace, config.model, left)
    already = f", {done} of them done" if done else ""
    return (
        f"{images:,} {config.role} images in {shards:,} shard{'s' * (shards != 1)}{already}, {workers} at a time, some "
        f"{sizing.size(workers * sizing.WORKER_BYTES)} of memory; about {sizing.duration(seconds)} ({source})"
    )


def _mine(config: Any) -> str | None:
    workspace = Workspace(config.workspace)
    sides = {"pool": config.pool, GALLERY[config.split]: config.references}
    if any(folder is not None for folder in sides.values()):
        named = " and ".join(f"{folder} (as {role})" for role, folder in sides.items() if folder is not None)
        return f"{named}: listed, embedded where that is missing, then searched; the best {config.top:,} pairs are kept"
    counts = {role: _rows(workspace.images(role)) for role in sides}
    if not all(counts.values()):
        return None
    pool, gallery = counts.values()
    missing = sum(n for role, n in counts.items() if not _counts(workspace.embeddings(role, config.model)))
    dim = 256
    seconds, source = _embed_guess(config.workspace, config.model, missing) if missing else (0.0, "guess")
    seconds += sizing.search_seconds(pool, gallery, dim, _cores())
    if config.geometry:
        seconds += sizing.fit_seconds(config.top, config.workers or _cores())
    first = f"{missing:,} images to embed first; " if missing else ""
    return (
        f"{first}{pool:,} pool × {gallery:,} {GALLERY[config.split]} images = {pool * gallery:,} pairs, all of them "
        f"compared; the best {config.top:,} are kept{' and measured' if config.geometry else ''}; "
        f"{sizing.size(sizing.vectors_bytes(gallery, dim))} of vectors in memory; "
        f"about {sizing.duration(seconds)} ({source})"
    )


def _train(config: Any) -> str | None:
    info = read_json(config.manifest / "manifest.json")
    images = int(info["counts"]["rows"]["train_basic"])
    steps = f"{config.steps:,} steps of {config.identities * config.views_per_identity} views"
    if config.whole_network:
        return f"{images:,} training images; {steps}, the whole network"
    views, made = images * config.views, f"{images:,} training images × {config.views} views"
    seconds, source = _embed_guess(config.workspace, config.backbone, views)
    return f"{made}, made and described once ({sizing.duration(seconds)} the first time, {source}); then {steps}"


def _benchmark(config: Any) -> str | None:
    if config.manifest is None or not (config.models or config.checkpoints):
        return None
    counts = read_json(config.manifest / "manifest.json")["counts"]["rows"]
    queries, references = int(counts["queries"]), int(counts["references"])
    models = max(1, len(config.models) + len(config.checkpoints))
    seconds, source = _embed_guess(config.workspace, next(iter(config.models), ""), (queries + references) * models)
    return (
        f"{queries:,} queries and {references:,} references to describe (what is embedded already is not done again), "
        f"{config.replicates:,} bootstrap replicates; up to {sizing.duration(seconds + 5)} ({source})"
    )


def _embed_guess(root: Path, model: str, images: int) -> tuple[float, str]:
    """Seconds for so many images, and what they rest on: this model's largest run in the workspace, or a guess."""
    from ndec_builder.core.schemas import ROLES  # with pyarrow: too heavy for the start of the command line

    folders = [Workspace(root).embeddings(role, model) for role in ROLES] if model else []
    records = [read_json(folder / "run.json") for folder in folders if (folder / "run.json").is_file()]
    runs = [(record["counts"]["embedded"], record["seconds"]) for record in records]
    done, seconds = max(runs, default=(0, 0.0))
    if done >= MEASURED and seconds > 0:
        rate = done / seconds
        return images / rate, f"{rate:.0f} images/s in this workspace before"
    return sizing.embed_seconds(images, _cores()), "a guess from the rate of efficientnet-lite0 on another machine"


def _cores() -> int:
    return os.cpu_count() or 1


def _rows(path: Path) -> int:
    if not path.is_file():
        return 0
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _counts(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    counts: dict[str, Any] = read_json(path).get("counts", {}) if path.is_file() else {}
    return counts


FORECASTS: dict[str, Callable[[Any], str | None]] = {
    "embed": _embed,
    "mine": _mine,
    "train-asl": _train,
    "benchmark": _benchmark,
}
