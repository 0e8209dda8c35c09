"""The ways of labelling that the human-time study compares: those of ndec, step by step, with its settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from human_time_crew import Crew

from ndec_builder.annotation.assignment.queues import disputed_pairs
from ndec_builder.annotation.assignment.undecided_queries import pairs_behind_likely_copies, pairs_of_dropped_queries
from ndec_builder.annotation.decisions.audit import (
    audit_verdict,
    audit_votes,
    disputed_in_audit,
    evaluate_audit,
    kept_pairs,
    unconfirmed_in_audit,
)
from ndec_builder.annotation.decisions.clearing import (
    check_slice,
    clearable,
    contradicted_pairs,
    slice_pairs,
    votes_without_audit,
)
from ndec_builder.annotation.decisions.label_statistics import doubtful_pairs, draw_pairs, posterior_of
from ndec_builder.annotation.decisions.resolution import decision_table
from ndec_builder.annotation.decisions.weighted import weighted_decisions
from ndec_builder.annotation.label_tables import ClassProbabilities
from ndec_builder.annotation.relearn import answers_of, fit_prelabels


@dataclass(frozen=True)
class Policy:
    """The settings of ndec's way; all but `wanted` and `name` are those of the command line."""

    name: str
    auto_clear: bool
    keepable: bool = False  # pairs of queries that hold a copy already are left undecided
    wanted: float = 1.0  # share of the hard negatives at which labelling stops; the likeliest come first
    pilot: int = 400  # pairs drawn at random that are labelled first
    below: float = 0.5  # P(edited copy) of the pairs that are labelled before anything is cleared
    check_pairs: int = 270
    check_above: float = 0.8
    allowed: float = 0.03
    tolerance: float = 0.01
    discard_tolerance: float = 0.1
    audit_pairs: int = 550


class Way:
    """ndec's way: a pilot, relearnt pre-labels, a proven slice, auto-clearing, the rest, second looks, audit.

    Decisions weigh labels (`decide = "weighed"`).
    """

    def __init__(self, crew: Crew, policy: Policy) -> None:
        self.crew, self.policy, self.bench = crew, policy, crew.bench
        self.prior: dict[str, ClassProbabilities] = {}
        self.cleared: set[str] = set()
        self.looks: dict[str, int] = {}

    def run(self) -> dict[str, str]:
        bench, policy = self.bench, self.policy
        self._count("pilot", lambda: self.crew.look("first", draw_pairs(bench.ids, policy.pilot, "sample")))
        self.relearn()
        if policy.auto_clear:
            self._count("first", lambda: self.crew.look("first", self.copies_last(policy.below)))
            self.relearn()
            self._count("check", self.check)
        while left := self.copies_last():
            if policy.wanted < 1:
                self._count("first", self.label_until_enough)
            else:
                self._count("first", lambda left=left: self.crew.look("first", left))  # type: ignore[misc]
            self.relearn()
            self._count("second", self.look_again)
            if policy.wanted < 1:
                break
        self._count("audit", self.audit)
        return self.decisions()

    def relearn(self) -> None:
        ids = self.bench.ids
        found = fit_prelabels(
            self.bench.features, self.bench.groups, answers_of(self.crew.labels, ids), self.bench.first
        )
        self.prior = {pair: (row[0], row[1], row[2]) for pair, row in zip(ids, found.tolist(), strict=True)}

    @property
    def copies(self) -> dict[str, float]:
        return {pair: three[0] for pair, three in self.prior.items()}

    def resolved(self, audited: bool = False) -> pa.Table:
        verdicts = weighted_decisions(
            self.crew.labels, self.prior, self.policy.tolerance, self.policy.discard_tolerance
        )
        return decision_table(self.crew.tasks, self.crew.labels, self.cleared, audited=audited, weighted=verdicts)

    def copies_last(self, below: float = 1.0) -> list[str]:
        """`push --order copies_last --below …`: what nobody has seen and nothing cleared, the likeliest copies last."""
        out = set(self.cleared)
        if self.policy.keepable:
            decisions = self.resolved()
            out |= pairs_of_dropped_queries(self.bench.pairs, decisions) | pairs_behind_likely_copies(
                self.bench.pairs, decisions, self.copies
            )
        left = [pair for pair in self.bench.ids if pair not in out and pair not in self.crew.seen]
        return sorted((p for p in left if self.prior[p][0] < below), key=lambda pair: (self.prior[pair][0], pair))

    def label_until_enough(self) -> None:
        left = sorted(self.copies_last(), key=lambda pair: (-self.prior[pair][1], pair))
        wanted = self.policy.wanted * sum(label == "hard_negative" for label in self.bench.truth.values())
        while left and Counter(self.crew.decisions().values())["hard_negative"] < wanted:
            self.crew.look("first", left[:250])
            left = left[250:]

    def look_again(self) -> None:
        """`double-check --which uncertain`, then `adjudicate` until no open pair can be assigned."""
        crew = self.crew
        posterior = posterior_of(crew.labels, self.prior)
        chosen = doubtful_pairs(*posterior, self.policy.tolerance, self.policy.discard_tolerance)
        crew.look("double_check", {pair for pair in chosen - self.settled(self.resolved()) if crew.free(pair)})
        while True:
            decisions = self.resolved()
            open_ = disputed_pairs(decisions) - self.settled(decisions)
            people = {pair: crew.had("adjudication", pair) + 1 for pair in open_ if crew.free(pair)}
            if not people:
                return
            crew.give("adjudication", people)

    def settled(self, decisions: pa.Table) -> set[str]:
        return pairs_of_dropped_queries(self.bench.pairs, decisions) if self.policy.keepable else set()

    def check(self) -> None:
        """`push --check-pairs`, again for contradicted pairs, then `auto-clear`."""
        policy, crew = self.policy, self.crew
        drawn = slice_pairs(self.copies, policy.check_above, policy.check_pairs)
        crew.look("first", drawn)
        while again := [
            pair for pair in contradicted_pairs(drawn, votes_without_audit(crew.labels)) if crew.free(pair)
        ]:
            crew.give("first", {pair: crew.had("first", pair) + 1 for pair in again})
        votes = votes_without_audit(crew.labels)
        self.clearing = check_slice(self.copies, policy.check_above, policy.check_pairs, votes, policy.allowed)
        self.cleared = set(clearable(self.copies, self.clearing, votes))

    def audit(self) -> None:
        """`ndec annotate audit`, until no pair of it is disputed and no copy unconfirmed, or nobody is left."""
        crew = self.crew
        kept = kept_pairs(self.bench.candidates, self.resolved(), "test")
        drawn = draw_pairs(kept, self.policy.audit_pairs)
        crew.give("audit", dict.fromkeys((pair for pair in drawn if crew.free(pair)), 1))
        votes = self.settled_audit()
        self.found = evaluate_audit(len(kept), drawn, votes)
        self.kept_before = kept
        self.kept = [pair for pair in kept if audit_verdict(votes.get(pair, ())) not in ("copy", "doubtful")]

    def settled_audit(self) -> dict[str, list[str]]:
        """Votes of the audit, after disputed pairs and unconfirmed copies got further labels while anyone is free."""
        while True:
            votes = audit_votes(self.crew.labels)
            again = {*disputed_in_audit(votes), *unconfirmed_in_audit(votes)}
            more = {pair: len(votes[pair]) + 1 for pair in sorted(again) if self.crew.free(pair)}
            if not more:
                return votes
            self.crew.give("audit", more)

    def decisions(self) -> dict[str, str]:
        """Pair → decision. What people left open is unsure; what nobody looked at is no decision."""
        table = self.resolved(audited=True)
        found = dict(zip(table["pair_id"].to_pylist(), table["decision"].to_pylist(), strict=True))
        return {pair: decision or "unsure" for pair, decision in found.items()}

    def _count(self, name: str, work: Callable[[], None]) -> None:
        before = self.crew.looks
        work()
        self.looks[name] = self.looks.get(name, 0) + self.crew.looks - before


POLICIES = (
    None,
    Policy("ndec, auto-clear on", auto_clear=True),
    Policy("ndec, auto-clear off", auto_clear=False),
    Policy("ndec, keepable, auto-clear on", auto_clear=True, keepable=True),
    Policy("ndec, keepable, auto-clear off", auto_clear=False, keepable=True),
)
MORE = (  # with one mix of people only
    Policy("ndec, likeliest first, stopped at 80 % of the hard negatives", auto_clear=False, wanted=0.8),
)
