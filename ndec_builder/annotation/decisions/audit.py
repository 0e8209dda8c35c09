"""The audit of what was kept: hard negatives drawn at random, labelled anew by one person more who has not seen them.

So two people at least have labelled each of them, none with a pre-label in sight: somebody kept it before, and who
looks now knows nothing of that. Where hints were ever shown, who kept it may have followed one: two look anew then. Who
now says copy is asked after: more people look until one side leads, and only new
labels count then. The sample is the beginning of the order of a hash over the kept pairs, so that anyone can draw it
again, and a longer one holds a shorter one.

The bound is of the edited copies that are left once what the audit found is taken out: of a finite number of pairs,
some of them looked at. A copy that its one judge takes for none is missed; that may be a share MISSED at most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.decisions.binomial import rare_upper
from ndec_builder.annotation.decisions.label_statistics import MISSED, draw
from ndec_builder.annotation.push_options import read_told
from ndec_builder.annotation.tables import AUDIT_ROUND, newest
from ndec_builder.candidates.kept_queries import kept_queries
from ndec_builder.core.storage import read_json, write_json

GOAL = 0.01  # upper bound of the rate of edited copies among kept hard negatives
NO_COPY = ("hard_negative", "unrelated")
CONFIRMED = 3  # labels by which a copy leads before nobody looks any more


@dataclass(frozen=True)
class Audit:
    """What the audit has found so far. Disputed and unsure pairs count as edited copies until somebody decides."""

    kept: int  # hard negatives that are kept without the audit
    drawn: int  # random sample of them that was given to people
    audited: int  # of the sample, labelled anew by as many as are asked
    copies: int  # of those, edited copies
    doubtful: int  # of those, disputed or unsure
    bound: float | None  # one-sided 95 % upper bound of the rate of edited copies left; None without an audited pair
    judges: int = 1  # people who look anew at each

    @property
    def open(self) -> int:
        return self.drawn - self.audited

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"open": self.open, "confidence": 0.95, "missed_at_most": MISSED}


def judges(directory: Path) -> int:
    """How many people look anew at each pair of the audit in annotation/<split>/: two where hints were ever shown."""
    return 2 if read_told(directory).ever_shown else 1


def kept_pairs(candidates: pa.Table | None, decisions: pa.Table, split: str) -> list[str]:
    """Pairs that a dataset would keep as hard negatives: in the split test those of kept queries, in train all.

    `candidates`: all pairs of the split; without them every pair decided hard_negative.
    """
    hard = set(decisions.filter(pc.equal(decisions["decision"], "hard_negative"))["pair_id"].to_pylist())
    if candidates is None:
        return sorted(hard)
    kept = kept_queries(candidates, decisions).kept if split == "test" else None
    columns = (candidates[name].to_pylist() for name in ("pair_id", "query_id", "duplicate_of"))
    return sorted(
        pair
        for pair, query, duplicate in zip(*columns, strict=True)
        if pair in hard and duplicate is None and (kept is None or query in kept)
    )


def votes_of(labels: pa.Table) -> dict[str, list[str]]:
    """The newest labels of the audit round by pair, in the order of time in the table."""
    rows = newest(labels)
    votes: dict[str, list[str]] = defaultdict(list)
    columns = (rows[name].to_pylist() for name in ("pair_id", "round", "label"))
    for pair, round_, label in zip(*columns, strict=True):
        if round_ == AUDIT_ROUND:
            votes[pair].append(label)
    return dict(votes)


def verdict(votes: Sequence[str], asked: int = 1) -> str:
    """What a pair's audit labels say of the one question that counts: open, copy, clean or doubtful.

    open: fewer labels than the `asked` people, none of them a copy. clean: more say no copy than copy. copy: two at
    least say so, and more than say the contrary.
    """
    copies, clean = votes.count("edited_copy"), _clean(votes)
    if not votes or (len(votes) < asked and not copies):
        return "open"
    if copies >= 2 and copies > clean:
        return "copy"
    return "clean" if clean > copies else "doubtful"


def disputed(votes: Mapping[str, Sequence[str]]) -> list[str]:
    """Pairs that one more person has to decide, ascending. Two who are unsure are an answer."""
    return sorted(pair for pair, given in votes.items() if verdict(given) == "doubtful" and given.count("unsure") < 2)


def unconfirmed(votes: Mapping[str, Sequence[str]]) -> list[str]:
    """Pairs on whose label one more person is asked, if there is one: what would count against the dataset or a person.

    Two people of 8 % error call some 0.1 to 0.5 % of clean pairs copies, or are both unsure: as much as a bound
    of 1 % from 300 pairs may find at all. So a copy has to lead by CONFIRMED labels, and two unsure are not the end.
    And who alone calls a kept pair unrelated is at odds with whoever kept it: a third says who of them is right.
    """
    return sorted(
        pair
        for pair, given in votes.items()
        if (verdict(given) == "copy" and given.count("edited_copy") - _clean(given) < CONFIRMED)
        or (verdict(given) == "doubtful" and given.count("unsure") >= 2)
        or list(given) == ["unrelated"]
    )


def _clean(votes: Sequence[str]) -> int:
    return sum(label in NO_COPY for label in votes)


def overruled(votes: Sequence[str]) -> tuple[str | None, str | None] | None:
    """(decision, basis) that the audit puts in place of hard_negative; None when it leaves the decision as it is."""
    found = verdict(votes)
    if found == "copy":
        return "edited_copy", "adjudicated"
    if found == "doubtful":
        return ("unsure", "adjudicated") if votes.count("unsure") >= 2 else (None, None)
    return None


def sample(kept: Iterable[str], given: Collection[str]) -> list[str]:
    """The kept pairs of the audit: the longest beginning of their random order that was given to people.

    `given`: pairs of the audit round. Pairs kept since the draw break it off where they stand: draw again then.
    """
    kept = list(kept)
    return list(takewhile(lambda pair: pair in given, draw(kept, len(kept))))


def look(kept: int, drawn: Sequence[str], votes: Mapping[str, Sequence[str]], asked: int = 1) -> Audit:
    """Count the verdicts of the sample `drawn` and bound the rate of edited copies left among all `kept` pairs.

    asked: people who look anew at each pair (`judges`).
    """
    found = [verdict(votes.get(pair, ()), asked) for pair in drawn]
    audited = len(found) - found.count("open")
    copies, doubtful = found.count("copy"), found.count("doubtful")
    return Audit(kept, len(drawn), audited, copies, doubtful, bound_of(copies + doubtful, audited, kept), asked)


def bound_of(found: int, audited: int, kept: int) -> float | None:
    """One-sided 95 % upper bound of the rate of edited copies among kept pairs, less those that the audit `found`.

    None without an audited pair.
    """
    if not audited:
        return None
    left = kept - found
    return (rare_upper(found, audited, kept, MISSED) - found) / left if left else 0.0


def write_sample(directory: Path, kept: Sequence[str], drawn: Sequence[str]) -> None:
    """Keep the sample beside the decisions that it was drawn from: `live` needs no look at all labels then."""
    write_json(directory / "audit.json", {"kept": len(kept), "sample": list(drawn)})


def live(directory: Path, labels: pa.Table) -> Audit | None:
    """The audit as the labels pulled so far tell, with the kept pairs of the last decisions; None before a draw."""
    path = directory / "audit.json"
    if not path.is_file():
        return None
    stored = read_json(path)
    votes = votes_of(labels.filter(pc.equal(labels["round"], AUDIT_ROUND)))
    return look(stored["kept"], stored["sample"], votes, judges(directory))


def pairs_needed(copies: int, kept: int, goal: float = GOAL) -> int | None:
    """The fewest audited of `kept` pairs that prove a rate of at most `goal` when `copies` of them are edited copies.

    None where all of them are too few, since one judge may miss a copy.
    """
    low, high = copies, kept
    if (bound_of(copies, kept, kept) or 0.0) > goal:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if (bound_of(copies, middle, kept) or 0.0) <= goal else (middle, high)
    return high


def as_text(audit: Audit) -> str:
    """One line for people: what was found, the bound, and what is missing to the goal."""
    if not audit.drawn:
        return (
            f"audit: none yet of the {audit.kept:,} kept hard negatives; `ndec annotate audit` with people who "
            "have not seen them bounds the rate of edited copies among them"
        )
    by = " by two" if audit.judges > 1 else ""
    text = (
        f"audit: {audit.audited:,} of {audit.drawn:,} drawn pairs labelled anew{by}, {audit.copies} edited copies, "
        f"{audit.doubtful} doubtful (they count as copies)"
    )
    if audit.bound is None:
        return text
    text += f": at most {audit.bound:.2%} of the {audit.kept:,} kept hard negatives are edited copies (one-sided 95 %"
    text += f", if a look misses {MISSED:.0%} of the copies at most)"
    if audit.bound > GOAL and (need := pairs_needed(audit.copies + audit.doubtful, audit.kept)):
        text += f"; {GOAL:.0%} takes {need:,} audited pairs and no further copy"
    return text
