"""The rounds of an exact search: which queries are searched how deep, until the greedy answer is known.

A sample of the queries is searched first and gives an estimate of the final cut. The first round searches all others,
down to that estimate. Queries whose lists end too early are searched again, four times as deep.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ndec_builder.candidates.search.pairs import Pairs
from ndec_builder.candidates.search.selection import Caps, PairSelection
from ndec_builder.core.console import say

FIRST_DEPTH = 8
SAMPLE = 1024  # queries searched first, to estimate the final cut
GUESS_SLACK = 2  # the estimate aims at this many times the pairs wanted …
GUESS_SPARE = 32  # … plus this many pairs of the sample; an estimate that is too high costs a second search


class Rounds:
    """The state between rounds. `rows`: the queries (k,) int64 that the round has to search; empty at the end.

    `bounds` (n,) float32: pairs that were left out of the list of a query score at most this; inf: not yet searched.
    """

    def __init__(self, query_ranks: np.ndarray, reference_ranks: np.ndarray, caps: Caps) -> None:
        self.caps, self.selection = caps, PairSelection(query_ranks, reference_ranks, caps)
        queries, self.references = len(query_ranks), len(reference_ranks)
        self.rows: np.ndarray = np.arange(queries)
        self.bounds = np.full(queries, np.inf, dtype=np.float32)
        self.depth = min(max(FIRST_DEPTH, 2 * caps.max_per_query), self.references)
        if not caps.max_per_query and not caps.max_per_reference and caps.top >= queries * self.references:
            self.depth = self.references  # all pairs are wanted: one pass
        self.slack = GUESS_SLACK
        self.sample: np.ndarray = np.empty(0, np.float32)

    def sampled_rows(self) -> np.ndarray:
        """The queries to search before the first round; none if there are few queries."""
        queries = len(self.bounds)
        return np.linspace(0, queries - 1, SAMPLE).astype(np.int64) if queries >= 4 * SAMPLE else np.empty(0, np.int64)

    def add_sample(self, rows: np.ndarray, pairs: Pairs, bounds: np.ndarray) -> None:
        """The pairs and the bounds (k,) of the sampled rows, searched to `depth` without floors."""
        self.selection.add(pairs)
        self.bounds[rows] = bounds
        # of each query the best scores, in one array, descending
        self.sample = -np.sort(-closest_of_each(pairs, self.caps.max_per_query or self.depth).scores)
        self.rows = np.delete(self.rows, rows)

    def guess(self) -> np.float32:
        """A floor that about `slack` times the wanted pairs reach, estimated from the sample; −inf if it is small."""
        wanted = int(self.slack * self.caps.top / len(self.bounds) * SAMPLE) + GUESS_SPARE
        return np.float32(self.sample[wanted - 1] if wanted <= len(self.sample) else -np.inf)

    def close(self) -> None:
        """All `rows` were searched: find those that the next round has to search deeper."""
        walked, best = self.selection.settle(), self.selection.best
        complete = len(best) == self.caps.top or walked.exhausted
        cut = best.scores[-1] if complete and len(best) else np.float32(-np.inf)
        # a pair left out that ties with the cut could still come before it
        self.rows = np.flatnonzero(~walked.query_full & (self.bounds >= cut) & (self.bounds > -np.inf))
        if len(self.rows):
            self.selection.forget(self.rows)
        if len(self.rows) > SAMPLE and cut > -np.inf:  # without a cut all pairs are wanted, and nothing is unusual
            say(
                f"{len(self.rows)} of {len(self.bounds)} queries are searched deeper: their lists end above the cut "
                f"{cut:.4f}"
            )
        self.depth, self.slack = min(4 * self.depth, self.references), 8 * self.slack

    def state(self) -> dict[str, np.ndarray]:
        """The arrays that `restore` needs."""
        numbers = {"depth": np.asarray(self.depth), "slack": np.asarray(self.slack)}
        return {"sample": self.sample, "rows": self.rows, "bounds": self.bounds, **numbers, **self.selection.state()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.sample, self.rows, self.bounds = state["sample"], state["rows"], state["bounds"]
        self.depth, self.slack = int(state["depth"]), int(state["slack"])
        self.selection.restore(state)


def closest_of_each(pairs: Pairs, count: int) -> Pairs:
    """The `count` best pairs of every query, by (score descending, reference row ascending)."""
    pairs = pairs.take(np.lexsort((pairs.references, -pairs.scores, pairs.queries)))
    place = np.arange(len(pairs)) - np.searchsorted(pairs.queries, pairs.queries)
    return pairs.take(np.flatnonzero(place < count))
