"""Turns Label Studio's annotations into label rows and detects edits and deletions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ndec_builder.annotation.label_studio.server_snapshot import Assignee, KnownTask, ServerSnapshot, incidents_for
from ndec_builder.annotation.records.pictures import tag_of
from ndec_builder.core.schemas import LABELS

_Row = dict[str, Any]
# A slow request may carry a time stamp slightly older than one already pulled; reading tasks twice is harmless.
_LOOK_BACK = timedelta(seconds=60)
_PAGE = 500  # tasks with all their fields


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

    task: int | None  # None: the task is gone
    pair_id: str | None  # the question (records/pictures.py)
    answer: Annotation | None = None
    skip: Annotation | None = None
    pictures: str | None = None  # tag of the bytes that the task was made for


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
    found: Iterable[Any] = client.tasks.list(project=project, page_size=_PAGE, query=query)
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
        given, tag = task.annotations, tag_of(task.data)
        pair_id = snapshot.question(named_pair(task), tag)
        row = snapshot.add_task(assignee, project, task.id, pair_id, tag)
        answer = newest_annotation(given, row.state or "", row.annotation)
        if not given and row.annotation is not None:
            found.incidents += _deleted(row)
        skip = newest_annotation(given, cancelled=True) if answer is None else None
        answered = None if answer is None else _used_parts(answer)
        row.annotation = None if answered is None else answered.id
        row.label = None if answered is None else answered.label
        row.state = annotation_state(given)
        pair_id = row.pair_id if row.pair_id == pair_id else pair_id  # the same object, not an equal one
        row.pictures = tag = row.pictures if row.pictures == tag else tag
        skipped = None if skip is None else _used_parts(skip)
        found.answers[row.task] = TaskAnswer(row.task, pair_id, answered, skipped, tag)
    if complete:
        for row in snapshot.tasks_of(project).values():
            if row.task in found.answers or (row.annotation is not None and still(row.annotation)):
                continue
            if row.annotation is not None:
                found.incidents += _deleted(row)
            row.annotation, row.label, row.state = None, None, ""
            found.answers[row.task] = TaskAnswer(row.task, row.pair_id, pictures=row.pictures)
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


def _deleted(row: KnownTask) -> list[_Row]:
    (incident,) = incidents_for([row], "annotation_deleted")
    return [incident | {"detail": f"annotation {row.annotation}"}]


def annotation_state(annotations: Sequence[_Row]) -> str:
    """Ids and change times of a task's annotations: equal states mean that nothing was changed."""
    return " ".join(sorted(_identity(annotation) for annotation in annotations))


def _identity(annotation: _Row) -> str:
    return f"{annotation['id']}@{annotation['updated_at']}"


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
            moment_of(annotation["updated_at"]),
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
    return next((label for label in LABELS if choices == [label]), None)


def moment_of(updated_at: str) -> datetime:
    """The time of a change, by Label Studio's clock."""
    return datetime.fromisoformat(updated_at).astimezone(UTC)
