"""The search of `ndec mine`, ranked by raw or by normalised scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ndec_builder.candidates.candidate_table import CandidateContext
from ndec_builder.candidates.role_vectors import RoleVectors
from ndec_builder.candidates.search.checkpoint import Checkpoint
from ndec_builder.candidates.search.exact import top_pairs
from ndec_builder.candidates.search.first_pass import choose
from ndec_builder.candidates.search.pairs import Pairs, score_pairs
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import NdecError


def find_pairs(
    config: MineConfig,
    pool: RoleVectors,
    gallery: RoleVectors,
    context: CandidateContext,
    scratch: Path,
    fingerprint: str,
) -> Pairs:
    """Return the top pairs with raw scores, in rank order. The gallery is in memory, the pool is read in blocks.

    Progress is saved under `scratch` for this `fingerprint`; the caller removes it after writing the result.
    """
    if pool.vectors.dim != gallery.vectors.dim:
        raise NdecError(
            f"expected {gallery.vectors.dim}-d vectors as in the {gallery.role} embeddings, got {pool.vectors.dim}-d "
            f"in the pool embeddings; embed both with the same --model"
        )
    offsets = None
    if config.rank_by == "normalized" and context.background is not None:
        kept = Checkpoint(scratch / "background.npz", fingerprint)
        if (state := kept.load()) is not None:
            offsets = state["offsets"]
        else:
            offsets = context.normalization.offsets(pool.vectors, context.background.vectors.load(), config.search)
            kept.save(offsets=offsets)
    references = gallery.vectors.load()
    engine = choose(config.search, pool.vectors.shape, references)
    pairs = top_pairs(
        range(len(pool)),  # rows are in the order of the ids
        pool.vectors,
        range(len(gallery)),
        references,
        top=config.top,
        max_per_query=config.max_per_query,
        max_per_reference=config.max_per_reference,
        block=config.block,
        engine=engine,
        offsets=offsets,
        checkpoint=Checkpoint(scratch / "search.npz", fingerprint),
    )
    if offsets is not None:
        pairs = Pairs(pairs.queries, pairs.references, _raw(pool, references, pairs, config.block))
    return pairs


def _raw(pool: RoleVectors, references: np.ndarray, pairs: Pairs, block: int) -> np.ndarray:
    scores = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), block):
        part = slice(start, start + block)
        vectors = pool.vectors[pairs.queries[part]]
        scores[part] = score_pairs(vectors, references, np.arange(len(vectors)), pairs.references[part])
    return scores
