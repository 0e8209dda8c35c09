"""Features of the trunk for a table of images, cached in the workspace; made in this process or on a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import progress
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.locks import locked
from ndec_builder.core.storage import atomic_path, fingerprint, remove_abandoned
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import pictures_of, rotations_of

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone
    from ndec_builder.embeddings.extract import Extracted

CACHE_VERSION = 2  # raised by hand when the cached features change for another reason than `features_key` covers
ResolveUri = Callable[[str], str]


def features_key(
    trunk: str, preprocessing: Sequence[object], batch_size: int, images: pa.Table, resolve: ResolveUri
) -> str:
    """Hash of everything that pooled features depend on: trunk, batch, contents and rotation of each image, in order.

    trunk: covers code version, weights, input size and pooling of the backbone.
    """
    return fingerprint(
        [CACHE_VERSION, trunk, list(preprocessing), batch_size, pictures_of(images, resolve), rotations_of(images)]
    )


def _preprocessing(backbone: Backbone) -> list[object]:
    """How pictures reach the trunk, and in which precision it runs."""
    from ndec_builder.embeddings.inference import use_bf16

    names = ("size", "mean", "std", "keep_shape", "interpolation")
    return [*(getattr(backbone, name) for name in names), use_bf16("auto", backbone.device) and backbone.autocast]


def pool_features(
    workspace: Workspace,
    backbone: Backbone,
    trunk: str,
    images: pa.Table,
    resolve: ResolveUri,
    batch_size: int,
    engine: Engine | None = None,
    checkpoint: Path | None = None,
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """→ (features (n, dim) float32, zero where unusable; usable (n,) bool; id → reason of the others). Cached.

    Images that could not be used before are tried again: a file that was missing may be back. On Ray, tasks load the
    trunk of the `checkpoint`, or the model by its name.
    """
    from ndec_builder.embeddings.extract import extract

    ids = images["image_id"].to_pylist()
    key = features_key(trunk, _preprocessing(backbone), batch_size, images, resolve)
    path = workspace.root / "cache" / "features" / f"{key}.npz"
    remove_abandoned(path.parent)
    cached = _read_cache(path, len(ids))
    if cached is not None and not cached[1].all():
        failed = images.filter(pa.array(~cached[1]))
        if extract(backbone, failed, resolve, batch_size=batch_size).ids:
            cached = None  # all of them again: features may depend on the other images of a batch
    if cached is not None:
        pooled, usable, reasons = cached
    else:
        if engine is not None and engine.name == "ray":
            with locked(path, wait=True):  # a second benchmark of the same images has the same shards
                extracted = _on_cluster(engine, workspace, backbone, images, resolve, batch_size, key, checkpoint)
        else:
            with progress() as bar:
                task = bar.add_task(f"embedding with {backbone.name}", total=len(ids))
                advance = functools.partial(bar.advance, task)
                extracted = extract(backbone, images, resolve, batch_size=batch_size, progress=advance)
        place = {image_id: i for i, image_id in enumerate(ids)}
        rows = np.array([place[image_id] for image_id in extracted.ids], dtype=np.int64)
        pooled, usable = np.zeros((len(ids), backbone.dim), dtype=np.float32), np.zeros(len(ids), dtype=bool)
        pooled[rows], usable[rows] = extracted.features, True
        reasons = np.full(len(ids), "", dtype=object)
        for reject in extracted.rejects:
            reasons[place[reject["image_id"]]] = reject["reason"]
        with atomic_path(path) as temporary:
            np.savez(temporary, pooled=pooled, usable=usable, reasons=reasons.astype(np.str_))
    rejects = {ids[i]: str(reasons[i]) for i in np.flatnonzero(~usable)}
    return pooled, usable, rejects


def _on_cluster(
    engine: Engine,
    workspace: Workspace,
    backbone: Backbone,
    images: pa.Table,
    resolve: ResolveUri,
    batch_size: int,
    key: str,
    checkpoint: Path | None,
) -> Extracted:
    from ndec_builder.embeddings.engines.describe_shards import describe_in_shards
    from ndec_builder.embeddings.engines.trunk_source import TrunkSource

    source = TrunkSource.of(backbone, "auto")
    if checkpoint is not None:
        source = TrunkSource.of(backbone, "auto", trained_trunk, str(checkpoint.absolute()))
    uris = pa.array([resolve(uri) for uri in images["uri"].to_pylist()], pa.string())
    resolved = images.set_column(images.column_names.index("uri"), "uri", uris)
    output = workspace.root / "cache" / "features" / f"{key}-unfinished"
    found = describe_in_shards(engine, output, source, resolved, batch_size, key)
    output.rmdir()
    return found


def trained_trunk(checkpoint: str, device: str) -> Backbone:
    """The trunk of a training run."""
    from ndec_builder.training.checkpoint import load_detector

    return load_detector(Path(checkpoint), device).backbone


def _read_cache(path: Path, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The cached features; None if the file is missing or damaged, so that a bad cache never stops a benchmark."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            pooled, usable, reasons = file["pooled"], file["usable"], file["reasons"]
    except Exception:  # a damaged archive raises almost anything
        return None
    return (pooled, usable, reasons) if len(pooled) == len(usable) == count else None
