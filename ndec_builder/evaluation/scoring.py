"""A dataset and a source of predictions → the scored list, and the norms that the asymmetric filter compares."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ndec_builder.core.errors import NdecError
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.asymmetric import query_over_reference
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.features import Detector, Features, features_of, of_checkpoint, of_model
from ndec_builder.evaluation.matching import match
from ndec_builder.evaluation.predictions import Predictions, read_predictions
from ndec_builder.evaluation.settings import BenchmarkConfig

Rejects = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Scored:
    """A list of predictions and what made it.

    norms: (of the queries (nq,), of the references (nr,)) float64, NaN for an unusable image; None when no network was
    asked · weights: name → sha256 · rejects: side → image_id → reason.
    """

    predictions: Predictions
    about: str
    norms: tuple[np.ndarray, np.ndarray] | None = None
    weights: dict[str, str] = field(default_factory=dict)
    rejects: Rejects = field(default_factory=dict)


def score(config: BenchmarkConfig, workspace: Workspace, dataset: Dataset) -> Scored:
    """Read or search the predictions; with an independent ASL checkpoint, take the norms from that one.

    Raises NdecError when a checkpoint was trained on images of the dataset, or no image of a side can be used.
    """
    if config.predictions is not None:
        found = read_predictions(config.predictions, dataset.query_ids, dataset.reference_ids)
        scored = Scored(found, f"predictions {config.predictions.name}")
    else:
        detector = _detector(config, workspace, dataset)
        scored = _search(detector, _embed(detector, config, workspace, dataset), dataset, config.k)
    if config.asl_checkpoint is None:
        return scored
    judge = of_checkpoint(config.asl_checkpoint, (dataset.queries, dataset.references), config.device)
    sides = _embed(judge, config, workspace, dataset)
    weights = scored.weights | {f"asl {name}": value for name, value in judge.weights.items()}
    about = f"{scored.about}; norms of {judge.about}"
    return Scored(scored.predictions, about, _norms(sides, dataset), weights, scored.rejects or _rejects(sides))


def descriptors(config: BenchmarkConfig, workspace: Workspace, dataset: Dataset) -> tuple[Features, Features]:
    """Queries' and references' vectors by the detector of the settings: the trunk's part comes from the cache."""
    return _embed(_detector(config, workspace, dataset), config, workspace, dataset)


def pair_ratios(scored: Scored) -> np.ndarray:
    """query_over_reference of every prediction, (m,) float64 in the order of the predictions.

    Raises NdecError when an image of a pair has no norm: its file could not be used.
    """
    assert scored.norms is not None
    query, reference = scored.norms[0][scored.predictions.query], scored.norms[1][scored.predictions.reference]
    if (missing := np.isnan(query) | np.isnan(reference)).any():
        raise NdecError(
            f"{int(missing.sum())} predictions name an image that cannot be read, so they have no norm ratio "
            f"(rejects: {scored.rejects}); mend the images, or leave their predictions out"
        )
    return query_over_reference(query, reference)


def _detector(config: BenchmarkConfig, workspace: Workspace, dataset: Dataset) -> Detector:
    if config.checkpoint is not None:
        return of_checkpoint(config.checkpoint, (dataset.queries, dataset.references), config.device)
    assert config.model is not None
    fit_on = None if dataset.training is None else (dataset.training, dataset.resolve)
    return of_model(workspace, config.model, fit_on, config.batch_size, config.device)


def _embed(
    detector: Detector, config: BenchmarkConfig, workspace: Workspace, dataset: Dataset
) -> tuple[Features, Features]:
    sides = [
        features_of(workspace, detector, table, dataset.resolve, config.batch_size)
        for table in (dataset.queries, dataset.references)
    ]
    return sides[0], sides[1]


def _search(detector: Detector, sides: tuple[Features, Features], dataset: Dataset, k: int | None) -> Scored:
    queries, references = sides
    query_ids, reference_ids = dataset.query_ids, dataset.reference_ids
    found = match(
        [query_ids[i] for i in queries.places], queries.vectors,
        [reference_ids[i] for i in references.places], references.vectors, k=k,
    )  # fmt: skip
    predictions = Predictions(
        queries.places[found.query], references.places[found.reference], found.scores, found.protocol
    )
    return Scored(predictions, detector.about, _norms(sides, dataset), detector.weights, _rejects(sides))


def _norms(sides: tuple[Features, Features], dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    norms = np.full(len(dataset.queries), np.nan), np.full(len(dataset.references), np.nan)
    for side, all_norms in zip(sides, norms, strict=True):
        all_norms[side.places] = side.norms
    return norms


def _rejects(sides: tuple[Features, Features]) -> Rejects:
    return {name: side.rejects for name, side in zip(("queries", "references"), sides, strict=True)}
