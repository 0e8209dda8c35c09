"""Turns Label Studio's annotations into label rows and detects edits and deletions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ndec_builder.annotation.label_studio.server_snapshot import Assignee, ServerSnapshot, incidents_for
from ndec_builder.core.schemas import LABELS

_Row = dict[str, Any]
# A slow request may carry a time stamp slightly older than one already pulled; reading tasks twice is harmless.
_LOOK_BACK = timedelta(seconds=60)


@dataclass
class ProjectChanges:
    """Tasks of one project with their annotations, and the incidents found among them."""

    tasks: list[Any] = field(default_factory=list)
    incidents: list[_Row] = field(default_factory=list)

    def add(self, later: ProjectChanges) -> None:
        """Add the result of a later request; its version of a task replaces the earlier one."""
        self.tasks = list({task.id: task for task in [*self.tasks, *later.tasks]}.values())
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
    seen = set()
    for task in tasks:
        found.tasks.append(task)
        seen.add(task.id)
        row = snapshot.add_task(assignee, project, task.id, task.data.get("pair_id"))
        answer = newest_annotation(task.annotations or [])
        if answer is None and row["annotation"] is not None:
            found.incidents += incidents_for([row], "annotation_deleted")
        row["annotation"] = None if answer is None else answer["id"]
        row["label"] = None if answer is None else chosen_label(answer.get("result") or [])
    if complete:
        for row in snapshot.tasks_of(project).values():
            if row["task"] not in seen and row["annotation"] is not None and not still(row["annotation"]):
                found.incidents += incidents_for([row], "annotation_deleted")
                row.update(annotation=None, label=None)
    return found


def new_labels(
    found: Iterable[Any],
    pairs: Mapping[str, _Row],
    labels: Sequence[_Row],
    counts: Counter[str],
    assignee: Assignee,
    project: int,
    logins: Mapping[int, str],
) -> tuple[list[_Row], list[_Row]]:
    """(rows of LABEL_ROWS for annotations that differ from the newest pulled label of the pair, incidents for changes).

    `found` are Label Studio's tasks (`.data`, `.annotations`). `pairs` are all assigned pairs of the split: a label
    given in this project counts even if the pair has moved to another annotator. `labels` are the pulled labels of this
    annotator and round. The newest annotation of a pair counts; skipped and cancelled ones do not. Adds to `counts`:
    new, changed, skipped, foreign (not a pair of this split), unreadable (no known choice).
    """
    known = {row["pair_id"]: row["label"] for row in labels}
    answers: dict[str, list[_Row]] = {}
    for task in found:
        pair_id = task.data.get("pair_id")
        if pair_id in pairs:
            answers.setdefault(pair_id, []).extend(task.annotations or [])
        else:
            counts["foreign"] += 1
    rows: list[_Row] = []
    incidents: list[_Row] = []
    for pair_id, answered in answers.items():
        answer = newest_annotation(answered)
        if answer is None:
            counts["skipped"] += bool(answered)
            continue
        label = chosen_label(answer.get("result") or [])
        if label is None:
            counts["unreadable"] += 1
            continue
        if label == known.get(pair_id):
            continue
        counts["changed" if pair_id in known else "new"] += 1
        who = {"round": assignee[0], "annotator": assignee[1], "project": project, "login": _login(answer, logins)}
        if pair_id in known:
            change = {"pair_id": pair_id, "label": known[pair_id], "new_label": label, "detail": answer["updated_at"]}
            incidents.append(who | change | {"kind": "annotation_changed", "task": answer.get("task")})
        given = {"label": label, "seconds": answer.get("lead_time"), "annotated_at": _moment(answer)}
        rows.append(who | given | {name: pairs[pair_id][name] for name in ("pair_id", "is_gold", "batch")})
    return rows, incidents


def newest_annotation(annotations: Sequence[_Row]) -> _Row | None:
    """The annotation that counts: the newest that was not skipped."""
    given = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    return max(given, key=lambda a: (_moment(a), a["id"])) if given else None


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
