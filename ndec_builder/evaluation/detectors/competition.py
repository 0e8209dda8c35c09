"""References compete for a query: usually at most one of them is its original.

Each judged pair has a probability of its own. Given that at most one of a reference and its rivals is the original,
its probability is its odds divided by 1 + its own and their odds (Bayes' rule). So the runner-up of a certain winner
falls, and two equally good references share the probability.

All judged references of a query are rivals, with two exceptions: those that may be in the query together, as in a
collage (each fills only a part of the query, the parts add up to no more than the query, and the references do not look
alike), and references with the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ROOM = 1.1  # parts of the query that fit next to each other, with 10 % for inexact outlines
SAME_SCENE = 0.3  # cosine from which two references may show one scene; 95 % of unrelated pairs are below .12


def compete(
    query: np.ndarray, logits: np.ndarray, inside: np.ndarray, vectors: np.ndarray, pictures: Sequence[str]
) -> np.ndarray:
    """P(copy) of each pair, given all judged pairs of its query: (n,) float64.

    query: (n,) int, ascending · logits: (n,) float64 of each pair on its own · inside: (n,) share of the query that is
    inside the reference, NaN without a homography · vectors: (n, d) float32, L2-normed, of the references · pictures:
    (n,) what identifies the picture of the reference.
    """
    result, names = np.empty(len(query)), np.array(list(pictures))
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(query)], strict=True):
        part = slice(start, stop)
        rivals = _rivals(inside[part], vectors[part], names[part])
        own = logits[part]
        with np.errstate(over="ignore"):  # infinite odds against a pair: its probability is 0
            others = np.exp(own[None, :] - own[:, None])  # odds of column ÷ odds of row
            result[part] = 1 / (1 + np.exp(-own) + np.where(rivals, others, 0.0).sum(axis=1))
    return result


def _rivals(inside: np.ndarray, vectors: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """(k, k) bool: which references exclude each other; False on the diagonal."""
    with np.errstate(invalid="ignore"):
        fit = inside[:, None] + inside[None, :] <= ROOM  # False for NaN
    alike = np.einsum("id,jd->ij", vectors, vectors) >= SAME_SCENE
    rivals: np.ndarray = (alike | ~fit) & (pictures[:, None] != pictures[None, :])
    return rivals
