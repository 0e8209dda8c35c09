"""Gold pairs into people's queues: as many as were asked for, at random places, like every other pair there."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict

import numpy as np
import pyarrow as pa

from ndec_builder.core.schemas import TASKS, table_of


def gold_needed(new: pa.Table, tasks: pa.Table, share: float) -> int:
    """How many gold pairs must exist so that everybody gets a `share` of the new pairs as gold, none of them twice."""
    rows, before = new["annotator"].to_pylist(), tasks.filter(tasks["is_gold"])["annotator"].to_pylist()
    return max((before.count(name) + gold_count(rows.count(name), share) for name in set(rows)), default=0)


def gold_count(pairs: int, share: float) -> int:
    """Gold pairs for somebody who gets so many new pairs: the share of all that they then see, rounded up."""
    return math.ceil(pairs * share / (1 - share) - 1e-9)


def mix(new: pa.Table, gold: pa.Table, share: float, tasks: pa.Table, seed: int) -> pa.Table:
    """The rows `new` (of one round) with gold pairs among each annotator's, at random places; positions count anew.

    Nobody gets a gold pair twice, in whatever round. Different people get different ones where there are enough. The
    order of the other rows stays. Deterministic.
    """
    had: dict[str, set[str]] = defaultdict(set)
    for row in tasks.to_pylist():
        had[row["pair_id"]].add(row["annotator"])
    rows = sorted(new.to_pylist(), key=lambda row: (row["annotator"], row["position"]))
    pairs = gold.to_pylist()
    mixed = []
    for number, name in enumerate(sorted({row["annotator"] for row in rows})):
        own = [row for row in rows if row["annotator"] == name]
        digest = hashlib.sha256(f"{seed}/{name}/{own[0]['round']}/{own[0]['batch']}".encode()).digest()
        rng = np.random.default_rng(list(digest))
        free = [pair for pair in pairs if name not in had[pair["pair_id"]]]
        count = min(gold_count(len(own), share), len(free))
        start = number * count % max(len(free), 1)  # another stretch for everybody, while there are enough
        chosen = [(free[start:] + free[:start])[i] for i in range(count)]
        places = set(rng.permutation(len(own) + count)[:count].tolist())
        first, order, left = own[0]["position"], iter(rng.permutation(count).tolist()), iter(own)
        for place in range(len(own) + count):
            if place in places:
                pair = chosen[next(order)]
                ids = {column: pair[column] for column in ("pair_id", "query_id", "reference_id")}
                row = own[0] | ids | {"is_gold": True}
            else:
                row = next(left)
            mixed.append(row | {"position": first + place})
    return table_of(TASKS, mixed)
