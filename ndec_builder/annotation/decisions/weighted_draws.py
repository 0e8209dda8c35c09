"""Weighted draws for the audit: pairs whose pre-label leaves doubt are drawn up to LARGEST times as often.

The order is a weighted draw without replacement by exponential clocks whose times come from a hash, so anyone can draw
it again and a larger sample contains a smaller one. The weights are those of the first draw: relearning must not change
them. `anytime_bound.weighted_upper` weights each found copy by the inverse of its probability of being drawn.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping

import numpy as np

LARGEST = 3.0


def doubt_weights(pairs: Iterable[str], copy_probability: Mapping[str, float]) -> dict[str, float]:
    """pair_id → weight from 1 to LARGEST: it grows with P(edited copy) · P(no copy). A pair without a pre-label: 1."""
    found = {}
    for pair in sorted(pairs):
        copy = copy_probability.get(pair, 0.0)
        found[pair] = 1 + (LARGEST - 1) * 4 * copy * (1 - copy)
    return found


def weighted_order(pairs: Iterable[str], weights: Mapping[str, float], salt: str = "audit") -> list[str]:
    """The pairs in the order of the weighted draw; a pair without a weight has 1."""

    def rings_at(pair: str) -> float:
        digest = hashlib.sha256(f"{salt}\x1f{pair}".encode()).digest()
        return -math.log((int.from_bytes(digest[:8]) + 1) / 2**64) / weights.get(pair, 1.0)

    return sorted(pairs, key=lambda pair: (rings_at(pair), pair))


def draw_chances(order: list[str], weights: Mapping[str, float]) -> np.ndarray:
    """(n, 2) for each draw of the order: its probability among the pairs left, and the smallest of any pair left."""
    values = np.array([weights.get(pair, 1.0) for pair in order])
    left = np.cumsum(values[::-1])[::-1]
    return np.column_stack([values / left, np.minimum.accumulate(values[::-1])[::-1] / left])
