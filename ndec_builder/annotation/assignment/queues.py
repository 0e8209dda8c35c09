"""Which pair goes to whom in a round. Pure functions; Label Studio Community assigns no tasks, so ndec does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_tables import Key, Pair, keys, labels_by_pair, of_people
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import TASKS, table_of

DEFAULT_ANNOTATOR = "annotator-1"  # labels if no annotator was ever named
TaskRow = dict[str, Any]  # a row of schema TASKS


def pairs_to_label(tables: Iterable[pa.Table]) -> list[Pair]:
    """Pairs of the candidate tables in rank order, table after table, each once; without duplicates of a reference."""
    pairs: dict[str, Pair] = {}
    for table in tables:
        columns = ["rank", "pair_id", "query_id", "reference_id", "duplicate_of"]
        for _, pair_id, query_id, reference_id, duplicate_of in sorted(
            keys(table, *columns), key=lambda row: (row[0], row[2], row[3])
        ):
            if duplicate_of is None:
                pairs.setdefault(pair_id, (pair_id, query_id, reference_id))
    return list(pairs.values())


def double_check_pairs(labels: pa.Table, which: str) -> set[str]:
    """Pairs whose first-round labels agree: on hard_negative, or (which = "all") on any label."""
    return {
        pair_id
        for pair_id, rows in labels_by_pair(labels).items()
        if (seen := {row["label"] for row in rows if row["round"] == "first"})
        and len(seen) == 1
        and (which == "all" or seen == {"hard_negative"})
    }


def disputed_pairs(decisions: pa.Table) -> set[str]:
    """Pairs with labels but no decision: the annotators disagree."""
    rows = keys(decisions, "pair_id", "decision", "labels")
    return {pair_id for pair_id, decision, labels in rows if decision is None and labels > 0}


def default_annotators(
    tasks: pa.Table, labels: pa.Table, round_: str, skipped: Collection[Key] = ()
) -> tuple[str, ...]:
    """Who labels if nobody is named: everyone with open pairs of the round, else all of the round, else of the first.

    So an annotator who left gets no new pairs while others are active. `annotator-1` if nobody has a pair yet.
    """
    done, given = {*keys(labels), *skipped}, list(keys(of_people(tasks)))
    own = [key for key in given if key[1] == round_]
    for chosen in ([key for key in own if key not in done], own, [key for key in given if key[1] == "first"]):
        if chosen:
            return tuple(sorted({annotator for _, _, annotator in chosen}))
    return (DEFAULT_ANNOTATOR,)


class Queues:
    """The annotators' queues of one round while pairs are added, as a new batch at their ends."""

    def __init__(
        self, round_: str, annotators: Sequence[str], tasks: Sequence[TaskRow], load: Mapping[str, int]
    ) -> None:
        self.round, self.batch = round_, 1 + max((row["batch"] for row in tasks), default=0)
        self.has: dict[str, set[str]] = defaultdict(set)  # pair_id → annotators who have it in this round
        self.position: dict[str, int] = defaultdict(int)
        for row in tasks:
            if row["round"] == round_:
                self.has[row["pair_id"]].add(row["annotator"])
                self.position[row["annotator"]] = max(self.position[row["annotator"]], row["position"])
        self.open = {name: load.get(name, 0) for name in annotators}
        self.rows: list[TaskRow] = []

    def eligible(self, excluded: Collection[str]) -> list[str]:
        """Annotators who are not excluded: the fewest open pairs first, ties in the order named."""
        return sorted((name for name in self.open if name not in excluded), key=lambda name: self.open[name])

    def add(self, pair: Pair, annotator: str) -> None:
        """Put the pair at the end of the annotator's queue."""
        self.open[annotator] += 1
        self.position[annotator] += 1
        self.rows.append(
            {"pair_id": pair[0], "round": self.round, "annotator": annotator, "batch": self.batch,
             "position": self.position[annotator], "query_id": pair[1], "reference_id": pair[2], "is_gold": False}
        )  # fmt: skip


def assign_new_pairs(
    pairs: Sequence[Pair],
    round_: str,
    annotators: Sequence[str],
    *,
    tasks: pa.Table,
    overlap: float = 0.0,
    overlap_people: int = 2,
    load: Mapping[str, int] | None = None,
    seen_by: Mapping[str, set[str]] | None = None,
) -> pa.Table:
    """Rows (schema TASKS) for the pairs that this round has not assigned yet, by the rules of `assign_people`.

    A share `overlap` of the pairs, spread evenly over the ranks, goes to `overlap_people` annotators, or to all who may
    label it if they are fewer; each other pair goes to one.
    """
    assigned = {pair for pair, name in keys(tasks, "pair_id", "round") if name == round_}
    new = {pair[0]: pair for pair in pairs if pair[0] not in assigned}
    people = {}
    for index, pair_id in enumerate(new):
        several = int((index + 1) * overlap + 1e-9) > int(index * overlap + 1e-9)
        allowed = len(set(annotators) - (seen_by or {}).get(pair_id, set()))
        people[pair_id] = max(1, min(overlap_people, allowed)) if several else 1
    return assign_people(new, people, round_, annotators, tasks=tasks, load=load, seen_by=seen_by)


def assign_people(
    pairs: Mapping[str, Pair],
    people: Mapping[str, int],
    round_: str,
    annotators: Sequence[str],
    *,
    tasks: pa.Table,
    load: Mapping[str, int] | None = None,
    seen_by: Mapping[str, set[str]] | None = None,
) -> pa.Table:
    """Rows (schema TASKS) that give each pair of `people` to that many different annotators in this round.

    Annotators who have the pair in this round already count. Each pair goes to the annotators with the fewest open ones
    (`load` before this call, plus the new ones), ties in the order named, never to one of `seen_by[pair_id]`. The rows
    are a new batch; positions continue each annotator's queue. Deterministic, in the order of `people`. Raises
    NdecError if too few annotators may label a pair.
    """
    queues = Queues(round_, annotators, tasks.to_pylist(), load or {})
    for pair_id, wanted in people.items():
        has = queues.has.get(pair_id, set())
        missing, eligible = max(wanted - len(has), 0), queues.eligible((seen_by or {}).get(pair_id, set()) | has)
        if len(eligible) < missing:
            raise NdecError(
                f"too few annotators for the round {round_!r}: pair {pair_id} needs {missing} more who have not seen "
                f"it, but of those named ({', '.join(annotators)}) {', '.join(eligible) or 'none'} may label it; "
                f"name {missing - len(eligible)} more with --annotator"
            )
        for name in eligible[:missing]:
            queues.add(pairs[pair_id], name)
    return table_of(TASKS, queues.rows)
