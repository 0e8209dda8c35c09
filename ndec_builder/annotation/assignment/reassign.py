"""Who takes over which open pair when annotators come and go. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ndec_builder.annotation.assignment.queues import Queues, TaskRow
from ndec_builder.annotation.label_tables import Key, keys, of_people
from ndec_builder.core.schemas import TASKS, table_of


@dataclass(frozen=True)
class Reassignment:
    """The tasks after an annotator gave rows away, and what happened to these rows."""

    tasks: pa.Table
    moved: int
    dropped: int  # gold pairs, and second labels that no eligible annotator is left for
    stuck: list[TaskRow]  # pairs that nobody may take over; they stay with the giver


def open_rows(tasks: Sequence[TaskRow], labelled: Collection[Key], round_: str, annotator: str) -> list[TaskRow]:
    """The annotator's rows of a round without a label, in queue order; gold pairs included."""
    own = [row for row in tasks if (row["round"], row["annotator"]) == (round_, annotator)]
    left = [row for row in own if (row["pair_id"], round_, annotator) not in labelled]
    return sorted(left, key=lambda row: row["position"])


def receivers_of(
    named: Sequence[str], tasks: pa.Table, round_: str, annotator: str, left: Collection[str] = ()
) -> list[str]:
    """Who takes over what `annotator` gives away: the annotators named, else all others of the round, by name.

    `left`: annotators who left; they get nothing unless they are named.
    """
    if named:
        return list(named)
    pairs = keys(of_people(tasks), "round", "annotator")
    return sorted({name for found, name in pairs if found == round_ and name != annotator} - set(left))


def who_cannot(named: Sequence[str]) -> str:
    """Why nobody can take a pair over, for messages. `named`: annotators named by the command."""
    return "all annotators named have seen them" if named else "all others of the round have seen them, or left"


def reassign(
    tasks: pa.Table,
    given: Sequence[TaskRow],
    receivers: Sequence[str],
    labelled: Collection[Key],
    seen_by: Mapping[str, set[str]] | None = None,
) -> Reassignment:
    """Give the rows `given` (all of one round) to `receivers`, by the rules of `assign_people` and in queue order.

    A pair never goes to an annotator who had it in any round or is in `seen_by[pair_id]`. If nobody can take it, a pair
    that another annotator has in this round is dropped here and stays there. Deterministic.
    """
    rows: list[TaskRow] = tasks.to_pylist()
    if not given:
        return Reassignment(tasks, 0, 0, [])
    round_ = given[0]["round"]
    leaving = {(row["pair_id"], row["round"], row["annotator"]) for row in given}
    kept = [row for row in rows if (row["pair_id"], row["round"], row["annotator"]) not in leaving]
    seen = {pair: set(names) for pair, names in (seen_by or {}).items()}
    # The giver may have seen the pair: it does not go back to them.
    for row in [*kept, *given]:
        seen.setdefault(row["pair_id"], set()).add(row["annotator"])
    queues = Queues(round_, receivers, kept, {name: len(open_rows(kept, labelled, round_, name)) for name in receivers})
    queues.batch = 1 + max((row["batch"] for row in rows), default=0)
    stuck: list[TaskRow] = []
    dropped = 0
    for row in sorted(given, key=lambda row: row["position"]):
        pair_id = row["pair_id"]
        if row["is_gold"]:  # measures the annotator who leaves, not the pair
            dropped += 1
        elif eligible := queues.eligible(seen[pair_id]):
            seen[pair_id].add(eligible[0])
            queues.add((pair_id, row["query_id"], row["reference_id"]), eligible[0])
        elif pair_id in queues.has:
            dropped += 1
        else:
            stuck.append(row)
    table = table_of(TASKS, [*kept, *stuck, *queues.rows])
    return Reassignment(table, len(queues.rows), dropped, stuck)


def rows_for_newcomers(
    tasks: Sequence[TaskRow],
    labelled: Collection[Key],
    round_: str,
    newcomers: Sequence[str],
    people: Sequence[str],
    seen_by: Mapping[str, set[str]] | None = None,
) -> Mapping[str, list[TaskRow]]:
    """Rows that each other annotator gives away from the end of their queue, so that all have about equally many open.

    A pair that a newcomer has seen, by the tasks or `seen_by[pair_id]`, stays where it is, and so do gold pairs.
    """
    seen = {pair: set(names) for pair, names in (seen_by or {}).items()}
    for row in tasks:
        seen.setdefault(row["pair_id"], set()).add(row["annotator"])
    queues = {
        name: [row for row in open_rows(tasks, labelled, round_, name) if not row["is_gold"]]
        for name in people
        if name not in newcomers
    }
    load = {name: len(open_rows(tasks, labelled, round_, name)) for name in people}
    given: dict[str, list[TaskRow]] = {name: [] for name in queues}
    taken: set[str] = set()
    while donors := [name for name in people if queues.get(name)]:
        donor = max(donors, key=lambda name: load[name])
        receiver = min(newcomers, key=lambda name: load[name])
        if load[donor] - load[receiver] <= 1:
            break
        row = queues[donor].pop()
        eligible = [name for name in newcomers if name not in seen[row["pair_id"]]]
        if not eligible or row["pair_id"] in taken:
            continue
        taken.add(row["pair_id"])
        given[donor].append(row)
        load[donor] -= 1
        load[min(eligible, key=lambda name: load[name])] += 1
    return {name: rows for name, rows in given.items() if rows}
