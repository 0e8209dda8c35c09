"""Which pair goes to whom in which round. Pure functions; Label Studio Community has no assignment, so ndec assigns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.tables import Pair, latest_labels
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import TASKS, table_of

NOBODY_YET = "annotator-1"  # who labels where nobody was ever named


def pairs_to_label(tables: Iterable[pa.Table]) -> list[Pair]:
    """Pairs of the candidate tables in rank order, table after table, each once; duplicates of a reference left out."""
    pairs: dict[str, Pair] = {}
    for table in tables:
        columns = ["rank", "pair_id", "query_id", "reference_id", "duplicate_of"]
        for _, pair_id, query_id, reference_id, duplicate_of in sorted(
            zip(*(table[name].to_pylist() for name in columns), strict=True), key=lambda row: (row[0], row[2], row[3])
        ):
            if duplicate_of is None:
                pairs.setdefault(pair_id, (pair_id, query_id, reference_id))
    return list(pairs.values())


def double_check_pairs(labels: pa.Table, which: str) -> set[str]:
    """Pairs whose first-round labels agree: on hard_negative, or (which = "all") on anything."""
    return {
        pair_id
        for pair_id, rows in latest_labels(labels).items()
        if (seen := {row["label"] for row in rows if row["round"] == "first"})
        and len(seen) == 1
        and (which == "all" or seen == {"hard_negative"})
    }


def disputed_pairs(decisions: pa.Table) -> set[str]:
    """Pairs with labels but no decision: people disagree."""
    columns = (decisions[name].to_pylist() for name in ("pair_id", "decision", "labels"))
    return {pair_id for pair_id, decision, labels in zip(*columns, strict=True) if decision is None and labels > 0}


def people_of(tasks: pa.Table, labels: pa.Table, round_: str) -> tuple[str, ...]:
    """Who labels when nobody is named: those with open pairs of the round, else all of it, else all of the first one.

    So that somebody who left gets no new pairs while others are at work. `annotator-1` where nobody has any pair.
    """
    done = set(zip(*(labels[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True))
    keys = list(zip(*(tasks[name].to_pylist() for name in ("pair_id", "round", "annotator")), strict=True))
    own = [key for key in keys if key[1] == round_]
    for chosen in ([key for key in own if key not in done], own, [key for key in keys if key[1] == "first"]):
        if chosen:
            return tuple(sorted({annotator for _, _, annotator in chosen}))
    return (NOBODY_YET,)


class _Queues:
    """The queues of a round while pairs are added: whoever has the fewest open pairs comes first, ties as named."""

    def __init__(self, round_: str, annotators: Sequence[str], tasks: pa.Table, load: Mapping[str, int] | None) -> None:
        rows = tasks.to_pylist()
        self.round, self.batch = round_, 1 + max((row["batch"] for row in rows), default=0)
        self.has: dict[str, set[str]] = defaultdict(set)  # pair_id → who has it in this round
        self.position: dict[str, int] = defaultdict(int)
        for row in rows:
            if row["round"] == round_:
                self.has[row["pair_id"]].add(row["annotator"])
                self.position[row["annotator"]] = max(self.position[row["annotator"]], row["position"])
        self.open = {name: (load or {}).get(name, 0) for name in annotators}
        self.rows: list[dict[str, Any]] = []

    def free(self, barred: Collection[str]) -> list[str]:
        return sorted((name for name in self.open if name not in barred), key=lambda name: self.open[name])

    def add(self, pair: Pair, names: Sequence[str]) -> None:
        pair_id, query_id, reference_id = pair
        for name in names:
            self.open[name] += 1
            self.position[name] += 1
            self.rows.append(
                {"pair_id": pair_id, "round": self.round, "annotator": name, "batch": self.batch,
                 "position": self.position[name], "query_id": query_id, "reference_id": reference_id, "is_gold": False}
            )  # fmt: skip


def assign(
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
    """Rows (schema TASKS) for the pairs that this round has not assigned yet: a new batch after those of `tasks`.

    Each pair goes to the person with the fewest open ones (`load` before this, and the new), ties in the order named;
    never to one of `seen_by[pair_id]`. A share `overlap` of the pairs, spread evenly over the ranks, goes to
    `overlap_people` of them, or to all when they are fewer. Positions go on where the annotator's last batch ended.
    Deterministic. Raises NdecError when nobody may look at a pair.
    """
    queues = _Queues(round_, annotators, tasks, load)
    new = [pair for pair in pairs if pair[0] not in queues.has]
    for index, pair in enumerate(new):
        barred = (seen_by or {}).get(pair[0], set())
        free = queues.free(barred)
        if not free:
            raise NdecError(
                f"nobody is left for the round {round_!r}: {', '.join(sorted(barred))} saw pair {pair[0]} before, and "
                f"the annotators named are {', '.join(annotators)}; name one more person with --annotator"
            )
        several = int((index + 1) * overlap + 1e-9) > int(index * overlap + 1e-9)
        queues.add(pair, free[: overlap_people if several else 1])
    return table_of(TASKS, queues.rows)


def give(
    pairs: Mapping[str, Pair],
    people: Mapping[str, int],
    round_: str,
    annotators: Sequence[str],
    *,
    tasks: pa.Table,
    load: Mapping[str, int] | None = None,
    seen_by: Mapping[str, set[str]] | None = None,
) -> pa.Table:
    """Rows (schema TASKS) by which each pair of `people` reaches that many different persons in this round.

    In the order of `people`; whoever has the pair in this round already counts. As in `assign`, pairs go to the person
    with the fewest open ones and never to one of `seen_by[pair_id]`. Raises NdecError when there are too few people.
    """
    queues = _Queues(round_, annotators, tasks, load)
    for pair_id, wanted in people.items():
        has = queues.has.get(pair_id, set())
        missing, free = max(wanted - len(has), 0), queues.free((seen_by or {}).get(pair_id, set()) | has)
        if len(free) < missing:
            raise NdecError(
                f"too few people for the round {round_!r}: pair {pair_id} needs {missing} more who have not seen it, "
                f"and of those named ({', '.join(annotators)}) {', '.join(free) or 'nobody'} has not; name "
                f"{missing - len(free)} more with --annotator"
            )
        queues.add(pairs[pair_id], free[:missing])
    return table_of(TASKS, queues.rows)
