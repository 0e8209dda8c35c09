"""From query and reference vectors to predictions: all pairs, or the exact best ones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ndec_builder.candidates.search.caps import id_ranks, total_order
from ndec_builder.candidates.search.exact import check_vectors, score_pairs, top_pairs
from ndec_builder.candidates.search.pairs import Pairs
from ndec_builder.candidates.search.ranges import RangedSearch, Shift
from ndec_builder.candidates.search.score_normalization import Normalization, normalized
from ndec_builder.candidates.search.selection import Caps
from ndec_builder.candidates.search.shared_vectors import SharedSearch, share_vectors
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import Engine, engine_of
from ndec_builder.core.locks import locked
from ndec_builder.core.storage import fingerprint, sha256_bytes
from ndec_builder.evaluation.metrics.ranked import MAX_PREDICTIONS
from ndec_builder.evaluation.predictions import Predictions
from ndec_builder.evaluation.settings import BenchmarkConfig

FEW_PAIRS = 4  # times the limit: up to here it is faster to score all pairs and sort them than to search
_PAIR_ARRAYS = ("query", "reference", "scores")


@dataclass(frozen=True)
class Background:
    """Score normalisation and its background: vectors (b, d) float16 of images without a match."""

    vectors: np.ndarray
    how: Normalization

    def offsets(self, queries: np.ndarray) -> np.ndarray:
        """Offset to subtract from each query's scores, (nq,) float64. Raises NdecError for too few images."""
        check_vectors(queries, self.vectors, ("query", "background"))
        if len(self.vectors) < self.how.neighbours:
            raise NdecError(
                f"score normalisation needs each query's {self.how.neighbours} best background scores, but the "
                f"background has {len(self.vectors)} images; lower --norm-n or give a larger background"
            )
        return self.how.offsets(queries, self.vectors)

    def __str__(self) -> str:
        n = self.how.neighbours
        what = f"mean of its {n} best" if self.how.mode == "mean" else f"{n}-th best"
        return f"cosine − {self.how.factor:g} × the query's {what} among {len(self.vectors):,} background images"


@dataclass(frozen=True)
class Cluster:
    """The engine that searches in ranges, and a folder for work files that all its nodes see."""

    engine: Engine
    scratch: Path

    def top_pairs(
        self, queries: np.ndarray, references: np.ndarray, caps: Caps, background: Background | None
    ) -> Pairs:
        """`exact.top_pairs` of rows in ascending id order, in ranges."""
        sides = {"queries": queries, "references": references}
        if background is not None:
            sides["background"] = background.vectors
        mark = fingerprint([vars(caps), str(background), [sha256_bytes(side.tobytes()) for side in sides.values()]])
        folder = self.scratch.absolute() / mark[:16]
        with locked(folder, wait=True):  # a second benchmark of the same vectors has the same folder
            files = {name: share_vectors(vectors, folder, name) for name, vectors in sides.items()}
            shift = None if background is None else Shift(background.how, files["background"])
            shared = SharedSearch(files["queries"], files["references"])
            found = RangedSearch(shared, caps, replace(self.engine, threads=0, workers=0), folder, mark, shift).run()
            shutil.rmtree(folder)
        return found


def cluster_of(config: BenchmarkConfig) -> Cluster | None:
    """The cluster of the settings; None for the local engine."""
    return Cluster(engine_of(config), config.workspace / "cache" / "search") if config.engine == "ray" else None


def search_pairs(
    query_ids: Sequence[str],
    queries: np.ndarray,
    reference_ids: Sequence[str],
    references: np.ndarray,
    *,
    k: int | None = None,
    background: Background | None = None,
    limit: int = MAX_PREDICTIONS,
    cluster: Cluster | None = None,
) -> Predictions:
    """Search every query in all references, with the scores and the order of `ndec mine`.

    queries (n, d), references (m, d): float16, L2-normalized, rows in ascending id order. Returns all pairs if there
    are at most `limit`, otherwise the exact global top `limit`; with `k`, the k best references of each query and of
    these the global top `limit`. Such a search runs on the `cluster` if there is one, with the same result. Scores are
    normalized by the background first. Order: score desc, query_id, reference_id. Raises NdecError for empty sides,
    different numbers of dimensions, or NaN.
    """
    check_vectors(queries, references)
    offsets = np.zeros(len(queries)) if background is None else background.offsets(queries)
    how = "raw cosine" if background is None else str(background)
    sizes = f"{len(queries):,} queries × {len(references):,} references"
    count = len(queries) * len(references)
    if (k is None or k >= len(references)) and count <= limit:
        return _all_pairs(queries, references, offsets, f"all pairs of {sizes}, {how}")
    if k is None and count <= FEW_PAIRS * limit and cluster is None:
        everything = _all_pairs(queries, references, offsets, f"global top {limit:,} of {sizes}, exact search, {how}")
        ranks = id_ranks(query_ids)[everything.query], id_ranks(reference_ids)[everything.reference]
        first = total_order(everything.scores, *ranks)[:limit]
        return replace(everything, **{name: getattr(everything, name)[first] for name in _PAIR_ARRAYS})
    if cluster is not None:
        found = cluster.top_pairs(queries, references, Caps(limit, k or 0), background)
    else:
        found = top_pairs(
            query_ids, queries, reference_ids, references, top=limit, max_per_query=k or 0, max_per_reference=0,
            offsets=offsets,
        )  # fmt: skip
    what = f"global top {limit:,}" if k is None else f"top {k} per query (global top {limit:,} of these)"
    return Predictions(
        found.queries, found.references, found.scores.astype(np.float64), f"{what} of {sizes}, exact search, {how}"
    )


def _all_pairs(queries: np.ndarray, references: np.ndarray, offsets: np.ndarray, about: str) -> Predictions:
    """All pairs, query by query."""
    rows, columns = np.divmod(np.arange(len(queries) * len(references), dtype=np.int64), len(references))
    scores = normalized(score_pairs(queries, references, rows, columns), offsets[rows])
    return Predictions(rows, columns, scores.astype(np.float64), about)
