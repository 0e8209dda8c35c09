"""`ndec annotate status`: who has labelled how much, from the tables in the workspace (as of the last pull)."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

from ndec_builder.annotation.labels import read_labels, read_tasks
from ndec_builder.annotation.settings import StatusConfig
from ndec_builder.core.schemas import ROUNDS
from ndec_builder.core.workspace import Workspace

_PAUSE_SECONDS = 300.0  # a longer gap between two labels is a break, not work


def status(config: StatusConfig) -> list[dict[str, Any]]:
    """One row per round and annotator: pairs, done, left, labels_per_hour (null before the second label)."""
    workspace = Workspace(config.workspace)
    tasks, labels = read_tasks(workspace, config.split).to_pylist(), read_labels(workspace, config.split).to_pylist()
    rows = []
    raters = {(task["round"], task["annotator"]) for task in tasks}
    for round_, annotator in sorted(raters, key=lambda rater: (ROUNDS.index(rater[0]), rater[1])):
        own = [row for row in labels if (row["round"], row["annotator"]) == (round_, annotator)]
        pairs = sum((task["round"], task["annotator"]) == (round_, annotator) for task in tasks)
        done = len({row["pair_id"] for row in own})
        rows.append(
            {"split": config.split, "round": round_, "annotator": annotator, "pairs": pairs, "done": done,
             "left": pairs - done, "labels_per_hour": labels_per_hour([row["annotated_at"] for row in own])}
        )  # fmt: skip
    return rows


def labels_per_hour(moments: list[datetime]) -> float | None:
    """Labels per hour of work: gaps above five minutes are breaks. None when there is no gap to measure."""
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(sorted(moments))]
    working = [gap for gap in gaps if gap <= _PAUSE_SECONDS]
    return round(3600 * len(working) / sum(working), 1) if sum(working) > 0 else None


def as_text(rows: list[dict[str, Any]]) -> str:
    """The rows as a table for the terminal."""
    names = ["round", "annotator", "pairs", "done", "left", "labels_per_hour"]
    cells = [names, *([("-" if row[name] is None else str(row[name])) for name in names] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)
