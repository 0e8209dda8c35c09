"""The ways of labelling that the human-time study compares: ndec's, step by step, with its settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from human_time_crew import Crew, decisions_of

from ndec_builder.annotation.audit import disputed, kept_pairs, look, unconfirmed, votes_of
from ndec_builder.annotation.clearing import check, clearable, given_to_two, slice_pairs, verdicts_of_two
from ndec_builder.annotation.policy import doubtful, draw, posterior_of
from ndec_builder.annotation.prior import Three
from ndec_builder.annotation.relearn import answers_of, relearn
from ndec_builder.annotation.resolve import resolve


@dataclass(frozen=True)
class Policy:
    """The settings of ndec's way; all but the first three are those of the command line."""

    name: str
    auto_clear: bool
    wanted: float = 1.0  # share of the hard negatives at which labelling stops; the likeliest come first
    pilot: int = 600  # pairs drawn at random that are labelled first
    early: float = 0.5  # share of the pairs, the least likely copies, that are labelled before anything is cleared
    check_pairs: int = 120
    check_above: float = 0.9
    allowed: float = 0.05
    tolerance: float = 0.01
    discard_tolerance: float = 0.05
    audit_pairs: int = 300


class Way:
    """ndec's way: a pilot, relearnt pre-labels, a proven slice, auto-clearing, the rest, second looks, audit."""

    def __init__(self, crew: Crew, policy: Policy) -> None:
        self.crew, self.policy, self.bench = crew, policy, crew.bench
        self.prior: dict[str, Three] = {}
        self.cleared: set[str] = set()
        self.looks: dict[str, int] = {}

    def run(self) -> dict[str, str]:
        bench, policy = self.bench, self.policy
        self._count("pilot", lambda: self.crew.look("first", draw(bench.ids, policy.pilot, "pilot")))
        self.relearn()
        self._count("second", self.look_again)
        if policy.auto_clear:
            self.relearn()
            self._count(
                "first", lambda: self.crew.look("first", self.copies_last()[: round(policy.early * len(bench.ids))])
            )
            self.relearn()
            self._count("second", self.look_again)
            self._count("check", self.check)
        self._count("first", self.label_the_rest)
        self.relearn()
        self._count("second", self.look_again)
        self._count("audit", self.audit)
        return self.decisions()

    def relearn(self) -> None:
        ids = self.bench.ids
        found = relearn(self.bench.features, self.bench.groups, answers_of(self.crew.labels, ids), self.bench.first)
        self.prior = {pair: (row[0], row[1], row[2]) for pair, row in zip(ids, found.tolist(), strict=True)}

    def copies_last(self) -> list[str]:
        """What nobody has seen, the least likely copies first."""
        left = [pair for pair in self.bench.ids if pair not in self.crew.seen]
        return sorted(left, key=lambda pair: (self.prior[pair][0], pair))

    def label_the_rest(self) -> None:
        left = [pair for pair in self.bench.ids if pair not in self.cleared and pair not in self.crew.seen]
        wanted = self.policy.wanted * sum(label == "hard_negative" for label in self.bench.truth.values())
        left.sort(key=lambda pair: (-self.prior[pair][1], pair))
        if self.policy.wanted >= 1:
            self.crew.look("first", left)
        while self.policy.wanted < 1 and left and self.kept_so_far() < wanted:
            self.crew.look("first", left[:250])
            left = left[250:]

    def kept_so_far(self) -> int:
        return Counter(self.crew.decisions().values())["hard_negative"]

    def look_again(self) -> None:
        """`double-check --which uncertain`, then `adjudicate`."""
        posterior = posterior_of(self.crew.labels, self.prior)
        self.crew.look("double_check", doubtful(*posterior, self.policy.tolerance, self.policy.discard_tolerance))
        self.crew.look("adjudication", self.crew.disputed())

    def check(self) -> None:
        """`push --check-pairs`, the disputed ones of them, then `auto-clear`."""
        copies = {pair: three[0] for pair, three in self.prior.items()}
        self.crew.look("first", slice_pairs(copies, self.policy.check_above, self.policy.check_pairs), people=2)
        self.crew.look("adjudication", self.crew.disputed())
        decisions = resolve(self.crew.tasks, self.crew.labels, audited=False)
        given = given_to_two(self.crew.tasks)
        self.clearing = check(copies, self.policy.check_above, given, verdicts_of_two(decisions), self.policy.allowed)
        labelled = set(self.crew.labels["pair_id"].to_pylist())
        self.cleared = set(clearable(copies, self.clearing, labelled))

    def audit(self) -> None:
        """`ndec annotate audit`, until no pair of it is disputed and no copy unconfirmed, or nobody is left."""
        crew = self.crew
        decisions = resolve(crew.tasks, crew.labels, self.cleared, audited=False)
        self.before = decisions_of(decisions)
        self.kept = kept_pairs(self.bench.candidates, decisions, "test")
        drawn = draw(self.kept, self.policy.audit_pairs)
        crew.look("audit", drawn, people=2)
        while True:
            votes = votes_of(crew.labels)
            again = {*disputed(votes), *unconfirmed(votes)}
            more = {pair: len(votes[pair]) + 1 for pair in sorted(again) if crew.free(pair)}
            if not more:
                break
            crew.give("audit", more)
        self.found = look(len(self.kept), drawn, votes_of(crew.labels))

    def decisions(self) -> dict[str, str]:
        return decisions_of(resolve(self.crew.tasks, self.crew.labels, self.cleared))

    def _count(self, name: str, work: Callable[[], None]) -> None:
        before = self.crew.looks
        work()
        self.looks[name] = self.looks.get(name, 0) + self.crew.looks - before


POLICIES = (
    None,
    Policy("ndec, auto-clear on", auto_clear=True),
    Policy("ndec, auto-clear off", auto_clear=False),
)
MORE = (  # with one mix of people only
    Policy("ndec, tighter tolerances", auto_clear=False, tolerance=0.005, discard_tolerance=0.02),
    Policy("ndec, likeliest first, stopped at 80 % of the hard negatives", auto_clear=False, wanted=0.8),
    Policy(
        "ndec, tighter tolerances, stopped at 80 % of the hard negatives",
        auto_clear=False,
        wanted=0.8,
        tolerance=0.005,
        discard_tolerance=0.02,
    ),
)
