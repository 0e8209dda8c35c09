"""Vectors and norms of a dataset's images from a model or a checkpoint. The trunk runs once per set of images."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.storage import fingerprint, read_json, sha256_bytes
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.detectors.pooled_features import CACHE_VERSION, ResolveUri, pool_features

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone

SHIPPED_NAME = "whitening that comes with ndec"


@dataclass(frozen=True)
class Embedder:
    """A trunk and its head. head: pooled features (n, dim) float32 → (n, d) float, not normalized.

    Norms are those of the head's output, the layer that the norm-ratio loss trains, unless `norms` computes them from
    the pooled features: (n, dim) → (n,) float64. `about` is shown in the report. `checkpoint`: where the trunk is from,
    if not from a model.
    """

    backbone: Backbone
    trunk: str  # fingerprint of everything in the trunk that the pooled features depend on
    head: Callable[[np.ndarray], np.ndarray]
    about: str
    weights: dict[str, str]
    threshold: float | None = None  # of the filter, chosen by the checkpoint on training data
    norms: Callable[[np.ndarray], np.ndarray] | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Features:
    """One side of a dataset. Images that cannot be used are in `rejects` (id → reason), not in the arrays.

    places: (n,) int64 rows of the images table, ascending · vectors: (n, d) float16, L2-normalized · norms: (n,)
    float64, before normalizing.
    """

    places: np.ndarray
    vectors: np.ndarray
    norms: np.ndarray
    rejects: dict[str, str]


def embedder_from_checkpoint(path: Path, test_tables: Sequence[pa.Table], device: str = "auto") -> Embedder:
    """The detector of a training run. test_tables: queries and references that it will be evaluated on.

    Raises NdecError if the file is not a checkpoint of ndec, or if it was trained on one of those images or its group.
    """
    import torch

    from ndec_builder.embeddings.backbones import best_device
    from ndec_builder.training.checkpoint import load_detector

    loaded = load_detector(path, best_device(device))
    for table, what in zip(test_tables, ("queries", "references"), strict=True):
        sums, groups = ({value for value in table[name].to_pylist() if value} for name in ("sha256", "group"))
        loaded.refuse_overlap(sums, groups, what)
    head = copy.deepcopy(loaded.head).cpu().double()

    def apply(features: np.ndarray) -> np.ndarray:
        # in float64: the float16 vectors depend neither on the batch nor on the number of threads
        with torch.inference_mode():
            output: np.ndarray = head(torch.from_numpy(features.astype(np.float64))).numpy()
        return output

    trunk = loaded.fingerprint if loaded.whole_network else loaded.backbone.fingerprint
    run = path if path.is_dir() else path.parent
    about = f"{run.absolute().name} (recipe {loaded.recipe} on {loaded.backbone.name})"
    weights = {"checkpoint": loaded.fingerprint}
    return Embedder(loaded.backbone, trunk, apply, about, weights, loaded.threshold, checkpoint=path)


def embedder_from_model(
    workspace: Workspace,
    name: str,
    fit_on: tuple[pa.Table, ResolveUri] | None,
    batch_size: int,
    device: str = "auto",
    engine: Engine | None = None,
) -> Embedder:
    """A model with PCA whitening: of the workspace, fitted on `fit_on` (training images), the shipped one, or none.

    The shipped one is used with fewer than ENOUGH_IMAGES training images.
    """
    from ndec_builder.embeddings.backbones import best_device, load_backbone
    from ndec_builder.embeddings.model_names import parse_model
    from ndec_builder.embeddings.settings import EmbedConfig
    from ndec_builder.embeddings.whitening import Whitening
    from ndec_builder.embeddings.workspace_whitening import ENOUGH_IMAGES, load_shipped_whitening

    backbone = load_backbone(name, best_device(device))
    weights = dict(backbone.weights)
    if record := own_whitening(workspace, name):
        whitening = Whitening.load(workspace.whitening(name) / "whitening.npz")
        own = f"whitening of this workspace ({record['role']} images)"
        how = SHIPPED_NAME if record["role"] == "demo" else own
    elif (fit_on is None or fit_on[0].num_rows < ENOUGH_IMAGES) and (shipped := load_shipped_whitening(name)):
        whitening, card = shipped
        how = f"{SHIPPED_NAME}, fitted on {card['images']:,} training photos of the demo"
        say(f"{name}: {how}")
    elif fit_on is not None and fit_on[0].num_rows > 1:
        table, resolve = fit_on
        chosen = whitening_sample(table)
        pooled, usable, _ = pool_features(
            workspace, backbone, backbone.fingerprint, chosen, resolve, batch_size, engine
        )
        fitted_on, dim = np.ascontiguousarray(pooled[usable]), parse_model(name).whitening_dim
        key = fingerprint([CACHE_VERSION, sha256_bytes(fitted_on.tobytes()), dim, EmbedConfig.shrinkage])
        path = workspace.root / "cache" / "whitening" / f"{key}.npz"
        if path.is_file():
            whitening = Whitening.load(path)
        else:
            whitening = Whitening.fit(fitted_on, dim, EmbedConfig.shrinkage)
            whitening.save(path)
        how = f"whitening fitted on {int(usable.sum())} training images of the manifest"
    else:
        say(
            f"{name} is used without whitening: the workspace has none and there are no training images to fit one. "
            "Scores are usually much better with it: run `ndec ingest basic PHOTOS` and `ndec embed basic --model "
            f"{name}` in this workspace, with any photos that are not in the benchmark"
        )
        return Embedder(backbone, backbone.fingerprint, lambda features: features, f"{name}, not whitened", weights)
    weights["whitening"] = whitening.fingerprint
    return Embedder(backbone, backbone.fingerprint, whitening.apply, f"{name}, {how}", weights)


def own_whitening(workspace: Workspace, model: str) -> dict[str, Any]:
    """The run record of the workspace's whitening of this model; empty if it has none of these weights and version."""
    from ndec_builder.embeddings.model_names import RESULT_VERSION, is_made_by

    stored = workspace.whitening(model)
    if not (stored / "run.json").is_file() or not (stored / "whitening.npz").is_file():
        return {}
    record: dict[str, Any] = read_json(stored / "run.json")
    return record if record.get("result_version") == RESULT_VERSION and is_made_by(record, model) else {}


def whitening_sample(images: pa.Table) -> pa.Table:
    """The training images that a whitening is fitted on, spread evenly over the table."""
    from ndec_builder.embeddings.settings import EmbedConfig

    spread = np.linspace(0, images.num_rows - 1, min(EmbedConfig.whitening_images, images.num_rows)).round()
    return images.take(spread.astype(np.int64))


def embed_images(
    workspace: Workspace,
    detector: Embedder,
    images: pa.Table,
    resolve: ResolveUri,
    batch_size: int,
    sizes: Sequence[int] = (),
    engine: Engine | None = None,
) -> Features:
    """Vectors and norms of a table's images (image_id, uri, sha256, rotation); features of the trunk are cached.

    With several input `sizes` the unit vectors are averaged, and the norm is the geometric mean. Raises NdecError if no
    image can be used.
    """
    total, logs = 0.0, 0.0
    for size in sizes or (detector.backbone.size,):
        backbone, trunk = _at_size(detector, size)
        pooled, usable, reasons = pool_features(
            workspace, backbone, trunk, images, resolve, batch_size, engine, detector.checkpoint
        )
        if not usable.any():
            name, reason = next(iter(reasons.items()), ("?", "?"))
            uri = dict(zip(images["image_id"].to_pylist(), images["uri"].to_pylist(), strict=True)).get(name)
            raise NdecError(
                f"none of {number_of(len(usable), 'image')} can be used; the first, {name} ({uri}): {reason}. If the "
                "pictures of this dataset or folder were moved, put them back, or ingest them from their new place and "
                "export a new version"
            )
        output = np.asarray(detector.head(pooled[usable]), dtype=np.float64)
        lengths = _lengths(output)
        norms = lengths if detector.norms is None else detector.norms(pooled[usable])
        total = total + output / np.where(lengths > 0, lengths, 1.0)[:, None]
        logs = logs + np.log(np.maximum(norms, np.finfo(np.float64).tiny)) / max(1, len(sizes))
    if len(sizes) > 1:
        norms = np.exp(logs)
    length = _lengths(np.asarray(total))
    vectors = (total / np.where(length > 0, length, 1.0)[:, None]).astype(np.float16)
    return Features(np.flatnonzero(usable), vectors, norms, reasons)


def join_ensemble(members: Sequence[Features]) -> Features:
    """The ensemble: concatenated unit vectors, scaled to length 1 again, so that a score is the mean cosine.

    Norms are geometric means, so query_over_reference is the geometric mean of the members' ratios. An image that one
    member cannot use is left out.
    """
    if len(members) == 1:
        return members[0]
    places = functools.reduce(np.intersect1d, [member.places for member in members])
    rows = [np.searchsorted(member.places, places) for member in members]
    parts = [member.vectors[i].astype(np.float64) for member, i in zip(members, rows, strict=True)]
    joined = np.concatenate(parts, axis=1)
    lengths = _lengths(joined)
    logs = [np.log(np.maximum(m.norms[i], np.finfo(np.float64).tiny)) for m, i in zip(members, rows, strict=True)]
    rejects: dict[str, str] = {}
    for member in members:
        rejects |= member.rejects
    vectors = (joined / np.where(lengths > 0, lengths, 1.0)[:, None]).astype(np.float16)
    return Features(places, vectors, np.exp(np.mean(logs, axis=0)), rejects)


def _lengths(rows: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths


def _at_size(detector: Embedder, size: int) -> tuple[Backbone, str]:
    """The trunk with a different input size, and the fingerprint of its features."""
    if size == detector.backbone.size:
        return detector.backbone, detector.trunk
    backbone = copy.copy(detector.backbone)  # shares the weights
    backbone.size = size
    return backbone, fingerprint([detector.trunk, size])
