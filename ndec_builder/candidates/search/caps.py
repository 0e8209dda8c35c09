"""The total order of pairs, and the greedy walk along it that keeps at most N pairs and obeys the caps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GreedyWalk:
    """The pairs that a greedy walk kept, in the total order, and the queries that are at their cap."""

    chosen: np.ndarray  # (≤ top,) int64
    query_full: np.ndarray  # (queries,) bool
    exhausted: bool  # every reference is at its cap: no further pair can be taken


def id_ranks(ids: Sequence[str] | range) -> np.ndarray:
    """Return (n,) int64: the position of every id among the sorted ids (by code point, as in the result tables).

    A range means that rows are already in the order of their ids, which need not be in memory then.
    """
    if isinstance(ids, range):
        return np.asarray(ids, dtype=np.int64)
    if all(first < second for first, second in itertools.pairwise(ids)):  # already sorted, as stored ids are
        return np.arange(len(ids))
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)] = np.arange(len(ids))
    return ranks


def total_order(scores: np.ndarray, query_ranks: np.ndarray, reference_ranks: np.ndarray) -> np.ndarray:
    """Return the positions (n,) int64 sorted by (score desc, query id, reference id); ids are given as ranks."""
    return np.lexsort((reference_ranks, query_ranks, -scores))


def greedy_walk(
    queries: np.ndarray,
    references: np.ndarray,
    order: np.ndarray,
    sizes: tuple[int, int],
    *,
    top: int,
    max_per_query: int,
    max_per_reference: int,
) -> GreedyWalk:
    """Walk pairs (queries[i], references[i]) along `order`; skip a pair whose query or reference is at its cap.

    `sizes` = (number of queries, number of references). A cap of 0 is no cap. The result equals the greedy walk over
    *all* pairs if the given pairs are a prefix of all pairs for every query that is not full at the end.
    """
    query_cap = max_per_query or sizes[1]
    reference_cap = max_per_reference or sizes[0]
    query_count: dict[int, int] = {}  # dicts, not arrays: few of millions of queries occur
    reference_count: dict[int, int] = {}
    chosen: list[int] = []
    limit = min(top, sizes[1] * reference_cap)
    ordered = zip(order.tolist(), queries[order].tolist(), references[order].tolist(), strict=True)
    for position, query, reference in ordered:
        if len(chosen) == limit:
            break
        taken, given = query_count.get(query, 0), reference_count.get(reference, 0)
        if taken < query_cap and given < reference_cap:
            query_count[query], reference_count[reference] = taken + 1, given + 1
            chosen.append(position)
    full = np.bincount(queries[chosen], minlength=sizes[0]) >= query_cap
    return GreedyWalk(np.array(chosen, dtype=np.int64), full, len(chosen) == sizes[1] * reference_cap)
