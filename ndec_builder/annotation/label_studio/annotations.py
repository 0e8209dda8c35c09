"""Turns Label Studio's annotations into label rows and detects edits and deletions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ndec_builder.annotation.label_studio.server_snapshot import Assignee, ServerSnapshot, incidents_for
from ndec_builder.annotation.records.skips import DELETED, SKIPPED, LabelState
from ndec_builder.core.schemas import LABELS

_Row = dict[str, Any]
# A slow request may carry a time stamp slightly older than one already pulled; reading tasks twice is harmless.
_LOOK_BACK = timedelta(seconds=60)


@dataclass(frozen=True)
class TaskAnswer:
    """What Label Studio holds for one task: the annotation that counts, or else the skip, or neither."""

    task: int
    pair_id: str | None
    answer: _Row | None = None
    skip: _Row | None = None


@dataclass
class ProjectChanges:
    """Tasks of one project with what was answered, and the incidents found among them."""

    tasks: list[Any] = field(default_factory=list)
    answers: dict[int, TaskAnswer] = field(default_factory=dict)
    incidents: list[_Row] = field(default_factory=list)

    def add(self, later: ProjectChanges) -> None:
        """Add the result of a later request; its version of a task replaces the earlier one."""
        self.tasks = list({task.id: task for task in [*self.tasks, *later.tasks]}.values())
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
) -> ProjectChanges:
    """Write the tasks' newest annotations into the snapshot; labels that no longer exist are incidents.

    `complete`: `tasks` are all tasks that Label Studio counts as labelled, so every other task has lost its label,
    unless `still` finds its annotation: a server that was killed may have saved an annotation without counting it.
    """
    found = ProjectChanges()
    for task in tasks:
        found.tasks.append(task)
        given = task.annotations or []
        row = snapshot.add_task(assignee, project, task.id, task.data.get("pair_id"))
        answer = newest_annotation(given, row["state"] or "", row["annotation"])
        if not given and row["annotation"] is not None:
            found.incidents += _deleted(row)
        row["annotation"] = None if answer is None else answer["id"]
        row["label"] = None if answer is None else chosen_label(answer.get("result") or [])
        row["state"] = annotation_state(given)
        skip = newest_annotation(given, cancelled=True) if answer is None else None
        found.answers[task.id] = TaskAnswer(task.id, task.data.get("pair_id"), answer, skip)
    if complete:
        for row in snapshot.tasks_of(project).values():
            if row["task"] in found.answers or (row["annotation"] is not None and still(row["annotation"])):
                continue
            if row["annotation"] is not None:
                found.incidents += _deleted(row)
            row.update(annotation=None, label=None, state="")
            found.answers[row["task"]] = TaskAnswer(row["task"], row["pair_id"])
    return found


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


def new_rows(
    found: Iterable[TaskAnswer],
    pairs: Mapping[str, _Row],
    states: Mapping[str, LabelState],
    counts: Counter[str],
    assignee: Assignee,
    project: int,
    logins: Mapping[int, str],
) -> NewRows:
    """Labels that differ from the newest valid one of the pair, skips and withdrawn labels, incidents for changes.

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
        answer = newest_annotation(answers)
        if answer is None:
            row = _withdrawal(same, state, project)
            if row is not None:
                counts["newly_skipped"] += row["kind"] == SKIPPED
                counts["withdrawn"] += state.label is not None
                rows.skips.append(who | {"login": _login(row.pop("skip"), logins)} | row)
            continue
        label = chosen_label(answer.get("result") or [])
        if label is None:
            counts["unreadable"] += 1
            continue
        if label == state.label:
            continue
        counts["new" if state.label is None else "changed"] += 1
        login = {"login": _login(answer, logins)}
        if state.label is not None:
            change = {"label": state.label, "new_label": label, "detail": answer["updated_at"]}
            rows.incidents.append(who | login | change | {"kind": "annotation_changed", "task": answer.get("task")})
        given = {"label": label, "seconds": answer.get("lead_time"), "annotated_at": _moment(answer)}
        rows.labels.append(who | login | given | {name: pairs[pair_id][name] for name in ("is_gold", "batch")})
    return rows


def _withdrawal(same: Sequence[TaskAnswer], state: LabelState, project: int) -> _Row | None:
    """The row for a pair that Label Studio has no label of, if it says something new.

    A label that was given in another project is not missing here: that project was deleted, and its labels stay.
    """
    skip = newest_annotation([one.skip for one in same if one.skip is not None], cancelled=True)
    row: _Row = {"task": same[0].task, "label": state.label, "label_rows": state.rows, "skip": skip or {}}
    if skip is not None and not state.skipped:
        return row | {"kind": SKIPPED, "annotation": skip["id"], "at": _moment(skip), "task": skip.get("task")}
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
        return _identity(annotation) not in seen, annotation["id"] == counted, _moment(annotation), annotation["id"]

    return max(given, key=order) if given else None


def chosen_label(result: Sequence[_Row]) -> str | None:
    """The choice of the control `verdict` in an annotation's result, or None when it is not exactly one known label."""
    choices: list[Any] = []
    for item in result:  # the API accepts anything here
        value = item.get("value") if isinstance(item, dict) and item.get("from_name") == "verdict" else None
        given = value.get("choices") if isinstance(value, dict) else None
        choices += given if isinstance(given, list) else []
    return choices[0] if len(choices) == 1 and choices[0] in LABELS else None


def _login(answer: _Row, logins: Mapping[int, str]) -> str | None:
    """Login of the last person to change the annotation; the API gives the user as an id or a short record."""
    user = answer.get("updated_by") or answer.get("completed_by")
    number = user.get("id") if isinstance(user, dict) else user
    return logins.get(number) if number is not None else None


def _moment(annotation: _Row) -> datetime:
    return datetime.fromisoformat(annotation["updated_at"]).astimezone(UTC)
