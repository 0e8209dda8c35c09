"""Pairs whose label can no longer matter: in the split test, one edited copy among a query's pairs drops the query.

`kept_queries` keeps a query if none of its pairs is an edited copy. Once one is, nobody needs to label the query's
other pairs: they stay undecided, and no dataset contains them either way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

import pyarrow as pa

from ndec_builder.annotation.label_tables import Pair, keys

LIKELY = 0.5  # P(edited copy) from which a query's other pairs wait for the label of its likeliest copy


def pairs_of_dropped_queries(pairs: Iterable[Pair], decisions: pa.Table) -> set[str]:
    """Pairs whose query has another pair that is decided edited_copy."""
    copies = {pair for pair, decision in keys(decisions, "pair_id", "decision") if decision == "edited_copy"}
    by_query = _by_query(pairs)
    return {pair for own in by_query.values() for pair in own if any(one in copies and one != pair for one in own)}


def pairs_behind_likely_copies(
    pairs: Iterable[Pair], decisions: pa.Table, copy_probability: Mapping[str, float]
) -> set[str]:
    """Pairs that wait for their query's likeliest copy: that pair is undecided, with P(edited copy) ≥ LIKELY.

    Its label may make theirs unnecessary. Ties for the likeliest go to the lesser pair_id.
    """
    decided = {pair for pair, decision in keys(decisions, "pair_id", "decision") if decision is not None}
    found: set[str] = set()
    for own in _by_query(pairs).values():
        first = min(own, key=lambda pair: (-copy_probability.get(pair, 0.0), pair))
        if first not in decided and copy_probability.get(first, 0.0) >= LIKELY:
            found |= {pair for pair in own if pair != first}
    return found


def unfinished_queries(pairs: Iterable[Pair], decisions: pa.Table) -> set[str]:
    """Queries with a hard negative, without an edited copy, and with an undecided pair: that pair alone drops them."""
    decided = dict(keys(decisions, "pair_id", "decision"))
    found = set()
    for query, own in _by_query(pairs).items():
        labels = {decided.get(pair) for pair in own}
        if "hard_negative" in labels and "edited_copy" not in labels and None in labels:
            found.add(query)
    return found


def pairs_left_out(
    pairs: Collection[Pair],
    decisions: Callable[[], pa.Table],
    probabilities: Mapping[str, float],
    *,
    below: float,
    keepable: bool,
    finish_queries: bool,
) -> set[str]:
    """The pairs that a push of the first round with these settings gives to nobody.

    decisions: called only if they matter · probabilities: pair_id → P(edited copy); a pair without one has .5.
    """
    out = {pair[0] for pair in pairs if probabilities.get(pair[0], 0.5) >= below} if below < 1 else set()
    decided = decisions() if keepable or finish_queries else None
    if keepable and decided is not None:
        out |= pairs_of_dropped_queries(pairs, decided) | pairs_behind_likely_copies(pairs, decided, probabilities)
    if finish_queries and decided is not None:
        unfinished = unfinished_queries(pairs, decided)
        out |= {pair[0] for pair in pairs if pair[1] not in unfinished}
    return out


def _by_query(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    by_query: dict[str, list[str]] = defaultdict(list)
    for pair, query, _ in pairs:
        by_query[query].append(pair)
    return by_query
