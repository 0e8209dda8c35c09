"""Collects the best pairs of a stream of queries, and derives floors: scores that further pairs must reach.

The greedy walk along the total order under caps is the stable matching in which queries and references rank their pairs
by that order. (Deferred acceptance finds the same: queries propose their pairs best first, a reference at its cap keeps
the best proposals.) Later proposals, from more queries or from further down the list of a query, can only improve the
pairs that a reference keeps. So once the walk over the pairs seen so far has taken N pairs, the final cut is at least
its last score, and a reference at its cap never takes a pair below its worst one. Both are floors: pairs below them are
dropped and need not be searched. Pairs equal to a floor stay, because ids decide between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ndec_builder.candidates.search.caps import GreedyWalk, greedy_walk, total_order
from ndec_builder.candidates.search.pairs import Pairs, join_pairs, no_pairs

SETTLE_AT = 1 << 17  # pairs held before the first walk, which takes less than a second


@dataclass(frozen=True)
class Caps:
    """At most `top` pairs in all, `max_per_query` and `max_per_reference` (0: no limit)."""

    top: int
    max_per_query: int = 0
    max_per_reference: int = 0


class PairSelection:
    """Collects scored pairs; `floors` (m,) float32 rise as pairs arrive."""

    def __init__(self, query_ranks: np.ndarray, reference_ranks: np.ndarray, caps: Caps) -> None:
        self.query_ranks, self.reference_ranks, self.caps = query_ranks, reference_ranks, caps
        self.floors = np.full(len(reference_ranks), -np.inf, dtype=np.float32)
        self.parts: list[Pairs] = []
        self.held = 0
        self.limit = max(SETTLE_AT, 4 * caps.top)
        self.best = no_pairs()

    def add(self, pairs: Pairs) -> None:
        self.parts.append(pairs)
        self.held += len(pairs)
        if self.held > self.limit:
            self.settle()

    def pairs(self) -> Pairs:
        """The pairs held."""
        return join_pairs([no_pairs(), *self.parts])

    def state(self) -> dict[str, np.ndarray]:
        """The arrays that `restore` needs."""
        pairs = self.pairs()
        return {
            "floors": self.floors,
            "pair_queries": pairs.queries,
            "pair_references": pairs.references,
            "pair_scores": pairs.scores,
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.floors = state["floors"]
        self._hold(Pairs(state["pair_queries"], state["pair_references"], state["pair_scores"]))

    def forget(self, queries: np.ndarray) -> None:
        """Drop the pairs of queries (row numbers) that will be searched again."""
        again = np.zeros(len(self.query_ranks), dtype=bool)
        again[queries] = True
        pairs = self.pairs()
        self._hold(pairs.take(np.flatnonzero(~again[pairs.queries])))

    def settle(self) -> GreedyWalk:
        """Walk along the pairs held, raise the floors, drop pairs below them; `best`: the pairs taken, in order."""
        pairs = self.pairs()
        order = total_order(pairs.scores, self.query_ranks[pairs.queries], self.reference_ranks[pairs.references])
        walked = greedy_walk(
            pairs.queries,
            pairs.references,
            order,
            (len(self.query_ranks), len(self.reference_ranks)),
            top=self.caps.top,
            max_per_query=self.caps.max_per_query,
            max_per_reference=self.caps.max_per_reference,
        )
        self.best = pairs.take(walked.chosen)
        if len(self.best) == self.caps.top:
            np.maximum(self.floors, self.best.scores[-1], out=self.floors)
        if cap := self.caps.max_per_reference:
            taken = np.bincount(self.best.references, minlength=len(self.floors))
            worst = np.full(len(self.floors), np.inf, dtype=np.float32)
            np.minimum.at(worst, self.best.references, self.best.scores)
            full = taken >= cap
            self.floors[full] = np.maximum(self.floors[full], worst[full])
        self._hold(pairs.take(np.flatnonzero(pairs.scores >= self.floors[pairs.references])))
        self.limit = max(self.limit, 2 * self.held)
        return walked

    def _hold(self, pairs: Pairs) -> None:
        self.parts, self.held = [pairs], len(pairs)
