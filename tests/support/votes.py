"""Tables of labels and tasks from votes written as tuples, and what a push would add to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from ndec_builder.annotation.assignment.rounds import new_tasks
from ndec_builder.annotation.settings import PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import LABEL_ROWS, TASKS, table_of
from ndec_builder.core.workspace import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
Vote = tuple[str, str, str, str]  # pair_id, round, annotator, label


def labels_of(votes: list[Vote]) -> pa.Table:
    """One label a second, three seconds each, in the order given."""
    rows = [
        {"pair_id": p, "round": r, "annotator": a, "label": label, "seconds": 3.0, "batch": 1, "is_gold": False,
         "annotated_at": START + timedelta(seconds=number)}
        for number, (p, r, a, label) in enumerate(votes)
    ]  # fmt: skip
    return table_of(LABEL_ROWS, rows)


def tasks_of(votes: list[Vote]) -> pa.Table:
    """The tasks that these votes answer, each once."""
    rows = [
        {"pair_id": p, "round": r, "annotator": a, "batch": 1, "position": number + 1, "query_id": f"q-{p}",
         "reference_id": f"r-{p}", "is_gold": False}
        for number, (p, r, a) in enumerate(dict.fromkeys(vote[:3] for vote in votes))
    ]  # fmt: skip
    return table_of(TASKS, rows)


def push_rows(
    config: PushConfig, candidates: list[pa.Table], tasks: pa.Table | None = None, labels: pa.Table | None = None
) -> pa.Table:
    """The rows that a push adds, given these tables in place of those in the workspace."""
    tables = AnnotationTables(Workspace(config.workspace), config.split)
    tables.candidates = candidates
    tables.tasks = table_of(TASKS, []) if tasks is None else tasks
    tables.labels = table_of(LABEL_ROWS, []) if labels is None else labels
    return new_tasks(config, tables)
