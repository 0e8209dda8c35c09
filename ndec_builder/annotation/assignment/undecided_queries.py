"""Pairs whose label can still matter: in the split test an edited copy among a query's pairs drops the whole query.

`kept_queries` keeps a query when none of its pairs is an edited copy. So once one is, nobody needs to look at the
query's other pairs: they stay undecided, and no dataset holds them either way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import pyarrow as pa

from ndec_builder.annotation.tables import Pair

LIKELY = 0.5  # P(edited copy) from which a query's other pairs wait for the label of its likeliest copy


def settled(pairs: Iterable[Pair], decisions: pa.Table) -> set[str]:
    """Pairs (pair_id, query_id, reference_id) of queries of which another pair is decided edited_copy."""
    columns = (decisions[name].to_pylist() for name in ("pair_id", "decision"))
    copies = {pair for pair, decision in zip(*columns, strict=True) if decision == "edited_copy"}
    of_query = _by_query(pairs)
    return {pair for some in of_query.values() for pair in some if any(one in copies and one != pair for one in some)}


def waiting(pairs: Iterable[Pair], decisions: pa.Table, copy_probability: Mapping[str, float]) -> set[str]:
    """Pairs of whose query another pair is undecided, LIKELY an edited copy, and the likeliest one.

    Ties go to the lesser pair_id. Its label may make theirs needless.
    """
    columns = (decisions[name].to_pylist() for name in ("pair_id", "decision"))
    decided = {pair for pair, decision in zip(*columns, strict=True) if decision is not None}
    found: set[str] = set()
    for some in _by_query(pairs).values():
        first = min(some, key=lambda pair: (-copy_probability.get(pair, 0.0), pair))
        if first not in decided and copy_probability.get(first, 0.0) >= LIKELY:
            found |= {pair for pair in some if pair != first}
    return found


def _by_query(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    of_query: dict[str, list[str]] = defaultdict(list)
    for pair, query, _ in pairs:
        of_query[query].append(pair)
    return of_query
