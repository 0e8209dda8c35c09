"""`stop at certified recall`, step by step: a way of the human-time study that never uses the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from human_time_way import Policy, Way

from ndec_builder.annotation.assignment.undecided_queries import pairs_of_dropped_queries
from ndec_builder.annotation.decisions.audit import (
    GOAL,
    audit_verdict,
    evaluate_audit,
    kept_pairs,
)
from ndec_builder.annotation.decisions.label_statistics import draw_pairs
from ndec_builder.annotation.decisions.recall_certificate import certify_recall, goal_of_look
from ndec_builder.annotation.label_tables import keys, newest_labels

ERROR = 0.03  # what `certify` assumes without gold pairs: the SIMULATED annotators have at most .027


@dataclass(frozen=True)
class CertifiedPolicy(Policy):
    """The settings of the way, all of them of the command line."""

    recall: float = 0.8
    batch: int = 25  # pairs of the audit between two looks at its bound
    confirm: bool = True  # double-check the hard negatives of the sample before certifying
    finish: bool = True  # label the open pairs of queries that have a hard negative and no copy


class CertifiedWay(Way):
    """sample → relearn → certify → label what it names → finish queries → second labels → audit until it proves 1 %."""

    policy: CertifiedPolicy

    def run(self) -> dict[str, str]:
        crew, ids = self.crew, self.bench.ids
        drawn = draw_pairs(ids, self.policy.pilot, "sample")
        self._count("pilot", lambda: crew.look("first", drawn))
        self.relearn()
        ranking = sorted(ids, key=lambda pair: -self.prior[pair][1])
        said = dict(keys(newest_labels(crew.labels), "pair_id", "label"))
        rank = {pair: place for place, pair in enumerate(ranking, 1)}
        positives = [pair for pair in drawn if said[pair] == "hard_negative"]
        if self.policy.confirm:
            self._count("confirm", lambda: crew.look("double_check", positives))
            again = crew.labels.filter(pc.equal(crew.labels["round"], "double_check"))
            said = dict(keys(newest_labels(again), "pair_id", "label"))
            positives = [pair for pair in positives if said[pair] == "hard_negative"]
            self.relearn()
            ranking = sorted(ids, key=lambda pair: -self.prior[pair][1])
            rank = {pair: place for place, pair in enumerate(ranking, 1)}
        ranks = np.array([rank[pair] for pair in positives], np.int64)
        goal = goal_of_look(self.policy.recall, 0.95)
        self.certificate = certify_recall(ranks, len(ids), len(drawn), goal, ERROR, confirmed=self.policy.confirm)
        self.named = ranking[: self.certificate.stop or len(ranking)]
        self._count("first", lambda: crew.look("first", [pair for pair in self.named if pair not in crew.seen]))
        self.relearn()
        if self.policy.finish:
            self._count("finish", lambda: crew.look("first", self.unfinished()))
        self._count("second", self.look_again)
        if self.policy.finish:  # second labels found more hard negatives, or none
            self._count("finish", lambda: crew.look("first", self.unfinished()))
            self._count("second", self.look_again)
        self._count("audit", self.watched_audit)
        return self.decisions()

    def unfinished(self) -> list[str]:
        """`push --finish-queries`: unseen pairs of queries with a hard negative and without a copy."""
        decisions = self.resolved()
        decided = dict(keys(decisions, "pair_id", "decision"))
        hard = {query for pair, query, _ in self.bench.pairs if decided.get(pair) == "hard_negative"}
        out = pairs_of_dropped_queries(self.bench.pairs, decisions)
        return [
            pair
            for pair, query, _ in self.bench.pairs
            if query in hard and pair not in out and pair not in self.crew.seen
        ]

    def watched_audit(self) -> None:
        """`audit --pairs N` with a growing N, until the bound that may be watched is at most 1 %."""
        crew = self.crew
        kept = kept_pairs(self.bench.candidates, self.resolved(), "test")
        order = [pair for pair in draw_pairs(kept, len(kept)) if crew.free(pair)]
        drawn: list[str] = []
        copies = sum(self.bench.truth[pair] == "edited_copy" for pair in kept)
        self.watched: list[tuple[float, float]] = []  # at each look: the bound, and the true share left
        while True:
            drawn = order[: len(drawn) + self.policy.batch]
            crew.give("audit", dict.fromkeys(drawn, 1))
            votes = self.settled_audit()
            self.found = evaluate_audit(len(kept), drawn, votes)
            out = [pair for pair in drawn if audit_verdict(votes[pair]) in ("copy", "doubtful")]
            left = copies - sum(self.bench.truth[pair] == "edited_copy" for pair in out)
            self.watched.append((self.found.watched_bound or 0.0, left / max(len(kept) - len(out), 1)))
            if len(drawn) >= min(len(order), self.policy.audit_pairs) or (self.found.watched_bound or 0.0) <= GOAL:
                break
        self.kept_before = kept
        self.kept = [pair for pair in kept if audit_verdict(votes.get(pair, ())) not in ("copy", "doubtful")]

    def reached(self) -> float:
        """Share of all hard negatives, by the truth, that somebody labelled: what the certificate is about."""
        hard = [pair for pair, label in self.bench.truth.items() if label == "hard_negative"]
        return sum(pair in self.crew.seen for pair in hard) / max(len(hard), 1)
