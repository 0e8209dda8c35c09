"""From a dataset and a source of predictions to the scored list and the norms that the filter compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.search.score_normalization import Normalization
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.base import engine_of
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.detectors.descriptors import read_descriptor_files
from ndec_builder.evaluation.detectors.features import (
    Embedder,
    Features,
    embed_images,
    embedder_from_checkpoint,
    embedder_from_model,
    join_ensemble,
)
from ndec_builder.evaluation.detectors.score_direction import direction_problem
from ndec_builder.evaluation.detectors.search import Background, cluster_of, search_pairs
from ndec_builder.evaluation.predictions import Predictions, read_predictions
from ndec_builder.evaluation.settings import BenchmarkConfig

if TYPE_CHECKING:
    from ndec_builder.evaluation.decision import ShippedThresholds
    from ndec_builder.training.fused.model import FusedModel

Rejects = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Scored:
    """A list of predictions and how it was made.

    norms: (queries (nq,), references (nr,)) float64, NaN for an unusable image; None if no network was used
    · weights: name → sha256 · rejects: side → image_id → reason.
    """

    predictions: Predictions
    about: str
    norms: tuple[np.ndarray, np.ndarray] | None = None
    weights: dict[str, str] = field(default_factory=dict)
    rejects: Rejects = field(default_factory=dict)
    threshold: float | None = None  # of the filter, chosen on training data by the detectors behind the norms
    probabilities: bool = False  # whether a score above 0 is the probability of a copy
    shipped: ShippedThresholds | None = None  # for decisions, from the card of the fused scorer
    note: str = ""  # what is suspicious about a given list


def score(config: BenchmarkConfig, workspace: Workspace, dataset: Dataset) -> Scored:
    """Read or search the predictions. Norms come from the independent ASL checkpoint if one is given.

    Raises NdecError if a checkpoint was trained on images of the dataset or no image of a side can be used; UsageError
    if the filter would compare norms that were not trained.
    """
    if config.scorer == "asl":
        _refuse_untrained_norms(config)
    fused = _fused_model(config, dataset) if config.scorer == "fused" else None
    if config.predictions is not None:
        given = read_predictions(config.predictions, dataset.query_ids, dataset.reference_ids)
        about = f"predictions {config.predictions.name}"
        if config.probabilities:
            _refuse_other_scores(config.predictions, given)
        if note := direction_problem(dataset, given) or "":
            note = f"{config.predictions.name}: {note}"
            say(note)
        scored = Scored(_without_dropped(given, dataset), about, probabilities=config.probabilities, note=note)
    elif config.descriptors:
        scored = _score_descriptor_files(config, workspace, dataset)
    else:
        scored = _score_by_search(_detectors(config, workspace, dataset), config, workspace, dataset)
    common = config, workspace, dataset
    if fused is not None:
        return _rescored(fused, *common, scored)
    return scored if config.asl_checkpoint is None else with_norms_of(config.asl_checkpoint, scored, *common)


def with_norms_of(
    checkpoint: Path, scored: Scored, config: BenchmarkConfig, workspace: Workspace, dataset: Dataset
) -> Scored:
    """The same list with norms of an independently trained ASL network, as in Table 1 of the paper."""
    asl = embedder_from_checkpoint(checkpoint, (dataset.queries, dataset.references), config.device)
    sides = _embed([asl], replace(config, test_size=()), workspace, dataset)
    weights = scored.weights | {f"asl {name}": value for name, value in asl.weights.items()}
    about = f"{scored.about}; norms of {asl.about}"
    rejects = _joined(scored.rejects, _rejects(sides))
    return replace(
        scored, about=about, norms=_norms(sides, dataset), weights=weights, rejects=rejects, threshold=asl.threshold
    )


def descriptors(
    config: BenchmarkConfig, workspace: Workspace, dataset: Dataset
) -> tuple[Features, Features, dict[str, str]]:
    """Vectors of queries and references by the configured detector, and its weights as `Scored` has them.

    Features of the trunk come from the cache.
    """
    detectors = _detectors(config, workspace, dataset)
    return *_embed(detectors, config, workspace, dataset), _weights(detectors)


def reference_vectors(
    config: BenchmarkConfig, workspace: Workspace, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray] | None:
    """Places and vectors of the references by the configured detector; None for predictions."""
    if config.descriptors:
        found = read_descriptor_files(config.descriptors, dataset.query_ids, dataset.reference_ids)
        return found.places[1], found.vectors[1]
    if not config.models and not config.checkpoints:
        return None
    references = descriptors(config, workspace, dataset)[1]
    return references.places, references.vectors


def _without_dropped(found: Predictions, dataset: Dataset) -> Predictions:
    if dataset.dropped is None:
        return found
    kept = ~dataset.dropped[found.reference]
    return replace(found, query=found.query[kept], reference=found.reference[kept], scores=found.scores[kept])


def _refuse_untrained_norms(config: BenchmarkConfig) -> None:
    from ndec_builder.training.checkpoint import read_card
    from ndec_builder.training.recipes import TRAINING_RECIPES

    for path in [config.asl_checkpoint] if config.asl_checkpoint else config.checkpoints:
        recipe = read_card(path)["recipe"]
        if recipe in TRAINING_RECIPES and not TRAINING_RECIPES[recipe].trains_norms:
            known = ", ".join(name for name, rules in TRAINING_RECIPES.items() if rules.trains_norms)
            raise UsageError(
                f"the norms of {path} were not trained (recipe {recipe}), so --scorer asl cannot compare "
                f"them; give a run of one of the recipes {known}, or omit --scorer"
            )


def _fused_model(config: BenchmarkConfig, dataset: Dataset) -> FusedModel:
    """The fused scorer. Raises NdecError if it was fitted on images of the dataset."""
    from ndec_builder.training.fused.model import DEFAULT_FIT, load_model

    model = load_model(config.fused_model or DEFAULT_FIT)
    for table, what in ((dataset.queries, "queries"), (dataset.references, "references")):
        sums, groups, ids = (
            {value for value in table[name].to_pylist() if value} for name in ("sha256", "group", "image_id")
        )
        model.refuse_overlap(sums, groups, what, ids)
    return model


def _rescored(
    model: FusedModel, config: BenchmarkConfig, workspace: Workspace, dataset: Dataset, scored: Scored
) -> Scored:
    """The same list with the best pairs of each query re-scored by the fused scorer."""
    from ndec_builder.evaluation.detectors.fused_rescoring import own_sides, rescore, shipped_thresholds

    common, engine = (workspace, dataset, model), engine_of(config)
    sides = own_sides(*common, config.batch_size, config.device, config.models, engine)
    found = rescore(
        workspace, dataset, scored.predictions, model, sides, config.rescored, engine, config.competition,
        within=config.rescored_within, shortlist=config.shortlist, local_top=config.rescored_local,
    )  # fmt: skip
    fit = "that comes with ndec" if config.fused_model is None else config.fused_model.name
    about = f"{scored.about}; fused scorer {fit}"
    weights = scored.weights | {"fused": model.fingerprint}
    return replace(
        scored, predictions=found, about=about, weights=weights, rejects=_joined(scored.rejects, _rejects(sides)),
        probabilities=True, shipped=shipped_thresholds(model, config),
    )  # fmt: skip


def _refuse_other_scores(path: Path, given: Predictions) -> None:
    outside = (given.scores < 0) | (given.scores > 1)
    if outside.any():
        raise NdecError(
            f"--probabilities: {int(outside.sum()):,} of {len(given):,} scores of {path} are outside 0 … 1, first "
            f"{given.scores[outside][0]:g}; a probability of a copy is between 0 and 1. Omit --probabilities for scores"
        )


def _joint_threshold(detectors: Sequence[Embedder]) -> float | None:
    """For an ensemble: the geometric mean, because its norm ratio is a geometric mean too."""
    known = [detector.threshold for detector in detectors if detector.threshold is not None]
    return float(np.exp(np.mean(np.log(known)))) if len(known) == len(detectors) else None


def _detectors(config: BenchmarkConfig, workspace: Workspace, dataset: Dataset) -> list[Embedder]:
    tables = dataset.queries, dataset.references
    fit_on = None if dataset.training is None else (dataset.training, dataset.resolve)
    how = fit_on, config.batch_size, config.device, engine_of(config)
    return [embedder_from_checkpoint(path, tables, config.device) for path in config.checkpoints] + [
        embedder_from_model(workspace, name, *how) for name in config.models
    ]


def _embed(
    detectors: Sequence[Embedder], config: BenchmarkConfig, workspace: Workspace, dataset: Dataset
) -> tuple[Features, Features]:
    common = detectors, config, workspace, dataset
    return _embed_table(*common, dataset.queries), _embed_table(*common, dataset.references)


def _embed_table(
    detectors: Sequence[Embedder], config: BenchmarkConfig, workspace: Workspace, dataset: Dataset, table: pa.Table
) -> Features:
    common = table, dataset.resolve, config.batch_size, config.test_size, engine_of(config)
    return join_ensemble([embed_images(workspace, detector, *common) for detector in detectors])


def _score_by_search(
    detectors: Sequence[Embedder], config: BenchmarkConfig, workspace: Workspace, dataset: Dataset
) -> Scored:
    sides = _embed(detectors, config, workspace, dataset)
    background = None
    if config.norm_factor:
        if dataset.training is None or not len(dataset.training):
            raise UsageError(
                "score normalisation needs background images without matches: the training images of a manifest. Plain "
                "folders have none; omit --norm-factor"
            )
        background = _embed_table(detectors, config, workspace, dataset, dataset.training).vectors
    places, vectors = (sides[0].places, sides[1].places), (sides[0].vectors, sides[1].vectors)
    predictions = _match(config, dataset, places, vectors, background)
    about = " + ".join(detector.about for detector in detectors)
    if config.test_size:
        about += f", at {' and '.join(map(str, config.test_size))} px"
    own_size = all({*config.test_size} <= {detector.backbone.size} for detector in detectors)
    norms, threshold = _norms(sides, dataset), _joint_threshold(detectors) if own_size else None
    return Scored(predictions, about, norms, _weights(detectors), _rejects(sides), threshold)


def _weights(detectors: Sequence[Embedder]) -> dict[str, str]:
    return {
        name if len(detectors) == 1 else f"{number} {name}": value
        for number, detector in enumerate(detectors, start=1)
        for name, value in detector.weights.items()
    }


def _score_descriptor_files(config: BenchmarkConfig, workspace: Workspace, dataset: Dataset) -> Scored:
    """Descriptors from files; the background for score normalisation comes from them too."""
    found = read_descriptor_files(config.descriptors, dataset.query_ids, dataset.reference_ids)
    if config.norm_factor and found.background is None:
        raise UsageError(
            "score normalisation of descriptors needs a background: give one more HDF5 file with --descriptors, of "
            "training images"
        )
    origin = found.origin_note(dataset.queries, dataset.references)
    predictions = _match(config, dataset, found.places, found.vectors, found.background)
    about = f"descriptors {', '.join(path.name for path in config.descriptors)}"
    for note in filter(None, (origin, found.rounding_note, found.note)):
        say(f"{about}: {note}")
    about += f" ({found.note})" if found.note else ""
    return Scored(predictions, about, None, found.weights, found.rejects)


def _match(
    config: BenchmarkConfig,
    dataset: Dataset,
    places: tuple[np.ndarray, np.ndarray],
    vectors: tuple[np.ndarray, np.ndarray],
    background: np.ndarray | None,
) -> Predictions:
    if dataset.dropped is not None:  # before the search, so that each query still gets its k references
        kept = ~dataset.dropped[places[1]]
        places, vectors = (places[0], places[1][kept]), (vectors[0], vectors[1][kept])
    normalised = None
    if config.norm_factor and background is not None:
        normalised = Background(background, Normalization(config.norm_factor, config.norm_n, config.norm_kind))
    found = search_pairs(
        [dataset.query_ids[i] for i in places[0]], vectors[0],
        [dataset.reference_ids[i] for i in places[1]], vectors[1], k=config.k, background=normalised,
        cluster=cluster_of(config),
    )  # fmt: skip
    return Predictions(places[0][found.query], places[1][found.reference], found.scores, found.protocol)


def _norms(sides: tuple[Features, Features], dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    norms = np.full(len(dataset.queries), np.nan), np.full(len(dataset.references), np.nan)
    for side, all_norms in zip(sides, norms, strict=True):
        all_norms[side.places] = side.norms
    return norms


def _rejects(sides: tuple[Features, Features]) -> Rejects:
    return {name: side.rejects for name, side in zip(("queries", "references"), sides, strict=True)}


def _joined(first: Rejects, second: Rejects) -> Rejects:
    """The rejects of two detectors; the reason of the first stays where both could not use an image."""
    return {side: second.get(side, {}) | first.get(side, {}) for side in ("queries", "references")}
