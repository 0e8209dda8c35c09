"""What a pair most probably is, from labels with errors: Dawid & Skene (1979), with a prior for each pair.

    P(z_i = k | labels) ∝ P(z_i = k) · Π_j π_j[k, label_ij],   π_j: annotator j's confusion matrix

EM alternates between the posteriors and the matrices. Matrices are smoothed towards a good annotator, so that a few
labels do not define an annotator. The prior of a pair comes from its pre-label if it has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ndec_builder.core.schemas import LABELS

CLASSES = LABELS[:3]  # what a pair can be; unsure is an answer, not a class
_SMOOTHING = 20.0  # pseudo-labels per class of an annotator whose labels are right with probability SKILL
SKILL = 0.94
PRIOR_RANGE = (0.03, 0.97)  # a pre-label never outweighs two annotators


@dataclass(frozen=True, eq=False)
class Posterior:
    """Probabilities (n, 3) of CLASSES for each pair, and the confusion matrix (3, 4) of each annotator."""

    probabilities: np.ndarray
    confusion: dict[str, np.ndarray]
    shares: np.ndarray  # (3,): of the classes

    def accuracy(self, annotator: str) -> float:
        """Share of pairs that the annotator labels right, given the shares of the classes."""
        return float((self.shares * np.diag(self.confusion[annotator])).sum())


def dawid_skene(
    pairs: np.ndarray,
    annotators: Sequence[str],
    labels: np.ndarray,
    copy_probability: np.ndarray,
    rounds: int = 60,
) -> Posterior:
    """Estimate from label j: pair `pairs[j]` (0..n−1), `annotators[j]`, `labels[j]` (index into LABELS).

    `copy_probability` (n,): the pre-label's P(edited copy), NaN if there is none; or (n, 3): a probability of each of
    CLASSES, a row with NaN if there is none. Pairs without labels keep their prior. Deterministic: it starts from the
    smoothed votes.
    """
    names = sorted(set(annotators))
    who = np.searchsorted(names, list(annotators)) if names else np.zeros(0, int)
    count = len(copy_probability)
    shares = np.full(3, 1 / 3)
    belief = _SMOOTHING * _good_annotator()
    confusion = np.repeat((belief / belief.sum(1, keepdims=True))[None], max(len(names), 1), axis=0)
    probabilities = _posterior(pairs, who, labels, confusion, _prior(copy_probability, shares), count)
    for _ in range(rounds):
        labelled = np.zeros(count, bool)
        labelled[pairs] = True
        if labelled.any():
            shares = (probabilities[labelled].sum(0) + 1) / (labelled.sum() + 3)
        totals = np.repeat(belief.T[None], max(len(names), 1), axis=0)  # (annotators, 4 labels, 3 classes)
        np.add.at(totals, (who, labels), probabilities[pairs])
        confusion = (totals / totals.sum(1, keepdims=True)).transpose(0, 2, 1)
        new = _posterior(pairs, who, labels, confusion, _prior(copy_probability, shares), count)
        moved = float(np.abs(new - probabilities).max(initial=0))
        probabilities = new
        if moved < 1e-6:
            break
    return Posterior(probabilities, dict(zip(names, confusion, strict=False)), shares)


def _good_annotator() -> np.ndarray:
    """(3, 4): the right label with probability SKILL, each other label equally often."""
    wrong = (1 - SKILL) / 3
    return np.where(np.arange(3)[:, None] == np.arange(4)[None], SKILL, wrong)


def _prior(copy_probability: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(n, 3): the given probabilities; of a P(copy) alone, the rest is split by the shares of the other classes."""
    rest = shares[1:] / shares[1:].sum()
    if copy_probability.ndim == 1:
        copies = np.where(np.isnan(copy_probability), shares[0], np.clip(copy_probability, *PRIOR_RANGE))
        return np.column_stack([copies, (1 - copies)[:, None] * rest])
    unknown = np.isnan(copy_probability).any(axis=1, keepdims=True)
    given = np.clip(np.where(unknown, shares, copy_probability), *PRIOR_RANGE)
    return np.asarray(given / given.sum(axis=1, keepdims=True))


def _posterior(
    pairs: np.ndarray, who: np.ndarray, labels: np.ndarray, confusion: np.ndarray, prior: np.ndarray, count: int
) -> np.ndarray:
    logs = np.log(prior)
    np.add.at(logs, pairs, np.log(confusion[who, :, labels]))
    logs -= logs.max(axis=1, keepdims=True)
    values = np.exp(logs)
    return values / values.sum(axis=1, keepdims=True)
