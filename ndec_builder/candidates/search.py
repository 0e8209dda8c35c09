"""Exact search of pairs: FAISS finds, a per-pair dot of the stored float16 vectors decides.

FAISS adds in float32 and in an order of its own, so its scores depend on block size and thread count. They only
generate candidates here. The score of a pair is the float64 dot of the stored vectors, rounded to float32. For
normalised float16 vectors that dot is free of rounding errors: every product is a multiple of 2**-48 and every partial
sum stays below 32, which 53 bits hold. Hence equal bytes for any block size, thread count or order of addition.

What a search of depth k leaves out of a query's list scores at most b = (FAISS's k-th score + margin), where margin
bounds FAISS's rounding error. A query's list is cut at b, so that every pair in it comes before every pair left out;
queries for which that is not deep enough are searched again, four times as deep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ndec_builder.candidates.caps import id_ranks, total_order, walk
from ndec_builder.core.errors import NdecError

FIRST_DEPTH = 8
GATHER_ELEMENTS = 1 << 22  # float64 values gathered at a time when pairs are scored: 32 MB


@dataclass(frozen=True)
class Pairs:
    """Pairs as rows of the query and reference matrices, with exact scores; all (n,)."""

    queries: np.ndarray  # int64
    references: np.ndarray  # int64
    scores: np.ndarray  # float32

    def take(self, positions: np.ndarray) -> Pairs:
        return Pairs(self.queries[positions], self.references[positions], self.scores[positions])

    def __len__(self) -> int:
        return len(self.scores)


def check_vectors(queries: np.ndarray, references: np.ndarray, what: tuple[str, str] = ("query", "reference")) -> None:
    """Raise NdecError for an empty side, other than two dimensions, unequal widths, or NaN and infinity."""
    for name, vectors in zip(what, (queries, references), strict=True):
        if vectors.ndim != 2 or not len(vectors):
            raise NdecError(f"there are no {name} vectors to search (shape {vectors.shape}); ingest and embed some")
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise NdecError(f"row {row} of the {name} vectors holds NaN or infinity; embed that role again")
    if queries.shape[1] != references.shape[1]:
        raise NdecError(
            f"expected {references.shape[1]}-d vectors as in the {what[1]} embeddings, got {queries.shape[1]}-d in the "
            f"{what[0]} embeddings; embed both with the same --model"
        )


def score_pairs(queries: np.ndarray, references: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Score pairs (rows[i], columns[i]) of float16 matrices (n, d), (m, d); return (pairs,) float32."""
    scores = np.empty(len(rows), dtype=np.float32)
    step = max(1, GATHER_ELEMENTS // queries.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        left, right = queries[rows[part]].astype(np.float64), references[columns[part]].astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", left, right)
    return scores + np.float32(0)  # -0.0 becomes 0.0: equal scores are equal bytes


class ExactSearch:
    """References (m, d) float16 held in memory as float32; queries (n, d) float16 streamed past them in blocks."""

    def __init__(self, queries: np.ndarray, references: np.ndarray, block: int = 16384) -> None:
        import faiss

        check_vectors(queries, references)
        self.queries, self.references, self.block = queries, references, max(1, block)
        self.index = faiss.IndexFlatIP(references.shape[1])
        for start in range(0, len(references), 65536):
            self.index.add(references[start : start + 65536].astype(np.float32))
        # |float32 dot − dot| ≤ d·2**-24·‖q‖‖r‖ for any order of addition (Higham 2002, eq. 3.5); twice that for safety
        self.margin = 2 * references.shape[1] * 2.0**-24 * _max_norm(queries) * _max_norm(references)

    def deepen(self, enough: Callable[[Pairs, np.ndarray], np.ndarray], depth: int = FIRST_DEPTH) -> Pairs:
        """Search all queries, then those that are not `enough(pairs, bounds) -> (n,) bool` again and deeper.

        `bounds` (n,) float64: no pair of the query that is not among the pairs scores more; −inf when all are there.
        """
        rows: np.ndarray = np.arange(len(self.queries))
        depth = min(depth, len(self.references))
        pairs = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        bounds = np.full(len(self.queries), np.inf)
        while len(rows):
            searched = np.zeros(len(self.queries), dtype=bool)
            searched[rows] = True
            found, bounds[rows] = self._search(rows, depth)
            pairs = _join([pairs.take(np.flatnonzero(~searched[pairs.queries])), found])
            rows = np.flatnonzero(~enough(pairs, bounds) & np.isfinite(bounds))
            depth = min(4 * depth, len(self.references))
        return pairs

    def _search(self, rows: np.ndarray, depth: int) -> tuple[Pairs, np.ndarray]:
        """Return the provable prefix of each row's list, and the bound on what is left out of it."""
        parts, bounds = [], np.full(len(rows), -np.inf)
        for start in range(0, len(rows), self.block):
            some = rows[start : start + self.block]
            rough, columns = self.index.search(self.queries[some].astype(np.float32), depth)
            if depth < len(self.references):
                # one float32 step up, since the exact score is rounded to float32 too
                above = (rough[:, -1].astype(np.float64) + self.margin).astype(np.float32)
                bounds[start : start + len(some)] = np.nextafter(above, np.float32(np.inf))
            left, right = np.repeat(some, depth), columns.ravel().astype(np.int64)
            scores = score_pairs(self.queries, self.references, left, right)
            keep = np.flatnonzero(scores > np.repeat(bounds[start : start + len(some)], depth))
            parts.append(Pairs(left, right, scores).take(keep))
        return _join(parts), bounds


def top_pairs(
    query_ids: Sequence[str],
    queries: np.ndarray,
    reference_ids: Sequence[str],
    references: np.ndarray,
    *,
    top: int,
    max_per_query: int = 1,
    max_per_reference: int = 10,
    block: int = 16384,
) -> Pairs:
    """Return the global top pairs in the order (score desc, query_id, reference_id), caps kept.

    Exactly the pairs of a greedy walk along all n × m pairs that skips a pair whose query or reference is at its cap
    (0: no cap) and stops at `top`; fewer where no more exist. Vectors are float16 (n, d), (m, d). Raises NdecError for
    bad vectors (`check_vectors`).
    """
    search = ExactSearch(queries, references, block)
    query_ranks, reference_ranks = id_ranks(query_ids), id_ranks(reference_ids)
    best = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

    def enough(pairs: Pairs, bounds: np.ndarray) -> np.ndarray:
        nonlocal best
        order = total_order(pairs.scores, query_ranks[pairs.queries], reference_ranks[pairs.references])
        walked = walk(
            pairs.queries,
            pairs.references,
            order,
            (len(queries), len(references)),
            top=top,
            max_per_query=max_per_query,
            max_per_reference=max_per_reference,
        )
        best = pairs.take(walked.chosen)
        complete = len(best) == top or walked.exhausted
        cut = float(best.scores[-1]) if complete and len(best) else -np.inf
        return walked.query_full | (bounds < cut)  # a pair left out that ties with the cut could still come before it

    search.deepen(enough, min(max(FIRST_DEPTH, 2 * max_per_query), len(references)))
    return best


def pairs_above(queries: np.ndarray, references: np.ndarray, cut: float, block: int = 16384) -> Pairs:
    """Return every pair with score ≥ cut, in no particular order."""
    found = ExactSearch(queries, references, block).deepen(lambda pairs, bounds: bounds < cut)
    return found.take(np.flatnonzero(found.scores >= np.float32(cut)))


def best_scores(queries: np.ndarray, references: np.ndarray, count: int, block: int = 16384) -> np.ndarray:
    """Return (n, min(count, m)) float32: each query's best scores against the references, descending."""
    count = min(count, len(references))

    def enough(pairs: Pairs, bounds: np.ndarray) -> np.ndarray:
        return np.bincount(pairs.queries, minlength=len(queries)) >= count

    pairs = ExactSearch(queries, references, block).deepen(enough, max(FIRST_DEPTH, 2 * count))
    order = np.lexsort((-pairs.scores, pairs.queries))
    first = np.searchsorted(pairs.queries[order], np.arange(len(queries)))
    return pairs.scores[order][first[:, None] + np.arange(count)]


def _max_norm(vectors: np.ndarray) -> float:
    step = max(1, GATHER_ELEMENTS // vectors.shape[1])
    parts = (vectors[start : start + step].astype(np.float64) for start in range(0, len(vectors), step))
    return float(np.sqrt(max(np.einsum("ij,ij->i", part, part).max() for part in parts)))


def _join(parts: list[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([part.queries for part in parts]),
        np.concatenate([part.references for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )
