"""A second shortlist for the fused scorer: references that share local features with a query.

Descriptors of complete pictures lose copies that are a small part of the query, or on a busy background. The codes of
an image's keypoints are computed once per workspace (`cache/local/`).
"""

from __future__ import annotations

import numpy as np

from ndec_builder.candidates.geometry.local_codes import CODED_IMAGES, index_of, query_variants
from ndec_builder.core.console import track
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.workspace import Workspace
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.detectors.pair_geometry import images_of
from ndec_builder.evaluation.predictions import Predictions


def local_pairs(workspace: Workspace, dataset: Dataset, top: int, engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Query and reference of the `top` references of each query by local features, sorted by query and rank.

    Queries without keypoints have no pair; references left out as twins are not searched.
    """
    kept = np.arange(len(dataset.references)) if dataset.dropped is None else np.flatnonzero(~dataset.dropped)
    references = images_of(dataset, dataset.references)
    index = index_of(workspace, [references[row] for row in kept], engine)
    queries = images_of(dataset, dataset.queries)
    batches = query_variants(workspace, queries, engine)
    count = -(-len(queries) // CODED_IMAGES)
    found = [rows for batch in track(batches, count, "searching local features") for rows in index.best(batch, top)]
    query = np.repeat(np.arange(len(found)), [len(rows) for rows in found])
    return query, kept[np.concatenate(found)]


def with_local_pairs(
    found: Predictions, query: np.ndarray, reference: np.ndarray, references: int
) -> tuple[Predictions, np.ndarray]:
    """The list with these pairs in it, and their positions, ascending.

    A pair that the search did not list is added at its end; its score is that of the last pair.
    """
    pairs, wanted = found.pairs(references), query * references + reference
    new = ~np.isin(wanted, pairs)
    longer = Predictions(
        np.concatenate([found.query, query[new]]), np.concatenate([found.reference, reference[new]]),
        np.concatenate([found.scores, np.full(int(new.sum()), found.scores.min(initial=0.0))]), found.protocol,
    )  # fmt: skip
    return longer, np.flatnonzero(np.isin(longer.pairs(references), wanted))
