"""Looks up the assigned pairs of a split: those of one annotator in a dict, all others in a sorted array."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.label_tables import keys
from ndec_builder.core.vocabulary import FILE_SOURCE

_Facts = Mapping[str, Any]  # is_gold, batch


class PairsOfTasks:
    """is_gold and batch of each pair of a tasks table. A million pairs take 30 MB and no Python objects."""

    def __init__(self, tasks: pa.Table) -> None:
        # Rows that a push has just added are a chunk with dictionaries of its own, which Arrow does not group.
        self._tasks = tasks.unify_dictionaries()
        self._others = _Sorted(tasks)

    def assignees(self) -> list[tuple[str, str]]:
        """Every (round, annotator) of the table, sorted. Files of pairs are left out: they have no project."""
        found = self._tasks.group_by(["round", "annotator"]).aggregate([])
        return sorted(key for key in keys(found, "round", "annotator") if not key[1].startswith(FILE_SOURCE))

    def of(self, round_: str, annotator: str) -> Mapping[str, _Facts]:
        """pair_id → {is_gold, batch} as given to this annotator, or else as in the first row of the pair."""
        own = rows_of_assignee(self._tasks, round_, annotator)
        shared: dict[tuple[bool, int], _Facts] = {}
        pairs = {
            pair_id: shared.setdefault(facts, dict(zip(("is_gold", "batch"), facts, strict=True)))
            for pair_id, *values in keys(own, "pair_id", "is_gold", "batch")
            for facts in [tuple(values)]
        }
        return ChainMap(pairs, self._others)  # type: ignore[arg-type]  # nothing is ever set in it


class _Sorted(Mapping[str, _Facts]):
    """The first row of each pair, found by binary search; the array is made at the first look-up."""

    def __init__(self, tasks: pa.Table) -> None:
        self._tasks = tasks

    @cached_property
    def _index(self) -> tuple[Any, Any]:
        """(pair_ids as UTF-8, sorted; their rows, the first row of a pair first)."""
        width = max(pc.max(pc.binary_length(self._tasks["pair_id"])).as_py() or 1, 1)
        names = np.fromiter((name.encode() for (name,) in keys(self._tasks, "pair_id")), f"S{width}", len(self._tasks))
        order = np.argsort(names, kind="stable")
        return names[order], order

    def __getitem__(self, pair_id: str) -> _Facts:
        names, order = self._index
        wanted = pair_id.encode() if isinstance(pair_id, str) else b""
        place = int(np.searchsorted(names, wanted)) if wanted else len(names)
        if place == len(names) or names[place] != wanted:
            raise KeyError(pair_id)
        (row,) = self._tasks.slice(int(order[place]), 1).select(["is_gold", "batch"]).to_pylist()
        return dict(row)

    def __iter__(self) -> Iterator[str]:
        return (name for (name,) in keys(self._tasks, "pair_id"))

    def __len__(self) -> int:
        return int(self._tasks.num_rows)


def rows_of_assignee(table: pa.Table, round_: str, annotator: str) -> pa.Table:
    """The rows of one annotator in one round."""
    return table.filter(pc.and_(pc.equal(table["round"], round_), pc.equal(table["annotator"], annotator)))
