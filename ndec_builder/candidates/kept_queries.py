"""Chooses the pool images that become hard-negative queries, from the decisions. Every other image gets a reason."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ndec_builder.core.storage import read_table, write_table

# next to the candidates: query_id of all pool images that earlier runs of `mine` found
FORMERLY_MINED = "mined.parquet"
# in the order in which they are checked
DROP_REASONS = ("duplicate", "edited_copy", "unsure", "undecided", "no_hard_negative")


@dataclass(frozen=True)
class KeptQueries:
    """kept: query_id → reference ids it is a hard negative of, ascending; dropped: query_id → one of DROP_REASONS."""

    kept: dict[str, list[str]]
    dropped: dict[str, str]


def kept_queries(candidates: pa.Table, decisions: pa.Table) -> KeptQueries:
    """Apply the rule: every pair decided hard_negative or unrelated, at least one hard_negative, none a duplicate.

    `candidates`: all pairs of the split (mined and rechecked); `decisions`: schema DECISIONS. A pair without a decision
    counts as undecided, even if nobody has seen it.
    """
    decided = dict(zip(decisions["pair_id"].to_pylist(), decisions["decision"].to_pylist(), strict=True))
    seen: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    columns = (candidates[name].to_pylist() for name in ("pair_id", "query_id", "reference_id", "duplicate_of"))
    for pair, query_id, reference_id, duplicate_of in zip(*columns, strict=True):
        label = "duplicate" if duplicate_of else decided.get(pair) or "undecided"
        seen[query_id][label].append(reference_id)
    kept, dropped = {}, {}
    for query_id in sorted(seen):
        labels = seen[query_id]
        reason = next((name for name in DROP_REASONS[:-1] if labels.get(name)), None)
        if reason is None and not labels.get("hard_negative"):
            reason = "no_hard_negative"
        if reason is None:
            kept[query_id] = sorted(labels["hard_negative"])
        else:
            dropped[query_id] = reason
    return KeptQueries(kept, dropped)


def remember_mined(directory: Path, table: pa.Table) -> None:
    """Keep the pool images of earlier mining runs in mined.parquet: no distractor may be drawn from them."""
    names = (FORMERLY_MINED, "candidates.parquet", "local.parquet", "recheck.parquet")
    files = [directory / name for name in names if (directory / name).is_file()]
    earlier = {name for path in files for name in read_table(path, ["query_id"])["query_id"].to_pylist()}
    if earlier - set(table["query_id"].to_pylist()):
        write_table(directory / FORMERLY_MINED, pa.table({"query_id": pa.array(sorted(earlier), pa.string())}))
