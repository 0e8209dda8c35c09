"""The stored labels by round and annotator, kept outside memory: a pull compares one project at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

import pyarrow as pa

from ndec_builder.annotation.label_tables import keys
from ndec_builder.annotation.records.label_file import LABELS_IN_MEMORY
from ndec_builder.annotation.records.pairs_of_tasks import rows_of_assignee
from ndec_builder.annotation.records.table_store import StoredTable, TableStore
from ndec_builder.core.rows import as_rows


class LabelsByAnnotator:
    """Label rows in the order of the table. `newest`: time of the newest label of each project, by its clock."""

    def __init__(self, parts: Iterable[pa.Table]) -> None:
        """Read the table once. `parts`: pieces of it (schema LABELS_IN_MEMORY), each of which is then dropped."""
        self.newest: dict[int, datetime] = {}
        self._store = TableStore()
        self._stored: defaultdict[tuple[str, str], list[StoredTable]] = defaultdict(list)
        for part in (part.unify_dictionaries() for part in parts):  # Arrow groups no chunks with different ones
            for name in keys(part.group_by(["round", "annotator"]).aggregate([]), "round", "annotator"):
                self._stored[name].append(self._store.put(rows_of_assignee(part, *name)))
            for row in as_rows(part.group_by("project").aggregate([("annotated_at", "max")])):
                if (moment := row["annotated_at_max"]) is not None:
                    self.newest[row["project"]] = max(moment, self.newest.get(row["project"], moment))

    def of(self, round_: str, annotator: str) -> pa.Table:
        """The rows of one annotator in one round."""
        found = [self._store.get(stored) for stored in self._stored[round_, annotator]]
        return pa.concat_tables([LABELS_IN_MEMORY.empty_table(), *found])
