"""The order in which a round's pairs are shown."""

from __future__ import annotations

from collections.abc import Mapping

from ndec_builder.annotation.label_tables import ClassProbabilities, Pair
from ndec_builder.core.errors import NdecError


def informative_first(pairs: list[Pair], copy_probability: Mapping[str, float]) -> list[Pair]:
    """Pairs by the certainty of their pre-label, least certain first; pairs without a pre-label come first of all."""
    return sorted(pairs, key=lambda pair: abs(copy_probability.get(pair[0], 0.5) - 0.5))  # stable: ties stay in rank


def copies_last(pairs: list[Pair], copy_probability: Mapping[str, float]) -> list[Pair]:
    """Pairs by P(edited copy), lowest first: what auto-clearing may discard comes last, unlabelled by then."""
    return sorted(pairs, key=lambda pair: copy_probability.get(pair[0], 0.5))  # stable: ties stay in rank


def likeliest_first(pairs: list[Pair], relearnt: Mapping[str, ClassProbabilities]) -> list[Pair]:
    """Pairs by P(hard negative), highest first: to collect a certain number of hard negatives with the fewest labels.

    Raises NdecError if nothing was relearnt: the pre-labels of mining only tell copies from the rest.
    """
    if not relearnt:
        raise NdecError(
            "the ranking by P(hard negative) comes from pre-labels learnt from people's labels, and there are none "
            "yet: label a random sample (`push --sample 600`), pull, and run `ndec annotate relearn` first; it needs "
            "200 labelled pairs, of them 40 edited copies and 40 others"
        )
    return sorted(pairs, key=lambda pair: -relearnt[pair[0]][1] if pair[0] in relearnt else -0.5)
