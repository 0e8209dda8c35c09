"""The recall certificate of a workspace: how it is made from the tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa

from ndec_builder.annotation.assignment.order import likeliest_first
from ndec_builder.annotation.assignment.queues import pairs_to_label
from ndec_builder.annotation.decisions.binomial import rare_upper
from ndec_builder.annotation.decisions.label_statistics import MISSED, draw_pairs
from ndec_builder.annotation.decisions.recall_certificate import (
    GoldErrors,
    RecallCertificate,
    RecallGoal,
    certify_recall,
    expected_recall,
    goal_of_look,
    least_positives,
)
from ndec_builder.annotation.decisions.resolution import cleared_from
from ndec_builder.annotation.label_tables import Pair, keys, newest_labels, uncorrected
from ndec_builder.annotation.stopping.settings import CertifyConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import fingerprint

ASSUMED_ERROR = 0.03  # without gold pairs, and said so
HARD = "hard_negative"


def population(tables: AnnotationTables) -> list[Pair]:
    """The pairs that the certificate is about, in rank order: without those at or above the auto-clearing threshold.

    Whether a pair is one of them never depends on its own label, so a random sample of all pairs is one of these.
    """
    pairs, threshold = pairs_to_label(tables.candidates), cleared_from(tables)
    if threshold is None:
        return pairs
    return [pair for pair in pairs if tables.cleared_by.get(pair[0], 0.0) < threshold]


def as_table(pairs: list[Pair]) -> pa.Table:
    """The pairs as a table with the columns pair_id, query_id and reference_id."""
    names = ("pair_id", "query_id", "reference_id")
    return pa.table({name: pa.array([pair[place] for pair in pairs], pa.string()) for place, name in enumerate(names)})


def first_labels(tables: AnnotationTables) -> dict[str, str]:
    """pair_id → what most labels of the first round say; `unsure` where two labels lead.

    Later rounds do not count: they re-label pairs that the ranking doubts, so their slips would depend on the rank.
    """
    votes: dict[str, Counter[str]] = {}
    for pair, round_, label in keys(newest_labels(tables.counting_labels), "pair_id", "round", "label"):
        if round_ == "first":
            votes.setdefault(pair, Counter())[label] += 1
    return {pair: _majority(found) for pair, found in votes.items()}


def _majority(votes: Counter[str]) -> str:
    first, *rest = votes.most_common(2)
    return "unsure" if rest and rest[0][1] == first[1] else first[0]


def new_certificate(config: CertifyConfig, tables: AnnotationTables, replaced: int) -> dict[str, Any]:
    """The content of certificate.json: the certificate, and the pairs to label in the order of the ranking.

    Raises NdecError without a random sample that was labelled blind, and where it holds too few hard negatives.
    """
    sample = read_sample(tables)
    error, source = (config.error, "given") if config.error is not None else measured_error(tables)
    goal = goal_of_look(config.recall, config.confidence, replaced)
    found = sample.certify(goal, error)
    if found.stop is None:
        raise NdecError(_too_few(found, goal, config, source))
    return found.as_json() | {
        "recall": config.recall,
        "confidence": config.confidence,
        "error": error if isinstance(error, float) else error.wrong / error.labels,
        "error_source": source,
        "missed": MISSED,
        "confirmed": sample.confirmed,
        "replaced": replaced,
        "drawn": sample.drawn,
        "hard_in_sample": sample.hard,
        "candidates": fingerprint(sorted(sample.ranking)),
        "pictures": tables.shown.tags_to_keep(as_table(population(tables))),
        "to_label": sample.ranking[: found.stop],
    }


@dataclass(frozen=True, eq=False)
class LabelledSample:
    """The random sample with its labels: all pairs in ranked order, and what the certificate needs."""

    ranking: list[str]
    drawn: int  # pairs that were drawn
    labelled: int  # of those, the first ones of the random order that have a label of the first round
    hard: list[str]  # of these, the hard negatives by the first round
    ranks: np.ndarray  # places, from 1, of those that are hard negatives
    confirmed: bool  # by two annotators

    def certify(self, goal: RecallGoal, error: float | GoldErrors) -> RecallCertificate:
        return certify_recall(self.ranks, len(self.ranking), self.labelled, goal, error, confirmed=self.confirmed)


def read_sample(tables: AnnotationTables) -> LabelledSample:
    """The sample of `push --sample`. Raises NdecError without one that was labelled blind, or before `relearn`."""
    ranking = [pair for pair, _, _ in likeliest_first(population(tables), tables.relearnt)]
    labels, drawn = first_labels(tables), _drawn_sample(tables)
    rank = {pair: number for number, pair in enumerate(ranking, 1)}
    labelled = list(takewhile(labels.__contains__, (pair for pair in drawn if pair in rank)))
    if not labelled:
        raise NdecError(_no_sample(tables, drawn))
    hard = [pair for pair in labelled if labels[pair] == HARD]
    positives, confirmed = _confirmed(hard, tables)
    ranks = np.array([rank[pair] for pair in positives], np.int64)
    return LabelledSample(ranking, len(drawn), len(labelled), hard, ranks, confirmed)


def certified_stop(tables: AnnotationTables, goal: RecallGoal) -> int | None:
    """How many pairs of the ranking `certify` would name; None if the sample holds too few hard negatives."""
    return read_sample(tables).certify(goal, measured_error(tables)[0]).stop


def _confirmed(positives: list[str], tables: AnnotationTables) -> tuple[list[str], bool]:
    """The positives that the double-check confirms, if it covers all of them; else all, and False."""
    again: dict[str, set[str]] = {}
    for pair, round_, label in keys(newest_labels(tables.counting_labels), "pair_id", "round", "label"):
        if round_ == "double_check":
            again.setdefault(pair, set()).add(label)
    if not positives or not all(pair in again for pair in positives):
        return positives, False
    return [pair for pair in positives if again[pair] == {HARD}], True


def _drawn_sample(tables: AnnotationTables) -> list[str]:
    """The pairs of `push --sample` in their random order. Raises NdecError if they are not random or not blind."""
    options, split = tables.options, tables.split
    if options.ever_shown:
        raise NdecError(
            "hints were shown on the labelling page (push --hints), so labels of the sample may follow them and the "
            "ranking; certify needs blind labels. Use a workspace whose pairs were labelled without hints, or label "
            "every pair"
        )
    if not options.sample:
        raise NdecError(
            f"no random sample of the split {split!r} was drawn; the first pairs of a sorted queue cannot "
            f"replace it. Give one to annotators with `ndec annotate push --split {split} --sample 600`, pull, "
            "and run `ndec annotate relearn`. If you drew one with an older version, the same push records it and "
            "assigns nothing twice"
        )
    return random_sample(tables, options.sample)


def random_sample(tables: AnnotationTables, count: int) -> list[str]:
    """The first `count` pairs in the random order of `push --sample`."""
    return draw_pairs((pair for pair, _, _ in pairs_to_label(tables.candidates)), count, "sample")


def _no_sample(tables: AnnotationTables, drawn: list[str]) -> str:
    holders = open_in_sample(tables, drawn)
    who = f" ({drawn[0]} is still open)"
    if holders:
        who = f": {', '.join(f'{name} has {number} open' for name, number in holders.items())}"
    return (
        f"the random sample of {len(drawn):,} pairs of the split {tables.split!r} is not labelled from its start{who}. "
        "Label it and pull; `ndec annotate leave NAME` gives the open pairs of someone who left to others, and "
        f"`push --sample {len(drawn)}` adds pairs that a later mining found"
    )


def sample_advice(sample: int, pairs: int, found: tuple[int, int] | None = None) -> str:
    """What a random sample of that size will certify, for the person who draws it. `found`: hard negatives among pairs
    of the sample that are labelled already, and how many those are; None: a prevalence of .3 is assumed.
    """
    sample = min(sample, pairs)
    prevalence = found[0] / found[1] if found and found[1] >= 50 else 0.3
    goal = goal_of_look()
    recalls = [
        expected_recall(sample, prevalence, pairs, goal, ASSUMED_ERROR, confirmed=twice) for twice in (False, True)
    ]
    share = f"{prevalence:.0%} hard negatives among the pairs" + ("" if found and found[1] >= 50 else " (assumed)")
    start = f"{number_of(sample, 'random pair')} and {share}: "
    if recalls[1] is None:
        return start + f"too few to certify a recall of {goal.recall:.0%}; draw a larger sample"
    text = f"expect to stop at {recalls[1]:.0%} of the hard negatives if two annotators label those of the sample"
    if recalls[0] is not None:
        text += f" (`double-check --which hard_negative`), at {recalls[0]:.0%} if one does"
    return start + f"to certify {goal.recall:.0%} with 95% confidence, " + text


def open_in_sample(tables: AnnotationTables, drawn: list[str]) -> dict[str, int]:
    """Annotator → pairs of the sample that this annotator was given in the first round and has not labelled."""
    labelled, chosen = tables.labelled, set(drawn)
    return dict(
        sorted(
            Counter(
                key[2] for key in keys(tables.tasks) if key[0] in chosen and key[1] == "first" and key not in labelled
            ).items()
        )
    )


def measured_error(tables: AnnotationTables) -> tuple[float | GoldErrors, str]:
    """How often a pair that is no hard negative is labelled as one, and where that comes from: all gold labels."""
    truth = tables.gold_truth()
    rows = keys(uncorrected(tables.counting_labels), "pair_id", "label")
    # the truth "no_copy" accepts the label hard_negative
    wrong = [label == HARD for pair, label in rows if truth.get(pair) not in (None, HARD, "no_copy")]
    if not wrong:
        return ASSUMED_ERROR, "assumed: there are no labelled gold pairs"
    return GoldErrors(sum(wrong), len(wrong)), f"{sum(wrong)} of {len(wrong)} gold pairs"


def _too_few(found: RecallCertificate, goal: RecallGoal, config: CertifyConfig, source: str) -> str:
    push = f"`ndec annotate push --split {config.split} --sample N`"
    if not found.positives:
        most = rare_upper(0, found.sample, found.pairs, MISSED)
        return (
            f"the random sample of {found.sample:,} labelled pairs holds no hard negative. So at most {most:,} of the "
            f"{number_of(found.pairs, 'candidate is', 'candidates are')} hard negatives "
            f"({most / found.pairs:.1%}, 95 % confidence, an annotator "
            f"misses at most {MISSED:.0%}), and there may be none. Mine other pairs (a larger pool, or `ndec mine "
            f"--top`), or enlarge the sample with {push}"
        )
    return (
        f"the random sample of {found.sample:,} labelled pairs holds "
        f"{number_of(found.positives, 'hard negative')}, up to "
        f"{found.false} of them by wrong labels (error: {source}); a recall of {goal.recall:g} with confidence "
        f"{config.confidence:g} needs at least {least_positives(goal)} right ones: enlarge the sample with {push}, "
        "measure the error on more gold pairs (`push --gold 0.05`), or lower --recall"
    )
