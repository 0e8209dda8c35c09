"""The audit of the kept hard negatives: a random sample is re-labelled by an annotator who has not seen the pairs.

At least two annotators have then labelled each sampled pair without seeing a pre-label: the one whose label kept it,
and the one of the audit, who does not know the first label. If hints were ever shown, the first label may have followed
a hint, so two annotators re-label each pair. A "copy" label triggers one more label, until one side leads; only labels
of the audit count. The sample is the beginning of a hash order of the kept pairs: anyone can draw it again, and a
larger sample contains a smaller one.

The bound is on the share of edited copies left after the copies that the audit found are removed: out of a finite
number of pairs, of which some were re-labelled. An annotator may overlook a copy; at most a share MISSED of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.anytime_bound import watched_upper, weighted_upper
from ndec_builder.annotation.decisions.binomial import rare_upper
from ndec_builder.annotation.decisions.label_statistics import MISSED, draw_pairs
from ndec_builder.annotation.decisions.weighted_draws import draw_chances, weighted_order
from ndec_builder.annotation.label_tables import AUDIT_ROUND, keys, newest_labels
from ndec_builder.annotation.push_options import PushOptions
from ndec_builder.candidates.kept_queries import kept_queries
from ndec_builder.core.storage import read_json, write_json

GOAL = 0.01  # upper bound that the audit should reach: share of edited copies among kept hard negatives
NO_COPY = ("hard_negative", "unrelated")
SKIPPED = "skipped"  # verdict of an open pair that somebody skipped
CONFIRMED = 3  # a copy that leads by this many labels needs no further one


@dataclass(frozen=True)
class Audit:
    """What the audit has found so far. Disputed and unsure pairs count as edited copies until they are decided."""

    kept: int  # hard negatives that are kept without the audit
    drawn: int  # size of the random sample of them that was given to annotators
    audited: int  # pairs of the sample with as many new labels as needed
    copies: int  # of those, edited copies
    doubtful: int  # of those, disputed or unsure
    bound: float | None  # one-sided 95 % upper bound of the share of edited copies left; None without an audited pair
    judges: int = 1  # annotators who re-label each pair
    watched_bound: float | None = None  # the same, but it may be watched: stop whenever it is low enough
    weighted: bool = False  # doubtful pairs were drawn more often; then `bound` is `watched_bound`
    skipped: int = 0  # open pairs that an annotator skipped or whose label was withdrawn: they count as copies
    later: int = 0  # pairs given for the audit behind a pair kept since: they count once that one is drawn

    @property
    def open(self) -> int:
        return self.drawn - self.audited

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"open": self.open, "confidence": 0.95, "missed_at_most": MISSED}


def audit_judges(options: PushOptions) -> int:
    """How many annotators re-label each pair of the audit: two if hints were ever shown, else one."""
    return 2 if options.ever_shown else 1


def kept_pairs(candidates: pa.Table | None, decisions: pa.Table, split: str) -> list[str]:
    """Pairs that a dataset would keep as hard negatives: in the split test those of kept queries, in train all.

    `candidates`: all pairs of the split; without them every pair decided hard_negative.
    """
    hard = set(decisions.filter(pc.equal(decisions["decision"], "hard_negative"))["pair_id"].to_pylist())
    if candidates is None:
        return sorted(hard)
    kept = kept_queries(candidates, decisions).kept if split == "test" else None
    return sorted(
        pair
        for pair, query, duplicate in keys(candidates, "pair_id", "query_id", "duplicate_of")
        if pair in hard and duplicate is None and (kept is None or query in kept)
    )


def audit_votes(labels: pa.Table) -> dict[str, list[str]]:
    """pair_id → the newest labels of the audit round, in the table's order."""
    votes: dict[str, list[str]] = defaultdict(list)
    for pair, round_, label in keys(newest_labels(labels), "pair_id", "round", "label"):
        if round_ == AUDIT_ROUND:
            votes[pair].append(label)
    return dict(votes)


def skipped_in_audit(skips: pa.Table) -> set[str]:
    """Pairs that somebody skipped in the audit, or whose audit label was withdrawn; they may have a label since."""
    return {pair for pair, round_ in keys(skips, "pair_id", "round") if round_ == AUDIT_ROUND}


def audit_verdict(votes: Sequence[str], asked: int = 1) -> str:
    """Whether a pair is an edited copy, by its audit labels: open, copy, clean or doubtful.

    open: fewer labels than the `asked` annotators, and none of them a copy. clean: more labels say no copy than copy.
    copy: at least two labels say copy, and more than say no copy.
    """
    copies, clean = votes.count("edited_copy"), _clean(votes)
    if not votes or (len(votes) < asked and not copies):
        return "open"
    if copies >= 2 and copies > clean:
        return "copy"
    return "clean" if clean > copies else "doubtful"


def disputed_in_audit(votes: Mapping[str, Sequence[str]]) -> list[str]:
    """Pairs that one more annotator has to decide, ascending. Two unsure labels are an answer."""
    return sorted(
        pair for pair, given in votes.items() if audit_verdict(given) == "doubtful" and given.count("unsure") < 2
    )


def unconfirmed_in_audit(votes: Mapping[str, Sequence[str]]) -> list[str]:
    """Pairs that get one more label if an annotator is left: their labels count against the dataset or an annotator.

    Two annotators with 8 % errors call about 0.1 to 0.5 % of clean pairs copies, or are both unsure: as many as a bound
    of 1 % from 300 pairs may find at all. So a copy has to lead by CONFIRMED labels, and two unsure labels are not
    final. A single "unrelated" label contradicts the label that kept the pair; a third label tells which is right.
    """
    return sorted(
        pair
        for pair, given in votes.items()
        if (audit_verdict(given) == "copy" and given.count("edited_copy") - _clean(given) < CONFIRMED)
        or (audit_verdict(given) == "doubtful" and given.count("unsure") >= 2)
        or list(given) == ["unrelated"]
    )


def _clean(votes: Sequence[str]) -> int:
    return sum(label in NO_COPY for label in votes)


def overruled(votes: Sequence[str]) -> tuple[str | None, str | None] | None:
    """(decision, basis) with which the audit replaces hard_negative; None if the decision stays."""
    found = audit_verdict(votes)
    if found == "copy":
        return "edited_copy", "adjudicated"
    if found == "doubtful":
        return ("unsure", "adjudicated") if votes.count("unsure") >= 2 else (None, None)
    return None


def audit_order(kept: Iterable[str], weights: Mapping[str, float] | None = None) -> list[str]:
    """All kept pairs in the random order of the audit; `weights`: of a weighted draw."""
    kept = list(kept)
    return draw_pairs(kept, len(kept)) if weights is None else weighted_order(kept, weights)


def audit_sample(kept: Iterable[str], given: Collection[str], weights: Mapping[str, float] | None = None) -> list[str]:
    """The sample: the longest beginning of the random order of the kept pairs that was given to annotators.

    `given`: pairs of the audit round. A pair kept since the draw ends the sample at its place: draw again then.
    """
    return list(takewhile(lambda pair: pair in given, audit_order(kept, weights)))


def sample_chances(kept: Iterable[str], drawn: Sequence[str], weights: Mapping[str, float] | None) -> np.ndarray | None:
    """The probabilities of the draws (`weighted_draws.draw_chances`); None if they are uniform."""
    return None if weights is None else draw_chances(weighted_order(kept, weights), weights)[: len(drawn)]


def evaluate_audit(
    kept: int,
    drawn: Sequence[str],
    votes: Mapping[str, Sequence[str]],
    asked: int = 1,
    chances: np.ndarray | None = None,
    skipped: Collection[str] = (),
) -> Audit:
    """Count the verdicts of the sample `drawn` and bound the share of edited copies left among all `kept` pairs.

    asked: annotators who re-label each pair (`audit_judges`). chances: of weighted draws (`sample_chances`); then a
    pair that is still open ends the part of the order that counts for the bound. skipped: pairs that somebody skipped
    (`skipped_in_audit`). People skip what is hard to tell, so without them the labelled pairs are no random sample:
    those that are still open count as copies, and stay among the kept ones.
    """
    found = [audit_verdict(votes.get(pair, ()), asked) for pair in drawn]
    found = [SKIPPED if one == "open" and pair in skipped else one for one, pair in zip(found, drawn, strict=True)]
    waiting = found.count(SKIPPED)
    audited = len(found) - found.count("open") - waiting
    copies, doubtful = found.count("copy"), found.count("doubtful")
    watched = _watched_bound(found, kept, chances)
    bound = audit_bound(copies + doubtful, audited, kept, waiting) if chances is None else watched
    return Audit(kept, len(drawn), audited, copies, doubtful, bound, asked, watched, chances is not None, waiting)


def _watched_bound(found: Sequence[str], kept: int, chances: np.ndarray | None) -> float | None:
    """As `audit_bound`, valid at every moment of the audit: the audited pairs count in the order of the draw."""
    counted = [verdict for verdict in found if verdict != "open"]
    if chances is not None:
        counted = list(takewhile(lambda verdict: verdict != "open", found))
    wrong = np.array([verdict != "clean" for verdict in counted], bool)
    if not len(wrong):
        return None
    removed = sum(verdict in ("copy", "doubtful") for verdict in found)
    if kept == removed:
        return 0.0
    if chances is None:
        most = watched_upper(wrong, kept, MISSED)
    else:
        most = weighted_upper(wrong, kept, chances[: len(wrong)], MISSED)
    return max(most - removed, 0) / (kept - removed)


def audit_bound(found: int, audited: int, kept: int, skipped: int = 0) -> float | None:
    """One-sided 95 % upper bound of the share of edited copies among the kept pairs without the `found` ones.

    skipped: pairs of the sample that are not audited; they count as copies that are still kept. None without an audited
    or skipped pair.
    """
    if not audited + skipped:
        return None
    left = kept - found
    return (rare_upper(found + skipped, audited + skipped, kept, MISSED) - found) / left if left else 0.0


def write_sample(
    directory: Path, audit: Audit, kept: Sequence[str], drawn: Sequence[str], weights: Mapping[str, float] | None = None
) -> None:
    """Keep the sample next to the decisions it was drawn from: `current_audit` then needs only the audit's labels."""
    chances = sample_chances(kept, drawn, weights)
    more = {} if chances is None else {"chances": chances.tolist()}
    write_json(directory / "audit.json", {"kept": len(kept), "sample": list(drawn), "later": audit.later} | more)


def current_audit(directory: Path, labels: pa.Table, options: PushOptions, skips: pa.Table) -> Audit | None:
    """The audit by the labels pulled so far, with the kept pairs of the last decisions; None before a draw."""
    path = directory / "audit.json"
    if not path.is_file():
        return None
    stored = read_json(path)
    votes = audit_votes(labels.filter(pc.equal(labels["round"], AUDIT_ROUND)))
    chances = np.array(stored["chances"]).reshape(-1, 2) if "chances" in stored else None
    skipped = skipped_in_audit(skips)
    found = evaluate_audit(stored["kept"], stored["sample"], votes, audit_judges(options), chances, skipped)
    return replace(found, later=stored.get("later", 0))


def pairs_needed(copies: int, kept: int, goal: float = GOAL) -> int | None:
    """The fewest audited of `kept` pairs that prove a share of at most `goal` if `copies` of them are edited copies.

    None if even all of them are too few, since an annotator may overlook a copy.
    """
    low, high = copies, kept
    if (audit_bound(copies, kept, kept) or 0.0) > goal:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if (audit_bound(copies, middle, kept) or 0.0) <= goal else (middle, high)
    return high


def pairs_to_watch(copies: int, kept: int, goal: float = GOAL) -> int | None:
    """As `pairs_needed`, for `watched_bound` of an audit that finds all its copies first (later ones need fewer)."""

    def proven(pairs: int) -> bool:
        most = watched_upper(np.arange(pairs) < copies, kept, MISSED)
        return most - copies <= goal * (kept - copies)

    if not proven(kept):
        return None
    return copies + bisect_left(range(copies, kept), True, key=proven)
