"""The fused scorer on a searched list: the best pairs of each query are judged as pairs, the rest stays below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.detectors.features import Detector, Features, features_of
from ndec_builder.evaluation.detectors.pair_geometry import pair_signals
from ndec_builder.evaluation.metrics.norm_ratio_filter import query_over_reference
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.training.fused.features import background_scores, features
from ndec_builder.training.fused.model import FusedModel

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone

BELOW = 3.0  # taken off the cosine of pairs that are not judged: every judged pair, 0 … 1, stands above them


def detector_of(model: FusedModel, backbone: Backbone) -> Detector:
    """The descriptor that the model was fitted with; its norms are those of the model's heads, where it has some."""
    norms = model.norms if model.heads else None
    return Detector(
        backbone, backbone.fingerprint, model.whitening.apply, "fused", {"fused": model.fingerprint}, norms=norms
    )


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
) -> Predictions:
    """The same pairs with new scores: P(copy) for the `top` best of each query, cosine − BELOW for the others.

    sides: queries and references by the model's own descriptor. Raises UsageError for a list without any pair.
    """
    chosen, rows = pair_features(workspace, dataset, predictions, model, sides, top, workers)
    protocol = f"{predictions.protocol}; the {top} best of each query re-scored by the fused scorer"
    return replace(with_scores(predictions, chosen, model.probability(rows)), protocol=protocol)


def pair_features(
    workspace: Workspace,
    dataset: Dataset,
    predictions: Predictions,
    model: FusedModel,
    sides: tuple[Features, Features],
    top: int,
    workers: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Places in the list of the `top` best pairs of each query, and their rows (n, len(FEATURES)) of features."""
    chosen = best_rows(predictions, top)
    if not len(chosen):
        raise UsageError("the fused scorer has no pair to judge: the list of predictions is empty")
    query, reference = predictions.query[chosen], predictions.reference[chosen]
    signals = pair_signals(workspace, dataset, query, reference, workers)
    counts = len(dataset.queries), len(dataset.references)
    vectors = [_of_all(side.vectors.astype(np.float32), side, n, 0) for side, n in zip(sides, counts, strict=True)]
    score = np.einsum("ij,ij->i", vectors[0][query], vectors[1][reference])
    background = background_scores(vectors[0], model.background.astype(np.float32))[query]
    ratios = None
    if model.heads:
        norms = [_of_all(side.norms, side, n, 1) for side, n in zip(sides, counts, strict=True)]
        ratios = query_over_reference(norms[0][query], norms[1][reference])
    return chosen, features(score, background, signals, ratios)


def with_scores(predictions: Predictions, chosen: np.ndarray, probability: np.ndarray) -> Predictions:
    """The list with these probabilities at the places `chosen`, and all other pairs below them in their old order."""
    scores = predictions.scores - BELOW
    scores[chosen] = probability
    return replace(predictions, scores=scores)


def own_sides(
    workspace: Workspace,
    dataset: Dataset,
    model: FusedModel,
    batch_size: int,
    device: str,
    names: Sequence[str] = (),
) -> tuple[Features, Features]:
    """Queries and references by the descriptor of the model (`detector_of`).

    Raises NdecError when the descriptor's weights changed since the fit.
    names: of models that may be the same descriptor from a file that lies elsewhere now.
    """
    from ndec_builder.embeddings.backbones import best_device, load_backbone
    from ndec_builder.embeddings.model_names import parse

    stored = model.card["backbone"]
    same = [name for name in names if parse(name).fingerprint() == stored["fingerprint"]]
    backbone = load_backbone(same[0] if same else stored["name"], best_device(device))
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


def _of_all(values: np.ndarray, side: Features, count: int, missing: float) -> np.ndarray:
    """One of these `values` for each of `count` images; `missing` where it cannot be used: no prediction names it."""
    found = np.full((count, *values.shape[1:]), missing, values.dtype)
    found[side.places] = values
    return found
