"""P(edited copy), P(hard negative) and P(unrelated) of pairs from their features, learnt from labels with errors.

Forests of extremely randomised trees vote, and two small logistic regressions calibrate the votes: copy or not, and
among the rest hard negative or unrelated. The forests, the annotators' errors and the classes of the pairs are
estimated together (Raykar et al., Learning from crowds, 2010). No prediction depends on a label of the same fold.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ndec_builder.annotation.decisions.dawid_skene import dawid_skene
from ndec_builder.candidates.logistic import Logistic, fit_logistic

TREES = 30  # per forest; four forests vote on a pair
LEAF = 3  # fewest pairs in a leaf: smaller leaves learn single slips
FEATURES_TRIED = 0.4  # share of the features tried in each split
_EM_ROUNDS = 8  # of calibration and the annotators' errors in turn
_LEAST_BELIEF = 0.05  # a class with a lower probability is left out of a pair's training rows


@dataclass(frozen=True, eq=False)
class Answers:
    """Label j: pair `pairs[j]` (row of the features), given by `annotators[j]`, `labels[j]` (index into LABELS)."""

    pairs: np.ndarray
    annotators: Sequence[str]
    labels: np.ndarray

    def only(self, rows: np.ndarray) -> Answers:
        """The labels of the pairs selected by `rows` (n,) bool."""
        kept = np.flatnonzero(rows[self.pairs])
        return Answers(self.pairs[kept], [self.annotators[j] for j in kept], self.labels[kept])

    def sorted(self) -> Answers:
        """The same, sorted by pair, annotator and label: sums and trees do not depend on the order of arrival."""
        order = np.lexsort((self.labels, np.array(self.annotators, str), self.pairs))
        return Answers(self.pairs[order], [self.annotators[j] for j in order], self.labels[order])

    def belief(self, prior: np.ndarray) -> np.ndarray:
        """Probabilities (n, 3) of CLASSES from the labels and a prior (n,) or (n, 3)."""
        return dawid_skene(self.pairs, self.annotators, self.labels, prior).probabilities


@dataclass(frozen=True, eq=False)
class Calibration:
    """Turns the votes of a forest into probabilities."""

    copy: Logistic
    alike: Logistic

    def __call__(self, votes: np.ndarray) -> np.ndarray:
        copy, alike = (
            one.probabilities(values) for one, values in zip((self.copy, self.alike), _odds(votes), strict=True)
        )
        return np.column_stack([copy, (1 - copy) * alike, (1 - copy) * (1 - alike)])


def cross_fit(features: np.ndarray, folds: np.ndarray, answers: Answers) -> np.ndarray:
    """Probabilities (n, 3) for features (n, d); those of fold k come only from labels of the other folds (n,).

    One forest is grown for every two folds left out. The forests without k vote on k. They are calibrated with what the
    forest without k and j votes on j, since it has seen the labels of neither. The EM starts from the labels alone: a
    pre-label that has never seen a look-alike would outweigh the first labels. Deterministic.
    """
    answers = answers.sorted()
    labelled = np.zeros(len(features), bool)
    labelled[answers.pairs] = True
    numbers, unknown = sorted(set(folds.tolist())), np.full(len(features), np.nan)
    votes: dict[tuple[int, int], np.ndarray] = {}  # (k, j): on the pairs of fold j, by the forest without k and j
    for k, j in itertools.combinations(numbers, 2):
        rows = labelled & (folds != k) & (folds != j)
        forest = Forest(features[rows], answers.only(rows).belief(unknown)[rows], seed=len(votes))
        votes[k, j], votes[j, k] = forest.votes(features[folds == j]), forest.votes(features[folds == k])
    found = np.zeros((len(features), 3))
    for k in numbers:
        others = [j for j in numbers if j != k]
        seen = np.full((len(features), 3), 1 / 3)  # votes without labels of k and of the pair's own fold
        for j in others:
            seen[folds == j] = votes[k, j]
        rows = labelled & (folds != k)
        calibration = _calibrate(seen, rows, answers.only(rows))
        found[folds == k] = calibration(np.mean([votes[j, k] for j in others], axis=0))
    return found


def _calibrate(votes: np.ndarray, rows: np.ndarray, answers: Answers) -> Calibration:
    """The best calibration of votes for the labels of `rows`: EM over it, the classes and the annotators' errors."""
    belief = answers.belief(np.full(len(votes), np.nan))
    for _ in range(_EM_ROUNDS):
        copy, alike = _odds(votes[rows])
        other = 1 - belief[rows, 0]
        share = np.divide(belief[rows, 1], other, out=np.full(len(other), 0.5), where=other > 1e-9)
        calibration = Calibration(
            fit_logistic(copy, belief[rows, 0]), fit_logistic(alike, share, weight=np.maximum(other, 1e-6))
        )
        belief = answers.belief(calibration(votes))
    return calibration


def _odds(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log odds (n, 1) of a copy, and of hard negative against unrelated, from votes (n, 3)."""
    some = np.clip(votes, 1 / (2 * TREES), None)
    return np.log(some[:, :1] / (some[:, 1:2] + some[:, 2:])), np.log(some[:, 1:2] / some[:, 2:])


class Forest:
    """Trees fitted to features (n, d) of pairs that belong to CLASSES with probabilities (n, 3)."""

    def __init__(self, features: np.ndarray, belief: np.ndarray, seed: int) -> None:
        from sklearn.ensemble import ExtraTreesClassifier

        place, kind = np.nonzero(belief > _LEAST_BELIEF)  # an uncertain pair becomes several rows of less weight
        self.trees = ExtraTreesClassifier(
            TREES, min_samples_leaf=LEAF, max_features=FEATURES_TRIED, random_state=seed, n_jobs=1
        )
        self.trees.fit(features[place].astype(np.float32), kind, sample_weight=belief[place, kind])

    def votes(self, features: np.ndarray) -> np.ndarray:
        """Shares (n, 3) of the trees' votes."""
        found = np.zeros((len(features), 3))
        if len(features):
            found[:, self.trees.classes_] = self.trees.predict_proba(features.astype(np.float32))
        return found
