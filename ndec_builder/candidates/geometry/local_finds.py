"""Pairs that share local features: what the search by descriptors of complete pictures may have lost."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from ndec_builder.candidates.geometry.local_codes import CODED_IMAGES, LocatedImage, index_of, query_variants
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.pairs import Pairs, no_pairs, score_pairs
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.console import track
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.fingerprints import DECODE_VERSION
from ndec_builder.core.workspace import Workspace

_NEIGHBOURS = 5  # references of a query that are considered


def local_finds(
    workspace: Workspace,
    config: MineConfig,
    sides: tuple[RoleVectors, RoleVectors],
    known: Collection[tuple[str, str]],
    engine: Engine,
) -> Pairs:
    """The pairs with the most votes of local features that are not among `known` (query id, reference id).

    At most `config.top`, and of a query at most `config.max_per_query` (0: _NEIGHBOURS); ties by query, then reference.
    Scores are those of the descriptor. Images without keypoints have no pair.
    """
    pool, gallery = sides
    index = index_of(workspace, _located(workspace, gallery), engine)
    seen: dict[str, set[str]] = {}
    for query, reference in known:
        seen.setdefault(query, set()).add(reference)
    most = min(config.max_per_query or _NEIGHBOURS, _NEIGHBOURS)
    batches = query_variants(workspace, _located(workspace, pool), engine)
    found: list[tuple[float, int, int]] = []
    row = 0
    for batch in track(batches, -(-len(pool) // CODED_IMAGES), "searching local features"):
        names = pool.names(np.arange(row, row + len(batch)))
        for name, (references, votes) in zip(names, index.ranked(batch, _NEIGHBOURS), strict=True):
            ids = gallery.names(references)
            fresh = [place for place, other in enumerate(ids) if other not in seen.get(name, ())][:most]
            found += [(-float(votes[place]), row, int(references[place])) for place in fresh]
            row += 1
        found = sorted(found)[: config.top]
    if not found:
        return no_pairs()
    queries, references = (np.array(column, np.int64) for column in zip(*(pair[1:] for pair in found), strict=True))
    used, places = np.unique(queries, return_inverse=True)
    return Pairs(
        queries, references, score_pairs(pool.vectors.take(used)[:], gallery.vectors.load(), places, references)
    )


def _located(workspace: Workspace, side: RoleVectors) -> list[LocatedImage]:
    ids: list[str] = pa.array(side.ids).to_pylist()
    rows = side.rows(ids)
    return [
        (
            f"{rows[name]['sha256'] or rows[name]['uri']} decoding {DECODE_VERSION}",
            workspace.resolve(rows[name]["uri"]),
            rows[name].get("rotation") or 0,
            rows[name]["sha256"],
        )
        for name in ids
    ]
