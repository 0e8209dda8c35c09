"""Which images a split may not mine, so that training and test never share an image, a duplicate or a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ndec_builder.candidates.duplicates import DUPLICATE_SCORE, Resolve, find_duplicates
from ndec_builder.candidates.search import pairs_above
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import fingerprint, read_json, read_table
from ndec_builder.core.workspace import Workspace

Rows = dict[str, dict[str, Any]]  # image_id → row of its images table


@dataclass(frozen=True)
class OtherSplit:
    """The pool images that the split mined first used, and a fingerprint of them for `run.json`."""

    split: str
    used: frozenset[str]

    @property
    def fingerprint(self) -> str:
        return fingerprint(sorted(self.used))


def mined_first(workspace: Workspace, split: str) -> OtherSplit | None:
    """Return the other split when it was mined before this one, else None.

    `run.json` says which of two mined splits skipped the other: mining the first one again keeps the order.
    """
    other = next(name for name in SPLITS if name != split)
    directory = workspace.candidates(other)
    if not (directory / "candidates.parquet").is_file() or not (directory / "run.json").is_file():
        return None
    if (read_json(directory / "run.json").get("skipped") or {}).get("split") == split:
        return None
    used = read_table(directory / "candidates.parquet", ["query_id"])["query_id"].to_pylist()
    return OtherSplit(other, frozenset(used))


def skip_reasons(pool: Rows, used: Collection[str], groups: Collection[str]) -> dict[str, str]:
    """Return {image_id: reason} of the pool images to leave out: used, same bytes as a used one, or of a closed group.

    `groups` are closed from the start; the groups of used images are closed too. An image without a group has none.
    """
    hashes = {pool[image_id]["sha256"] for image_id in used if image_id in pool} - {None}
    closed = set(groups) | {pool[image_id]["group"] for image_id in used if image_id in pool}
    closed -= {None, ""}
    reasons = {}
    for image_id, row in pool.items():
        if image_id in used:
            reasons[image_id] = "used by the other split"
        elif row["sha256"] in hashes:
            reasons[image_id] = "duplicate of an image used by the other split"
        elif row["group"] in closed:
            reasons[image_id] = "group used by the other split"
    return reasons


def near_duplicates(pool: Rows, ids: list[str], vectors: Any, used: Collection[str], resolve: Resolve) -> set[str]:
    """Return the pool images that are re-encodings or resizes of used ones. `vectors`: (n, d) float16, as `ids`."""
    import numpy as np

    is_used = np.array([image_id in used for image_id in ids], dtype=bool)
    if not is_used.any() or is_used.all():
        return set()
    left, right = np.flatnonzero(is_used), np.flatnonzero(~is_used)
    found = pairs_above(vectors[left], vectors[right], DUPLICATE_SCORE)
    pairs = [
        (pool[ids[left[q]]], pool[ids[right[r]]], float(score))
        for q, r, score in zip(found.queries, found.references, found.scores, strict=True)
    ]
    marks = find_duplicates(pairs, resolve)
    return {second["image_id"] for mark, (_, second, _) in zip(marks, pairs, strict=True) if mark}


def count_reasons(reasons: dict[str, str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons.values()).items()))
