"""The order in which a round's pairs are shown."""

from __future__ import annotations

from collections.abc import Mapping

from ndec_builder.annotation.tables import Pair, Three
from ndec_builder.core.errors import NdecError


def informative_first(pairs: list[Pair], copy_probability: Mapping[str, float]) -> list[Pair]:
    """Pairs (pair_id, query_id, reference_id) with the least certain pre-label first; without one they come first."""
    return sorted(pairs, key=lambda pair: abs(copy_probability.get(pair[0], 0.5) - 0.5))  # stable: ties stay in rank


def copies_last(pairs: list[Pair], copy_probability: Mapping[str, float]) -> list[Pair]:
    """Pairs by P(edited copy), the lowest first: what auto-clearing may take comes last, unseen by then."""
    return sorted(pairs, key=lambda pair: copy_probability.get(pair[0], 0.5))  # stable: ties stay in rank


def likeliest_first(pairs: list[Pair], relearnt: Mapping[str, Three]) -> list[Pair]:
    """Pairs by P(hard negative), the highest first: who wants a number of them stops when it is reached.

    Raises NdecError where nothing was relearnt: mining's pre-labels tell copies only.
    """
    if not relearnt:
        raise NdecError(
            "order is 'likeliest', and that takes pre-labels learnt from people; label some pairs "
            "(`push --sample 600`), pull, and run `ndec annotate relearn` first"
        )
    return sorted(pairs, key=lambda pair: -relearnt[pair[0]][1] if pair[0] in relearnt else -0.5)
