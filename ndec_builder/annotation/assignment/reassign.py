"""Who takes over which open pair when people come and go. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ndec_builder.core.schemas import TASKS, table_of

Row = dict[str, Any]
Key = tuple[str, str, str]  # pair_id, round, annotator


@dataclass(frozen=True)
class Spread:
    """What becomes of the rows that somebody gives away."""

    tasks: pa.Table  # the tasks table afterwards
    moved: int
    dropped: int  # second looks that nobody is left for, and gold pairs: their first look stays
    stuck: list[Row]  # pairs that nobody may take over


def open_rows(tasks: Sequence[Row], labelled: Collection[Key], round_: str, annotator: str) -> list[Row]:
    """The annotator's rows of a round that have no label, in their order; gold pairs too."""
    own = [row for row in tasks if (row["round"], row["annotator"]) == (round_, annotator)]
    left = [row for row in own if (row["pair_id"], round_, annotator) not in labelled]
    return sorted(left, key=lambda row: row["position"])


def takers_of(named: Sequence[str], tasks: pa.Table, round_: str, annotator: str) -> list[str]:
    """Who takes over what `annotator` gives away: those named, else everybody else of the round, by name."""
    if named:
        return list(named)
    pairs = zip(tasks["round"].to_pylist(), tasks["annotator"].to_pylist(), strict=True)
    return sorted({name for found, name in pairs if found == round_ and name != annotator})


def spread(
    tasks: pa.Table,
    given: Sequence[Row],
    takers: Sequence[str],
    labelled: Collection[Key],
    seen_by: Mapping[str, set[str]] | None = None,
) -> Spread:
    """Give the rows `given` (all of one round) to `takers`: each to the one with the fewest open pairs, ties in order.

    Never to somebody who has the pair already, in this round or another, or is one of `seen_by[pair_id]`. A pair that
    somebody else of the round still has keeps that look and loses this one when nobody can take it. The takers' new
    rows are a new batch at the end of their queues. Deterministic.
    """
    rows: list[Row] = tasks.to_pylist()
    if not given:
        return Spread(tasks, 0, 0, [])
    round_ = given[0]["round"]
    leaving = {(row["pair_id"], row["round"], row["annotator"]) for row in given}
    kept = [row for row in rows if (row["pair_id"], row["round"], row["annotator"]) not in leaving]
    seen = {pair: set(names) for pair, names in (seen_by or {}).items()}
    # The giver saw the pair, perhaps: it does not come back to them.
    for row in [*kept, *given]:
        seen.setdefault(row["pair_id"], set()).add(row["annotator"])
    looked_at = {row["pair_id"] for row in kept if row["round"] == round_}
    load = {name: len(open_rows(kept, labelled, round_, name)) for name in takers}
    position = dict.fromkeys(takers, 0)
    for row in kept:
        if row["round"] == round_ and row["annotator"] in position:
            position[row["annotator"]] = max(position[row["annotator"]], row["position"])
    batch = 1 + max((row["batch"] for row in rows), default=0)
    new: list[Row] = []
    stuck: list[Row] = []
    dropped = 0
    for row in sorted(given, key=lambda row: row["position"]):
        free = sorted((name for name in takers if name not in seen[row["pair_id"]]), key=lambda name: load[name])
        if row["is_gold"]:  # a measure of the person who leaves, not of the pair
            dropped += 1
        elif free:
            name = free[0]
            load[name] += 1
            position[name] += 1
            seen[row["pair_id"]].add(name)
            new.append(row | {"annotator": name, "batch": batch, "position": position[name]})
        elif row["pair_id"] in looked_at:
            dropped += 1
        else:
            stuck.append(row)
    table = table_of(TASKS, [*kept, *stuck, *new])
    return Spread(table, len(new), dropped, stuck)


def for_newcomers(
    tasks: Sequence[Row], labelled: Collection[Key], round_: str, newcomers: Sequence[str], people: Sequence[str]
) -> Mapping[str, list[Row]]:
    """Rows that each of the others gives away, from the end of their queues, so that all have about as many open ones.

    A pair that a newcomer has seen stays where it is; so do gold pairs.
    """
    seen: dict[str, set[str]] = {}
    for row in tasks:
        seen.setdefault(row["pair_id"], set()).add(row["annotator"])
    queues = {
        name: [row for row in open_rows(tasks, labelled, round_, name) if not row["is_gold"]]
        for name in people
        if name not in newcomers
    }
    load = {name: len(open_rows(tasks, labelled, round_, name)) for name in people}
    given: dict[str, list[Row]] = {name: [] for name in queues}
    taken: set[str] = set()
    while donors := [name for name in people if queues.get(name)]:
        donor = max(donors, key=lambda name: load[name])
        taker = min(newcomers, key=lambda name: load[name])
        if load[donor] - load[taker] <= 1:
            break
        row = queues[donor].pop()
        free = [name for name in newcomers if name not in seen[row["pair_id"]]]
        if not free or row["pair_id"] in taken:
            continue
        taken.add(row["pair_id"])
        given[donor].append(row)
        load[donor] -= 1
        load[min(free, key=lambda name: load[name])] += 1
    return {name: rows for name, rows in given.items() if rows}
