"""Labels that came with a file of pairs become rows of labels.parquet, as first labels of the annotator `file:NAME`.

Nobody gave them in Label Studio: they have no project, no login and no time on the pair. Their time is that of the last
change of the file, so a picture that was replaced later is not labelled by them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_tables import Key, keys, newest_labels, of_files
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.candidates.outside.given_labels import given_labels
from ndec_builder.core.console import number_of, say
from ndec_builder.core.rows import as_rows
from ndec_builder.core.schemas import LABEL_ROWS, TASKS, table_of
from ndec_builder.core.vocabulary import FILE_SOURCE, LABELS

_ROUND = "first"


def take_given_labels(tables: AnnotationTables) -> int:
    """Add the labels of files that labels.parquet lacks, and their pairs to the tasks; returns how many.

    A label that differs from the stored one of its file is a new row. What was sent back stays so. The tasks are
    written first: after a kill, the next call adds the labels. Call it with the lock of the split.
    """
    new = waiting_labels(tables)
    if not new:
        return 0
    assigned = set(keys(of_files(tables.tasks)))
    # one batch for each file: nobody knows whether a label of another file was the reason for giving one here
    start = 1 + max(tables.tasks["batch"].to_pylist(), default=0)
    batch = {name: start + place for place, name in enumerate(sorted({row["annotator"] for row in new}))}
    positions = Counter(name for _, _, name in assigned)
    tasks = []
    for row in new:
        if (row["pair_id"], _ROUND, row["annotator"]) not in assigned:
            positions[row["annotator"]] += 1
            given = {name: row[name] for name in ("pair_id", "annotator", "query_id", "reference_id")}
            place = {"batch": batch[row["annotator"]], "position": positions[row["annotator"]]}
            tasks.append(given | place | {"round": _ROUND, "is_gold": False})
    if tasks:
        tables.write("tasks", pa.concat_tables([tables.tasks, table_of(TASKS, tasks)]))
    labels = [
        {"pair_id": row["pair_id"], "round": _ROUND, "annotator": row["annotator"], "label": row["label"],
         "annotated_at": row["given_at"], "is_gold": False, "batch": batch[row["annotator"]]}
        for row in new
    ]  # fmt: skip
    tables.write("labels", pa.concat_tables([tables.labels, table_of(LABEL_ROWS, labels)]))
    for name, count in sorted(Counter(row["annotator"] for row in new).items()):
        say(f"{number_of(count, 'label')} of {name} added: they came with {_source(name)}; nobody gave them here")
    return len(new)


def waiting_labels(tables: AnnotationTables) -> list[dict[str, Any]]:
    """Labels of files (rows of schema GIVEN_LABELS) that labels.parquet lacks, in the order of that table."""
    given = given_labels(tables.workspace.candidates(tables.split))
    if not given.num_rows:
        return []
    names = ("pair_id", "round", "annotator", "label", "annotated_at")
    stored = {row[:3]: row[3:] for row in keys(of_files(tables.labels), *names)}
    counting, set_aside = set(keys(of_files(tables.counting_labels))), set(keys(tables.set_aside))
    found = []
    for row in as_rows(given):
        key: Key = (row["pair_id"], _ROUND, row["annotator"])
        label, moment = stored.get(key, (None, None))
        again = key not in counting and moment is not None and row["given_at"] > moment  # its picture was replaced
        if key not in set_aside and (label != row["label"] or again):
            found.append(row)
    return found


def waiting_text(tables: AnnotationTables) -> list[str]:
    """One line if there are labels of files that no command has added yet."""
    waiting = waiting_labels(tables)
    if not waiting:
        return []
    names = ", ".join(sorted({row["annotator"] for row in waiting}))
    verb = "waits" if len(waiting) == 1 else "wait"
    return [f"{number_of(len(waiting), 'label')} of {names} {verb} for `ndec annotate resolve --split {tables.split}`"]


def given_text(labels: pa.Table) -> list[str]:
    """One line for each file whose labels count: how many of each kind. `labels`: those that count."""
    newest = newest_labels(of_files(labels))
    counts: dict[str, Counter[str]] = {}
    for name, label in keys(newest, "annotator", "label"):
        counts.setdefault(name, Counter())[label] += 1
    return [
        f"{found.total()} of them came with {_source(name)} and were not given here: "
        + ", ".join(f"{found[label]} {label}" for label in LABELS)
        for name, found in sorted(counts.items())
    ]


def _source(annotator: str) -> str:
    return annotator.removeprefix(FILE_SOURCE)
