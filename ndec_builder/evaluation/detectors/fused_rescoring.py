"""The fused scorer on a searched list: it re-scores the best pairs of each query; all others rank below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ndec_builder.core.console import number_of, say
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset, pictures_of, rotations_of
from ndec_builder.evaluation.decision import ShippedThresholds
from ndec_builder.evaluation.detectors.competition import compete
from ndec_builder.evaluation.detectors.features import Embedder, Features, embed_images
from ndec_builder.evaluation.detectors.local_shortlist import local_pairs, with_local_pairs
from ndec_builder.evaluation.detectors.pair_geometry import pair_signals
from ndec_builder.evaluation.metrics.norm_ratio_filter import query_over_reference
from ndec_builder.evaluation.metrics.ranked import MAX_PREDICTIONS
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import BenchmarkConfig
from ndec_builder.training.fused.features import PAIR_FEATURES, background_scores, features
from ndec_builder.training.fused.model import FusedModel

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone

WITHIN = 0.2  # of the query's best cosine: 1 of 266 copies is further below it, and 70 % of the other pairs are
ALL_COSINES = 2.0  # no two cosines are further apart
BELOW = 3.0  # subtracted from the cosines of all other pairs, so that every re-scored pair (0 … 1) ranks above them


def fused_embedder(model: FusedModel, backbone: Backbone) -> Embedder:
    """The descriptor that the model was fitted with; norms come from the model's heads if it has any."""
    norms = model.norms if model.heads else None
    return Embedder(
        backbone, backbone.fingerprint, model.whitening.apply, "fused", {"fused": model.fingerprint}, norms=norms
    )


def best_rows(predictions: Predictions, top: int) -> np.ndarray:
    """Positions in the list of the `top` best predictions of each query, sorted by (query, reference)."""
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
    engine: Engine,
    competition: bool = True,
    *,
    within: float = WITHIN,
    shortlist: str = "global",
    local_top: int = 5,
) -> Predictions:
    """The list with new scores: P(copy) for the shortlist of each query, below 0 for the other pairs (`with_scores`).

    sides: queries and references, embedded with the model's own descriptor · competition: see `probabilities` · within:
    see `measure_pairs` · shortlist: `global`, the `top` best pairs of the list; `local`, the `local_top` references by
    local features, which are added to the list where it lacks them; or `both`. Pairs with an image that cannot be read
    keep their place among the other pairs; they are counted in the protocol. Raises UsageError if no pair can be
    scored.
    """
    judged = [
        f"the {top} best of each query" + (f" within {within:g} of its best cosine" if within < ALL_COSINES else "")
    ]
    local = None
    if shortlist != "global":
        pairs = local_pairs(workspace, dataset, local_top, engine)
        predictions, local = with_local_pairs(predictions, *pairs, len(dataset.references))
        judged = [*(judged if shortlist == "both" else []), f"the {local_top} best of each query by local features"]
    top = 0 if shortlist == "local" else top
    chosen, rows = measure_pairs(workspace, dataset, predictions, model, sides, top, engine, within=within, also=local)
    read = np.isfinite(rows).all(axis=1)
    chosen, rows = _some(chosen[read], predictions), rows[read]
    found = probabilities(dataset, predictions, model, sides[1], chosen, rows, competition)
    how = ", references compete for a query" if competition else ", each pair on its own"
    protocol = (
        f"{predictions.protocol}; {' and '.join(judged)} re-scored by the fused scorer "
        f"({number_of(len(chosen), 'pair')}){how}"
    )
    if unread := int((~_readable(predictions, sides)).sum() + (~read).sum()):
        left_out = f"{number_of(unread, 'pair has', 'pairs have')} an image that cannot be read, so not re-scored"
        say(f"{left_out}: below all re-scored pairs")
        protocol += f"; {left_out}"
    return replace(with_scores(predictions, chosen, found).best(MAX_PREDICTIONS), protocol=protocol)


def probabilities(
    dataset: Dataset,
    predictions: Predictions,
    model: FusedModel,
    references: Features,
    chosen: np.ndarray,
    rows: np.ndarray,
    competition: bool = True,
) -> np.ndarray:
    """P(copy) of the measured pairs, (n,) float64.

    references: of `own_sides` · chosen, rows: of `measure_pairs` · competition: pairs of a query compete
    (`competition.py`); otherwise each is scored on its own.
    """
    if not competition:
        return model.probability(rows)
    query, reference = predictions.query[chosen], predictions.reference[chosen]
    vectors = _of_all(references.vectors.astype(np.float32), references, len(dataset.references), 0)
    verified, inside = (rows[:, PAIR_FEATURES.index(name)] for name in ("verified", "query_inside"))
    contents, turned = pictures_of(dataset.references, dataset.resolve), rotations_of(dataset.references)
    pictures = [f"{contents[r]} {turned[r]}" for r in reference.tolist()]
    share = np.where(verified > 0, inside.astype(np.float64), np.nan)
    return compete(query, model.logits(rows), share, vectors[reference], pictures)


def measure_pairs(
    workspace: Workspace,
    dataset: Dataset,
    predictions: Predictions,
    model: FusedModel,
    sides: tuple[Features, Features],
    top: int,
    engine: Engine,
    *,
    within: float = WITHIN,
    also: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the list of the `top` best pairs of each query, and their features (n, len(FEATURES)).

    Of these, only pairs whose cosine by the model's descriptor is at most `within` below the best of their query: the
    pictures of the others are not opened. also: positions that are measured whatever their cosine. Pairs with an image
    that has no descriptor are left out; a row has NaN if its image cannot be read any more. Raises UsageError if no
    pair is left.
    """
    readable = _readable(predictions, sides)
    chosen = best_rows(predictions, top)
    chosen = chosen[readable[chosen]]
    counts = len(dataset.queries), len(dataset.references)
    vectors = [_of_all(side.vectors.astype(np.float32), side, n, 0) for side, n in zip(sides, counts, strict=True)]

    def cosines(rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.einsum(
            "ij,ij->i", vectors[0][predictions.query[rows]], vectors[1][predictions.reference[rows]]
        )
        return found

    score = cosines(chosen)
    best = np.full(counts[0], -np.inf, score.dtype)
    np.maximum.at(best, predictions.query[chosen], score)
    chosen = chosen[score >= best[predictions.query[chosen]] - within]
    if also is not None:
        chosen = np.union1d(chosen, also[readable[also]])
        chosen = chosen[np.lexsort((predictions.reference[chosen], predictions.query[chosen]))]
    chosen = _some(chosen, predictions)
    query, reference, score = predictions.query[chosen], predictions.reference[chosen], cosines(chosen)
    signals = pair_signals(workspace, dataset, query, reference, engine)
    background = background_scores(vectors[0], model.background.astype(np.float32))[query]
    ratios = None
    if model.heads:
        norms = [_of_all(side.norms, side, n, 1) for side, n in zip(sides, counts, strict=True)]
        ratios = query_over_reference(norms[0][query], norms[1][reference])
    return chosen, features(score, background, signals, ratios)


def with_scores(predictions: Predictions, chosen: np.ndarray, probability: np.ndarray) -> Predictions:
    """The list with these probabilities at the positions `chosen`; all other pairs rank below, in their old order.

    Their scores are below 0: cosine − BELOW where all scores are within ±2, as cosines are. Scores on another scale
    become −1 − rank / number of pairs; equal ones stay equal.
    """
    given = predictions.scores
    if np.abs(given).max(initial=0.0) <= ALL_COSINES:
        scores = given - BELOW
    else:
        scores = -1.0 - np.unique(-given, return_inverse=True)[1] / len(given)
    scores[chosen] = probability
    return replace(predictions, scores=scores)


def _some(chosen: np.ndarray, predictions: Predictions) -> np.ndarray:
    """`chosen`; raises UsageError if it is empty."""
    if not len(chosen):
        why = "names only images that cannot be read" if len(predictions) else "is empty"
        raise UsageError(f"the list of predictions {why}, so the fused scorer has no pair to score")
    return chosen


def _readable(predictions: Predictions, sides: tuple[Features, Features]) -> np.ndarray:
    """(m,) bool: pairs whose two images could be read."""
    inside = (
        np.isin(rows, side.places) for rows, side in zip((predictions.query, predictions.reference), sides, strict=True)
    )
    both: np.ndarray = np.logical_and(*inside)
    return both


def shipped_thresholds(model: FusedModel, config: BenchmarkConfig) -> ShippedThresholds | None:
    """The decision thresholds in the model's card, refused for a list made in another way than theirs."""
    from ndec_builder.embeddings.model_names import parse_model

    found = model.card.get("decision")
    if found is None:
        return None
    stored, refused = model.card["backbone"], ""
    shortlist = found.get("shortlist", "global")  # cards written before there was another one
    alone = [parse_model(name).fingerprint() for name in config.models] == [stored["fingerprint"]]
    if not alone or config.checkpoints or config.test_size:
        refused = f"they were measured on the best pairs of {stored['name']} alone, and this list was made differently"
    elif (
        not config.competition
        or config.one_per_query
        or (config.shortlist, config.rescored) != (shortlist, found["rescored"])
    ):
        refused = (
            f"they were measured with competition, all pairs, --shortlist {shortlist} and --rescored "
            f"{found['rescored']}; this run differs"
        )
    elif config.k is not None and config.k < found["rescored"] and shortlist != "local":
        refused = (
            f"they were measured with the {found['rescored']} best pairs of each query, and --k {config.k} leaves "
            "fewer to compete"
        )
    elif config.rescored_within != (within := found.get("rescored_within", ALL_COSINES)):
        refused = f"they were measured with --rescored-within {within:g}; this run differs"
    return ShippedThresholds(found["thresholds"], found["measured_on"], refused)


def own_sides(
    workspace: Workspace,
    dataset: Dataset,
    model: FusedModel,
    batch_size: int,
    device: str,
    names: Sequence[str] = (),
    engine: Engine | None = None,
) -> tuple[Features, Features]:
    """Queries and references, embedded with the descriptor of the model (`fused_embedder`).

    names: models that may be the same descriptor, loaded from a file that has moved. Raises NdecError if the weights
    or the preprocessing of the descriptor changed since the fit.
    """
    from ndec_builder.embeddings.backbones import best_device, load_backbone
    from ndec_builder.embeddings.model_names import parse_model

    stored = model.card["backbone"]
    same = [name for name in names if parse_model(name).fingerprint() == stored["fingerprint"]]
    backbone = load_backbone(same[0] if same else stored["name"], best_device(device))
    if backbone.fingerprint != stored["fingerprint"]:
        raise NdecError(
            f"the fused scorer was fitted with {stored['name']} of fingerprint {stored['fingerprint'][:16]}…, and "
            f"here it is {backbone.fingerprint[:16]}…: its weights or preprocessing changed; fit the scorer again"
        )
    detector = fused_embedder(model, backbone)
    sides = [
        embed_images(workspace, detector, table, dataset.resolve, batch_size, engine=engine)
        for table in (dataset.queries, dataset.references)
    ]
    return sides[0], sides[1]


def _of_all(values: np.ndarray, side: Features, count: int, missing: float) -> np.ndarray:
    """One value per image, (count, …); `missing` for images that cannot be used (no prediction names them)."""
    found = np.full((count, *values.shape[1:]), missing, values.dtype)
    found[side.places] = values
    return found
