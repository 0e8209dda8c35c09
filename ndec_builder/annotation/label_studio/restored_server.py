"""Recognizes a Label Studio whose database is an older copy, and keeps the stored labels that it lacks.

A line in each project's description counts the answers (labels and skips) that the workspace stores of it. A pull
writes the line before it stores them. So a smaller number means an older database, whatever the clocks say, and a
larger one an older workspace. What the database lacks, or has an older answer of, becomes an incident, and later pulls
keep the stored label because of it. These incidents are counted too, so that an older workspace without them is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ndec_builder.annotation.label_studio.annotations import TaskAnswer
from ndec_builder.annotation.label_studio.server_snapshot import KnownTask
from ndec_builder.annotation.label_tables import keys
from ndec_builder.annotation.records.pictures import is_former
from ndec_builder.annotation.records.skips import OFFERED_AGAIN, LabelState
from ndec_builder.core.console import number_of

MISSING, OLDER = "label_missing", "label_older"  # kinds of incidents
_Row = dict[str, Any]


@dataclass
class KeptLabels:
    """Which stored labels of one annotator and round count although Label Studio says something else.

    labels, skips: the stored rows of this annotator and round · recorded: the incidents so far · counted: the number in
    the project's description, None without one · accept: Label Studio is right, whatever it says.
    """

    labels: pa.Table
    skips: pa.Table
    recorded: pa.Table
    counted: int | None
    accept: bool = False
    incidents: list[_Row] = field(default_factory=list)
    new_incidents: int = 0  # of these: not among the recorded ones

    @cached_property
    def stored(self) -> int:
        """How many answers the workspace stores, and how many incidents say that Label Studio lacks one."""
        skips = sum(kind != OFFERED_AGAIN for (kind,) in keys(self.skips, "kind"))
        return self.labels.num_rows + skips + sum(kind in (MISSING, OLDER) for (kind,) in keys(self.recorded, "kind"))

    @property
    def differs(self) -> bool:
        """Whether the database, or the workspace, is not the one of the last pull."""
        return self.counted not in (None, self.stored)

    @property
    def is_restored(self) -> bool:
        return self.counted is not None and self.counted < self.stored

    @property
    def is_older_workspace(self) -> bool:
        return self.counted is not None and self.counted > self.stored

    def without_task(
        self, tasks: Iterable[KnownTask], states: Mapping[str | None, LabelState], project: int
    ) -> dict[int, TaskAnswer]:
        """Answers, without a label, for pairs whose label is stored but whose task is gone; keys are negative.

        In a workspace that is an older copy only: ndec itself deleted the task, because the annotator skipped the pair
        after the copy was made. Later pulls return the pairs whose missing label is among the incidents.
        """
        known = {pair_id for kind, pair_id in keys(self.recorded, "kind", "pair_id") if kind == MISSING}
        if not known and not self.is_older_workspace:
            return {}
        present = {task.pair_id for task in tasks}
        gone = [
            pair_id
            for pair_id, state in sorted((str(name), state) for name, state in states.items())
            if not is_former(pair_id)
            and state.label is not None
            and state.project in (None, project)
            and pair_id not in present
        ]
        chosen = [pair_id for pair_id in gone if self.is_older_workspace or pair_id in known]
        return {-number: TaskAnswer(None, pair_id) for number, pair_id in enumerate(chosen, 1)}

    def missing(self) -> set[str]:
        """Pairs whose label is missing in Label Studio, as found by this pull."""
        return {row["pair_id"] for row in self.incidents if row["kind"] == MISSING}

    def keeps(self, who: Mapping[str, Any], state: LabelState, new: _Row, at: datetime | None) -> bool:
        """Whether the stored answer counts on, instead of what Label Studio has now.

        who: round, annotator, project and pair_id · new: what Label Studio has: `label`, or `kind` if it is no label,
        and `task` · at: its time, None if the label is missing. A label that is missing after database or workspace
        were replaced is not believed to be deleted. An answer with the label and the time of a row that is not the
        newest is older. So is one that is older by the clock, in a database that is an older copy.
        """
        if self.accept or not state.rows or (state.label is None and (at is None or not state.skipped)):
            return False  # a label that was deleted and is there again counts again
        pair_id, kind, other = who["pair_id"], MISSING if at is None else OLDER, new.get("kind") or new["label"]
        detail = f"given at {at.isoformat()}" if at is not None else f"label {state.rows} of the pair"
        if (kind, pair_id, state.label, other, detail) not in self._known:
            if not self._is_lost(pair_id, other, at):
                return False
            self.new_incidents += 1
        incident = {"kind": kind, "label": state.label, "new_label": other, "detail": detail, "task": new.get("task")}
        self.incidents.append({**who, **incident})
        return True

    def _is_lost(self, pair_id: str, label: str, at: datetime | None) -> bool:
        if at is None:
            return self.differs
        rows = self.labels.filter(pc.equal(self.labels["pair_id"], pair_id))
        given = list(keys(rows, "label", "annotated_at"))
        return (label, at) in given or (self.is_restored and at <= given[-1][1])

    @cached_property
    def _known(self) -> set[tuple[Any, ...]]:
        return set(keys(self.recorded, "kind", "pair_id", "label", "new_label", "detail"))


def restored_text(kept: KeptLabels, title: str) -> str:
    """What a pull says about a project of an older database."""
    missing = len(kept.missing())
    if not kept.is_restored:
        return (
            f"the workspace is an older copy: Label Studio knows of {number_of(kept.counted or 0, 'answer')} in the "
            f"project {title!r}, "
            f"and the workspace stores {kept.stored}; everything that Label Studio has is compared. "
            f"{number_of(missing, 'label is', 'labels are')} missing there and still counted (incidents.parquet: "
            "label_missing); after a deletion on purpose, "
            "run `ndec annotate pull --all --accept-deleted`"
        )
    older = len(kept.incidents) - missing
    return (
        f"the database of Label Studio is an older copy: it knows of {number_of(kept.counted or 0, 'answer')} in the "
        f"project {title!r}, "
        f"and the workspace stores {kept.stored}. {number_of(missing, 'label is', 'labels are')} missing there and "
        f"{number_of(older, 'answer is', 'answers are')} older; what the workspace stores still counts "
        "(incidents.parquet: label_missing, label_older). "
        "Labels that were given after that copy was made and never pulled are lost. To let Label Studio decide "
        "instead, run `ndec annotate pull --all --accept-deleted`"
    )
