"""Turns what Label Studio answered into rows of labels.parquet, skips.parquet and incidents.parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.label_studio.annotations import Annotation, TaskAnswer, moment_of
from ndec_builder.annotation.label_studio.restored_server import KeptLabels
from ndec_builder.annotation.label_studio.server_snapshot import Assignee
from ndec_builder.annotation.records.label_file import LABELS_IN_MEMORY
from ndec_builder.annotation.records.pictures import has_tag, is_former, pair_of
from ndec_builder.annotation.records.pseudonyms import is_pseudonym
from ndec_builder.annotation.records.skips import DELETED, SKIPPED, LabelState
from ndec_builder.core.schemas import table_of

_Row = dict[str, Any]
_ROWS_AT_ONCE = 10_000
_LABEL_ORDER = ("annotated_at", "round", "annotator", "pair_id")


@dataclass
class NewRows:
    """Rows that a pull adds to labels.parquet, skips.parquet and incidents.parquet."""

    labels: list[_Row] = field(default_factory=list)  # those that are not in a table yet
    skips: list[_Row] = field(default_factory=list)
    incidents: list[_Row] = field(default_factory=list)
    _tables: list[pa.Table] = field(default_factory=list)

    def add_label(self, row: _Row) -> None:
        """Add a label row; 10,000 rows become a table, which takes a tenth of their memory."""
        self.labels.append(row)
        if len(self.labels) >= _ROWS_AT_ONCE:
            self._close()

    @property
    def label_count(self) -> int:
        return len(self.labels) + sum(table.num_rows for table in self._tables)

    def take_labels(self) -> pa.Table:
        """All label rows as a table of the schema LABELS_IN_MEMORY."""
        self._close()
        return pa.concat_tables(self._tables)

    def _close(self) -> None:
        self._tables.append(table_of(LABELS_IN_MEMORY, self.labels))
        self.labels.clear()


def new_rows(
    found: dict[int, TaskAnswer],
    pairs: Mapping[str, Mapping[str, Any]],
    states: Mapping[str | None, LabelState],
    counts: Counter[str],
    assignee: Assignee,
    project: int,
    logins: Mapping[int, str],
    kept: KeptLabels,
    again: Collection[str] = (),
) -> NewRows:
    """Labels that differ from the newest valid one of the pair, skips and withdrawn labels, incidents for changes.

    Nothing for labels that count although Label Studio has an older answer or none (`kept`).

    `pairs` are all assigned pairs of the split: a label given in this project counts even if the pair has moved to
    another annotator. `states`: question → what is stored for this annotator and round. `again`: pairs whose picture
    was replaced and that have a task with the new one. `found` is empty afterwards, so that answers and rows are not
    both in memory. Adds to `counts`: new, changed,
    newly_skipped, withdrawn (labels that no longer count), foreign (not a pair of this split), unreadable (no known
    choice), former (new or changed labels of pictures that were replaced since).
    """
    rows, logins = NewRows(), {} if is_pseudonym(assignee[1]) else logins
    for question, same in answers_by_pair(found):
        if question is None or (pair_id := pair_of(question)) not in pairs:
            counts["foreign"] += sum(one.answer is not None or one.skip is not None for one in same)
            continue
        state = states.get(question, LabelState())
        who = {"round": assignee[0], "annotator": assignee[1], "project": project, "pair_id": pair_id}
        answers = [one.answer for one in same if one.answer is not None]
        answer = max(answers, key=_age, default=None)
        if answer is None and is_former(question) and (has_tag(question) or pair_id in again):
            continue  # the pair is asked again by another task
        if answer is None:
            row = _withdrawal(same, state, project)
            if row is not None and not kept.keeps(who, state, row, row.get("at")):
                counts["newly_skipped"] += row["kind"] == SKIPPED
                counts["withdrawn"] += state.label is not None
                login = {"login": _login(row.pop("skip"), logins)}
                rows.skips.append(who | login | row)
            continue
        label = answer.label
        if label is None:
            counts["unreadable"] += 1
            continue
        new = {"label": label, "task": answer.task}
        if label == state.label or kept.keeps(who, state, new, moment_of(answer.updated_at)):
            continue
        counts["new" if state.label is None else "changed"] += 1
        login = {"login": _login(answer, logins)}
        if state.label is not None:
            change = {"label": state.label, "new_label": label, "detail": answer.updated_at}
            rows.incidents.append(who | login | change | {"kind": "annotation_changed", "task": answer.task})
        if is_former(question):
            counts["former"] += 1
        given = {"label": label, "seconds": answer.seconds, "annotated_at": moment_of(answer.updated_at)}
        given["pictures"] = next(one.pictures for one in same if one.answer is answer)
        rows.add_label(who | login | given | {name: pairs[pair_id][name] for name in ("is_gold", "batch")})
    return rows


def answers_by_pair(found: dict[int, TaskAnswer]) -> Iterator[tuple[Any, list[TaskAnswer]]]:
    """(pair_id, its answers), pairs in the order of their first answer; removes what it returns from `found`.

    Only the answers of pairs with several tasks are collected first: a dict of lists of all takes too much memory.
    """
    seen: set[str | None] = set()
    repeated: dict[str | None, list[TaskAnswer]] = {}
    for one in found.values():
        if one.pair_id in seen:
            repeated[one.pair_id] = []
        seen.add(one.pair_id)
    seen.clear()
    for one in found.values():
        if one.pair_id in repeated:
            repeated[one.pair_id].append(one)
    for number in list(found):
        one = found.pop(number)
        same = repeated.get(one.pair_id)
        if same is None:
            yield one.pair_id, [one]
        elif same[0] is one:
            yield one.pair_id, same


def _withdrawal(same: Sequence[TaskAnswer], state: LabelState, project: int) -> _Row | None:
    """The row for a pair that Label Studio has no label of, if it says something new.

    A label that was given in another project is not missing here: that project was deleted, and its labels stay.
    """
    skip = max((one.skip for one in same if one.skip is not None), key=_age, default=None)
    row: _Row = {"task": same[0].task, "label": state.label, "label_rows": state.rows, "skip": skip}
    if skip is not None and not state.skipped:
        return row | {"kind": SKIPPED, "annotation": skip.id, "at": moment_of(skip.updated_at), "task": skip.task}
    if skip is None and state.label is not None and state.project in (None, project):
        return row | {"kind": DELETED}
    return None


def _login(answer: Annotation | None, logins: Mapping[int, str]) -> str | None:
    """Login of the last person to change the annotation."""
    return logins.get(answer.user) if answer is not None and answer.user is not None else None


def _age(annotation: Annotation) -> tuple[datetime, int]:
    return moment_of(annotation.updated_at), annotation.id


def in_label_order(labels: pa.Table) -> pa.Table:
    """New labels by time, then round, annotator and pair."""
    labels = labels.unify_dictionaries()
    order = pa.table({name: _sortable(labels[name]) for name in _LABEL_ORDER})
    return labels.take(pc.sort_indices(order, [(name, "ascending") for name in _LABEL_ORDER]))


def _sortable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with the same order that Arrow can sort: ranks instead of dictionary-encoded values."""
    if not pa.types.is_dictionary(column.type) or not len(column):
        return column
    encoded = column.combine_chunks()
    ranks = pc.rank(encoded.dictionary, tiebreaker="dense").cast(pa.int32())
    return pa.chunked_array([ranks.take(encoded.indices)])
