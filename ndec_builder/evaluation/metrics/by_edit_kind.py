"""How many copies a detector finds and the filter keeps, by edit and by how much of the original is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ndec_builder.evaluation.metrics.bootstrap import divide, intervals

SHARES = ((0.3, "less than 30 % of the original left"), (0.6, "30–60 % left"), (0.95, "60–95 % left"),
          (1.01, "all of it left"))  # fmt: skip
UNKNOWN_EDIT = "edit unknown (copies found in the pool, or your own)"


@dataclass(frozen=True)
class Copies:
    """The ground-truth pairs: group (p,) int of the query · found, kept (p,) bool: within the first N, not rejected.

    kinds: name → (p,) bool, which pairs belong to it; a copy with several edits belongs to several kinds.
    """

    group: np.ndarray
    found: np.ndarray
    kept: np.ndarray | None
    kinds: dict[str, np.ndarray]


def edit_kinds(edits: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Names → (p,) bool from the `edit` column (json, or null if unknown: UNKNOWN_EDIT, first, if others are known)."""
    names: dict[str, list[int]] = {}
    for row, text in enumerate(edits):
        for name in _names(text):
            names.setdefault(name, []).append(row)
    kinds = {}
    unknown = np.array([not text for text in edits], dtype=bool)
    if names and unknown.any():
        kinds[UNKNOWN_EDIT] = unknown
    for name in sorted(names, key=lambda name: (_rank(name), name)):
        kinds[name] = np.zeros(len(edits), dtype=bool)
        kinds[name][names[name]] = True
    return kinds


def by_edit_kind(copies: Copies, groups: int, replicates: int, seed: int) -> dict[str, dict[str, Any]]:
    """Per kind: copies, recall_at_n (found among the first N) and, with a filter, kept (share of those that it keeps).

    Both with intervals.
    """

    def estimate(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = weights[copies.group]
        values = {}
        for name, inside in copies.kinds.items():
            found = inside & copies.found
            values[f"{name}/recall_at_n"] = divide(drawn[found].sum(axis=0), drawn[inside].sum(axis=0))
            if copies.kept is not None:
                values[f"{name}/kept"] = divide(drawn[found & copies.kept].sum(axis=0), drawn[found].sum(axis=0))
        return values

    sizes = {}
    for name, inside in copies.kinds.items():
        sizes[f"{name}/recall_at_n"] = np.bincount(copies.group[inside], minlength=groups)
        if copies.kept is not None:
            sizes[f"{name}/kept"] = np.bincount(copies.group[inside & copies.found], minlength=groups)
    numbers = intervals(estimate, groups, replicates, seed, sizes)
    rows: dict[str, dict[str, Any]] = {}
    for name, inside in copies.kinds.items():
        rows[name] = {"copies": int(inside.sum()), "recall_at_n": asdict(numbers[f"{name}/recall_at_n"])}
        if copies.kept is not None:
            rows[name]["kept"] = asdict(numbers[f"{name}/kept"])
    return rows


def _names(text: str | None) -> set[str]:
    if not text:
        return set()
    edit = json.loads(text)
    names = {str(record["operation"]) for record in edit.get("edits", [])}
    if (share := edit.get("content_share")) is not None:
        names.add(next(name for limit, name in SHARES if share < limit))
        names.add("adds content" if edit.get("adds_content") else "adds no content")
    return names


def _rank(name: str) -> int:
    """Sort key: content shares in ascending order, then added content, then operations."""
    order = [share for _, share in SHARES] + ["adds content", "adds no content"]
    return order.index(name) if name in order else len(order)
