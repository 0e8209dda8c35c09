"""The search that `ndec mine` asks for: exact or approximate, ranked by raw or by normalised scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndec_builder.candidates.candidate_table import Extras
from ndec_builder.candidates.role_vectors import Side
from ndec_builder.candidates.search.checkpoint import Checkpoint
from ndec_builder.candidates.search.exact import top_pairs
from ndec_builder.candidates.search.faiss_ivf import IvfOptions
from ndec_builder.candidates.search.first_pass import choose
from ndec_builder.candidates.search.pairs import Pairs, score_pairs
from ndec_builder.candidates.search.recall import Recall, measure_recall
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import NdecError


@dataclass(frozen=True)
class Found:
    """The top pairs with raw scores, in rank order; recall of an approximate search, None for an exact one."""

    pairs: Pairs
    recall: Recall | None


def find_pairs(config: MineConfig, pool: Side, gallery: Side, extras: Extras, scratch: Path, fingerprint: str) -> Found:
    """Search the pool among the gallery, which is read into memory; the pool is streamed.

    How far it is stands in files under `scratch`, which are for this `fingerprint` only; they are removed by the caller
    when its result is written.
    """
    if pool.vectors.dim != gallery.vectors.dim:
        raise NdecError(
            f"expected {gallery.vectors.dim}-d vectors as in the {gallery.role} embeddings, got {pool.vectors.dim}-d "
            f"in the pool embeddings; embed both with the same --model"
        )
    offsets = None
    if config.rank_by == "normalized" and extras.background is not None:
        kept = Checkpoint(scratch / "background.npz", fingerprint)
        if (state := kept.load()) is not None:
            offsets = state["offsets"]
        else:
            offsets = extras.normalization.offsets(pool.vectors, extras.background.vectors.load(), config.search)
            kept.save(offsets=offsets)
    references = gallery.vectors.load()
    engine = choose(
        config.search,
        pool.vectors.shape,
        references,
        IvfOptions(config.ivf_lists, config.ivf_probes, config.ivf_pq_bytes),
    )
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
    recall = None
    if config.search == "ivf":
        exact = choose("auto", pool.vectors.shape, references)
        cut = float(pairs.scores[-1]) if len(pairs) else float("inf")
        recall = measure_recall(pool.vectors, references, engine, exact, cut, offsets)
    if offsets is not None:
        pairs = Pairs(pairs.queries, pairs.references, _raw(pool, references, pairs, config.block))
    return Found(pairs, recall)


def _raw(pool: Side, references: np.ndarray, pairs: Pairs, block: int) -> np.ndarray:
    scores = np.empty(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), block):
        part = slice(start, start + block)
        vectors = pool.vectors[pairs.queries[part]]
        scores[part] = score_pairs(vectors, references, np.arange(len(vectors)), pairs.references[part])
    return scores
