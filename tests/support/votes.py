"""Tables of labels and tasks from votes written down as tuples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from ndec_builder.core.schemas import LABEL_ROWS, TASKS, table_of

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
