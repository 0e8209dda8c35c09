"""The fused scorer on a searched list: the best pairs of each query are judged as pairs, the rest stays below them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.geometry import SIGNALS, fit_pictures, single_threaded
from ndec_builder.candidates.keypoints import Picture, describe
from ndec_builder.core.decode import DecodeError
from ndec_builder.core.engines import Engine
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.plans import Plan, Shard, check_files, open_plan
from ndec_builder.core.shards import Outcome, run_shards
from ndec_builder.core.storage import atomic_path, fingerprint
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.features import Detector, Features, features_of
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.training.fused.features import background_scores, features
from ndec_builder.training.fused.measure import SIDE
from ndec_builder.training.fused.model import FusedModel
from ndec_builder.training.views import load_picture

GEOMETRY_VERSION = 1  # raised by hand when the signals of a pair change
SHARD_PAIRS = 1024
BELOW = 3.0  # taken off the cosine of pairs that are not judged: every judged pair, 0 … 1, stands above them


@dataclass(frozen=True)
class SignalsShard:
    """Geometry of pairs [start, stop) of a list that is sorted by query; picklable."""

    folder: Path  # absolute, of the plan
    queries: Sequence[tuple[str, int]]  # uri and rotation of each pair's query
    references: Sequence[tuple[str, int]]

    def __call__(self, shard: Shard) -> Outcome:
        single_threaded()
        rows = np.full((shard.stop - shard.start, len(SIGNALS)), np.nan)
        for place in range(shard.start, shard.stop):
            query, reference = _described(*self.queries[place]), _described(*self.references[place])
            if query is not None and reference is not None:
                rows[place - shard.start] = fit_pictures(query, reference).vector()
        name = f"{shard.name}.npy"
        with atomic_path(self.folder / name) as temporary:
            np.save(temporary, rows)
        return Outcome((name,), {"pairs": len(rows)})


@lru_cache(maxsize=512)
def _described(uri: str, rotation: int) -> Picture | None:
    """A picture with its keypoints; None when it cannot be read (it then has no vector, and no pair, either)."""
    try:
        return describe(np.asarray(load_picture(uri, SIDE, rotation).convert("RGB")))
    except (OSError, DecodeError):
        return None


def detector_of(model: FusedModel, backbone: object) -> Detector:
    """The descriptor that the model was fitted with."""
    return Detector(backbone, backbone.fingerprint, model.whitening.apply, "fused", {"fused": model.fingerprint})  # type: ignore[attr-defined, arg-type]


def best_rows(predictions: Predictions, top: int) -> np.ndarray:
    """Places (in the list) of the `top` best predictions of each query, sorted by (query, reference)."""
    order = np.lexsort((predictions.reference, -predictions.scores, predictions.query))
    queries = predictions.query[order]
    first = np.searchsorted(queries, queries, side="left")
    chosen = order[np.arange(len(order)) - first < top]
    result: np.ndarray = chosen[np.lexsort((predictions.reference[chosen], predictions.query[chosen]))]
    return result


def rescore(
    workspace: Workspace,
    dataset: Dataset,
    predictions: Predictions,
    model: FusedModel,
    sides: tuple[Features, Features],
    top: int,
    workers: int,
    ratios: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Predictions:
    """The same pairs with new scores: P(copy) for the `top` best of each query, cosine − BELOW for the others.

    sides: queries and references by the model's own descriptor. Raises UsageError for a list without any pair.
    """
    chosen = best_rows(predictions, top)
    if not len(chosen):
        raise UsageError("the fused scorer has no pair to judge: the list of predictions is empty")
    query, reference = predictions.query[chosen], predictions.reference[chosen]
    signals = pair_signals(workspace, dataset, query, reference, workers)
    vectors = [_all_vectors(side, count) for side, count in zip(sides, _sizes(dataset), strict=True)]
    score = np.einsum("ij,ij->i", vectors[0][query], vectors[1][reference])
    background = background_scores(vectors[0], model.background.astype(np.float32))[query]
    rows = features(score, background, signals, None if ratios is None else ratios(query, reference))
    scores = predictions.scores - BELOW
    scores[chosen] = model.probability(rows)
    protocol = f"{predictions.protocol}; the {top} best of each query re-scored by the fused scorer"
    return replace(predictions, scores=scores, protocol=protocol)


def pair_signals(
    workspace: Workspace, dataset: Dataset, query: np.ndarray, reference: np.ndarray, workers: int
) -> np.ndarray:
    """(n, 17) float64 signals of pairs, sorted by query; kept in the workspace by the images' bytes."""
    sides = [_pictures(dataset, table) for table in (dataset.queries, dataset.references)]
    chosen = [[side[row] for row in rows.tolist()] for side, rows in zip(sides, (query, reference), strict=True)]
    # a picture is known by its bytes, one that was never opened by its uri
    names = [[(sha256 or uri, rotation) for sha256, uri, rotation in side] for side in chosen]
    plan = Plan(len(query), SHARD_PAIRS, fingerprint([GEOMETRY_VERSION, SIDE, names]))
    folder = open_plan(workspace.root / "cache" / "geometry" / plan.fingerprint[:16], plan).absolute()
    work = SignalsShard(folder, *([(uri, rotation) for _, uri, rotation in side] for side in chosen))
    results = run_shards(folder, plan, work, Engine(workers=workers), what="fitting pairs", unit="pairs")
    for shard, done in zip(plan.shards, results, strict=True):
        check_files(folder, shard, done)
    return np.concatenate([np.load(folder / f"{shard.name}.npy") for shard in plan.shards])


def _pictures(dataset: Dataset, table: pa.Table) -> list[tuple[str | None, str, int]]:
    """(sha256, resolved uri, rotation) of each image."""
    turned = "rotation" in table.column_names
    rotations = table["rotation"].to_pylist() if turned else [0] * len(table)
    return [
        (sha256, dataset.resolve(uri), rotation or 0)
        for sha256, uri, rotation in zip(table["sha256"].to_pylist(), table["uri"].to_pylist(), rotations, strict=True)
    ]


def own_sides(
    workspace: Workspace, dataset: Dataset, model: FusedModel, batch_size: int, device: str
) -> tuple[Features, Features]:
    """Queries and references by the descriptor of the model. Raises NdecError when its weights changed since."""
    from ndec_builder.embeddings.backbones import best_device, load_backbone

    stored = model.card["backbone"]
    backbone = load_backbone(stored["name"], best_device(device))
    if backbone.fingerprint != stored["fingerprint"]:
        raise NdecError(
            f"the fused scorer was fitted with {stored['name']} of fingerprint {stored['fingerprint'][:16]}…, and "
            f"here it is {backbone.fingerprint[:16]}…: its weights or preprocessing changed; fit the scorer again"
        )
    detector = detector_of(model, backbone)
    sides = [
        features_of(workspace, detector, table, dataset.resolve, batch_size)
        for table in (dataset.queries, dataset.references)
    ]
    return sides[0], sides[1]


def _sizes(dataset: Dataset) -> tuple[int, int]:
    return len(dataset.queries), len(dataset.references)


def _all_vectors(side: Features, count: int) -> np.ndarray:
    """(count, d) float32, zero where an image cannot be used: no prediction names it."""
    vectors = np.zeros((count, side.vectors.shape[1]), np.float32)
    vectors[side.places] = side.vectors
    return vectors
