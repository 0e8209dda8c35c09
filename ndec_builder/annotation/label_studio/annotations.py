"""Turns Label Studio's annotations into label rows and detects edits and deletions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from ndec_builder.annotation.label_studio.restored_server import KeptLabels
from ndec_builder.annotation.label_studio.server_snapshot import Assignee, ServerSnapshot, incidents_for
from ndec_builder.annotation.records.skips import DELETED, SKIPPED, LabelState
from ndec_builder.core.schemas import LABEL_ROWS, LABELS, table_of

_Row = dict[str, Any]
# A slow request may carry a time stamp slightly older than one already pulled; reading tasks twice is harmless.
_LOOK_BACK = timedelta(seconds=60)
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Annotation:
    """The parts of an annotation that ndec uses. Label Studio's own records take 20 times the memory."""

    id: int
    task: int | None
    label: str | None  # None: no known choice
    updated_at: str
    seconds: float | None
    user: int | None  # the last person to change it


@dataclass(frozen=True, slots=True)
class TaskAnswer:
    """What Label Studio holds for one task: the annotation that counts, or else the skip, or neither."""

    task: int
    pair_id: str | None
    answer: Annotation | None = None
    skip: Annotation | None = None


@dataclass
class ProjectChanges:
    """What was answered in the tasks of one project, and the incidents found among them."""

    answers: dict[int, TaskAnswer] = field(default_factory=dict)
    incidents: list[_Row] = field(default_factory=list)

    def add(self, later: ProjectChanges) -> None:
        """Add the result of a later request; its version of a task replaces the earlier one."""
        self.answers |= later.answers
        self.incidents += later.incidents


def changed_tasks(client: Any, project: int, since: datetime | None) -> Iterable[Any]:
    """A project's tasks with their annotations: those changed after `since` (minus a margin), or all labelled ones."""
    if since is None:
        return labelled_tasks(client, project)
    moment = (since - _LOOK_BACK).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    item = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": moment}
    return _tasks(client, project, "and", [item])


def labelled_tasks(client: Any, project: int) -> Iterable[Any]:
    """Every task of a project that has an annotation or was skipped."""
    names = ("total_annotations", "cancelled_annotations")
    items = [{"filter": f"filter:tasks:{n}", "operator": "greater", "type": "Number", "value": 0} for n in names]
    return _tasks(client, project, "or", items)


def _tasks(client: Any, project: int, conjunction: str, items: list[_Row]) -> Iterable[Any]:
    query = json.dumps({"filters": {"conjunction": conjunction, "items": items}})
    found: Iterable[Any] = client.tasks.list(project=project, fields="all", page_size=1000, query=query)
    return found


def annotation_exists(client: Any, annotation: int) -> bool:
    """Whether Label Studio has an annotation with this id."""
    from label_studio_sdk.core.api_error import ApiError

    try:
        client.annotations.get(annotation)
    except ApiError as error:
        if error.status_code == 404:
            return False
        raise
    return True


def update_snapshot(
    tasks: Iterable[Any],
    snapshot: ServerSnapshot,
    assignee: Assignee,
    project: int,
    *,
    complete: bool = False,
    still: Callable[[int], bool] = lambda _: False,
    inspect: Callable[[Any], Sequence[_Row]] = lambda _: (),
) -> ProjectChanges:
    """Write the tasks' newest annotations into the snapshot; labels that no longer exist are incidents.

    `tasks` is read once, and no task is kept. `inspect` returns more incidents of a task.
    `complete`: `tasks` are all tasks that Label Studio counts as labelled, so every other task has lost its label,
    unless `still` finds its annotation: a server that was killed may have saved an annotation without counting it.
    """
    found = ProjectChanges()
    for task in tasks:
        found.incidents += inspect(task)
        given, pair_id = task.annotations or [], named_pair(task)
        row = snapshot.add_task(assignee, project, task.id, pair_id)
        answer = newest_annotation(given, row["state"] or "", row["annotation"])
        if not given and row["annotation"] is not None:
            found.incidents += _deleted(row)
        row["annotation"] = None if answer is None else answer["id"]
        skip = newest_annotation(given, cancelled=True) if answer is None else None
        answered = None if answer is None else _used_parts(answer)
        row["label"] = None if answered is None else answered.label
        row["state"] = annotation_state(given)
        found.answers[task.id] = TaskAnswer(task.id, pair_id, answered, None if skip is None else _used_parts(skip))
    if complete:
        for row in snapshot.tasks_of(project).values():
            if row["task"] in found.answers or (row["annotation"] is not None and still(row["annotation"])):
                continue
            if row["annotation"] is not None:
                found.incidents += _deleted(row)
            row.update(annotation=None, label=None, state="")
            found.answers[row["task"]] = TaskAnswer(row["task"], row["pair_id"])
    return found


def named_pair(task: Any) -> str | None:
    """The pair that a task names; None if it names none, which a task added by hand may do."""
    found = task.data.get("pair_id")
    return found if isinstance(found, str) else None


def _used_parts(annotation: _Row) -> Annotation:
    user = annotation.get("updated_by") or annotation.get("completed_by")  # an id or a short record
    return Annotation(
        annotation["id"],
        annotation.get("task"),
        chosen_label(annotation.get("result") or []),
        annotation["updated_at"],
        annotation.get("lead_time"),
        user.get("id") if isinstance(user, dict) else user,
    )


def _deleted(row: _Row) -> list[_Row]:
    (incident,) = incidents_for([row], "annotation_deleted")
    return [incident | {"detail": f"annotation {row['annotation']}"}]


def annotation_state(annotations: Sequence[_Row]) -> str:
    """Ids and change times of a task's annotations: equal states mean that nothing was changed."""
    return " ".join(sorted(_identity(annotation) for annotation in annotations))


def _identity(annotation: _Row) -> str:
    return f"{annotation['id']}@{annotation['updated_at']}"


@dataclass
class NewRows:
    """Rows that a pull adds to labels.parquet, skips.parquet and incidents.parquet."""

    labels: list[_Row] = field(default_factory=list)
    skips: list[_Row] = field(default_factory=list)
    incidents: list[_Row] = field(default_factory=list)

    def take_labels(self) -> pa.Table:
        """The label rows as a table (schema LABEL_ROWS); the list is empty afterwards."""
        parts = [table_of(LABEL_ROWS, ())]
        while self.labels:  # a table takes a tenth of the memory of the rows
            parts.append(table_of(LABEL_ROWS, self.labels[-_ROWS_AT_ONCE:]))
            del self.labels[-_ROWS_AT_ONCE:]
        return pa.concat_tables(parts)


def new_rows(
    found: Iterable[TaskAnswer],
    pairs: Mapping[str, Mapping[str, Any]],
    states: Mapping[str, LabelState],
    counts: Counter[str],
    assignee: Assignee,
    project: int,
    logins: Mapping[int, str],
    kept: KeptLabels,
) -> NewRows:
    """Labels that differ from the newest valid one of the pair, skips and withdrawn labels, incidents for changes.

    Nothing for labels that count although Label Studio has an older answer or none (`kept`).

    `pairs` are all assigned pairs of the split: a label given in this project counts even if the pair has moved to
    another annotator. `states`: pair_id → what is stored for this annotator and round. Adds to `counts`: new, changed,
    newly_skipped, withdrawn (labels that no longer count), foreign (not a pair of this split), unreadable (no known
    choice).
    """
    by_pair: dict[str, list[TaskAnswer]] = {}
    for one in found:
        if one.pair_id in pairs:
            by_pair.setdefault(str(one.pair_id), []).append(one)
        elif one.answer or one.skip:
            counts["foreign"] += 1
    rows = NewRows()
    for pair_id, same in by_pair.items():
        state = states.get(pair_id, LabelState())
        who = {"round": assignee[0], "annotator": assignee[1], "project": project, "pair_id": pair_id}
        answers = [one.answer for one in same if one.answer is not None]
        answer = max(answers, key=_age, default=None)
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
        if label == state.label or kept.keeps(who, state, new, _moment(answer.updated_at)):
            continue
        counts["new" if state.label is None else "changed"] += 1
        login = {"login": _login(answer, logins)}
        if state.label is not None:
            change = {"label": state.label, "new_label": label, "detail": answer.updated_at}
            rows.incidents.append(who | login | change | {"kind": "annotation_changed", "task": answer.task})
        given = {"label": label, "seconds": answer.seconds, "annotated_at": _moment(answer.updated_at)}
        rows.labels.append(who | login | given | {name: pairs[pair_id][name] for name in ("is_gold", "batch")})
    return rows


def _withdrawal(same: Sequence[TaskAnswer], state: LabelState, project: int) -> _Row | None:
    """The row for a pair that Label Studio has no label of, if it says something new.

    A label that was given in another project is not missing here: that project was deleted, and its labels stay.
    """
    skip = max((one.skip for one in same if one.skip is not None), key=_age, default=None)
    row: _Row = {"task": same[0].task, "label": state.label, "label_rows": state.rows, "skip": skip}
    if skip is not None and not state.skipped:
        return row | {"kind": SKIPPED, "annotation": skip.id, "at": _moment(skip.updated_at), "task": skip.task}
    if skip is None and state.label is not None and state.project in (None, project):
        return row | {"kind": DELETED}
    return None


def newest_annotation(
    annotations: Sequence[_Row], known: str = "", counted: int | None = None, *, cancelled: bool = False
) -> _Row | None:
    """The annotation that counts: the newest that was not skipped (`cancelled`: the newest skip).

    `known`: `annotation_state` at the last check; `counted`: id of the annotation that counted then. What is new or
    changed since then is newer than what is not, whatever the server's clock said; if nothing is, the same one counts.
    """
    given = [annotation for annotation in annotations if bool(annotation.get("was_cancelled")) == cancelled]
    seen = known.split()

    def order(annotation: _Row) -> tuple[bool, bool, datetime, int]:
        return (
            _identity(annotation) not in seen,
            annotation["id"] == counted,
            _moment(annotation["updated_at"]),
            annotation["id"],
        )

    return max(given, key=order) if given else None


def chosen_label(result: Sequence[_Row]) -> str | None:
    """The choice of the control `verdict` in an annotation's result, or None when it is not exactly one known label."""
    choices: list[Any] = []
    for item in result:  # the API accepts anything here
        value = item.get("value") if isinstance(item, dict) and item.get("from_name") == "verdict" else None
        given = value.get("choices") if isinstance(value, dict) else None
        choices += given if isinstance(given, list) else []
    return choices[0] if len(choices) == 1 and choices[0] in LABELS else None


def _login(answer: Annotation | None, logins: Mapping[int, str]) -> str | None:
    """Login of the last person to change the annotation."""
    return logins.get(answer.user) if answer is not None and answer.user is not None else None


def _age(annotation: Annotation) -> tuple[datetime, int]:
    return _moment(annotation.updated_at), annotation.id


def _moment(updated_at: str) -> datetime:
    return datetime.fromisoformat(updated_at).astimezone(UTC)
