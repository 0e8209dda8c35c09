"""Label Studio's answers → label rows, and what they say about edits and deletions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ndec_builder.annotation.label_studio.server_snapshot import Held, Rater, gone
from ndec_builder.core.schemas import LABELS

Row = dict[str, Any]
# A slow request may carry a time stamp a little before one that was pulled already; looking twice costs nothing.
_LOOK_BACK = timedelta(seconds=60)


@dataclass
class Found:
    """What a look at one project found: tasks with their annotations, and incidents."""

    tasks: list[Any] = field(default_factory=list)
    incidents: list[Row] = field(default_factory=list)

    def add(self, later: Found) -> None:
        """Take over what a later look found; its view of a task counts."""
        self.tasks = list({task.id: task for task in [*self.tasks, *later.tasks]}.values())
        self.incidents += later.incidents


def changed_tasks(client: Any, project: int, since: datetime | None) -> Iterable[Any]:
    """A project's tasks with their annotations: those touched after `since` (less a margin), or all answered ones."""
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


def _tasks(client: Any, project: int, conjunction: str, items: list[Row]) -> Iterable[Any]:
    query = json.dumps({"filters": {"conjunction": conjunction, "items": items}})
    found: Iterable[Any] = client.tasks.list(project=project, fields="all", page_size=1000, query=query)
    return found


def is_there(client: Any, annotation: int) -> bool:
    """Whether Label Studio holds this annotation, asked for by its id."""
    from label_studio_sdk.core.api_error import ApiError

    try:
        client.annotations.get(annotation)
    except ApiError as error:
        if error.status_code == 404:
            return False
        raise
    return True


def compare(
    tasks: Iterable[Any],
    holds: Held,
    rater: Rater,
    project: int,
    *,
    complete: bool = False,
    still: Callable[[int], bool] = lambda _: False,
) -> Found:
    """Enter the tasks' newest annotations into what is held; labels that are not there any more are incidents.

    `complete`: the tasks are all that Label Studio counts as answered; what is not among them has no answer, unless
    `still` finds its annotation: a server that was killed may have saved one and not yet counted it.
    """
    found = Found()
    seen = set()
    for task in tasks:
        found.tasks.append(task)
        seen.add(task.id)
        row = holds.add(rater, project, task.id, task.data.get("pair_id"))
        answer = newest(task.annotations or [])
        if answer is None and row["annotation"] is not None:
            found.incidents += gone([row], "annotation_deleted")
        row["annotation"] = None if answer is None else answer["id"]
        row["label"] = None if answer is None else verdict(answer.get("result") or [])
    if complete:
        for row in holds.project(project).values():
            if row["task"] not in seen and row["annotation"] is not None and not still(row["annotation"]):
                found.incidents += gone([row], "annotation_deleted")
                row.update(annotation=None, label=None)
    return found


def new_labels(
    found: Iterable[Any],
    pairs: Mapping[str, Row],
    labels: Sequence[Row],
    counts: Counter[str],
    rater: Rater,
    project: int,
    logins: Mapping[int, str],
) -> tuple[list[Row], list[Row]]:
    """(rows of LABEL_ROWS for answers that differ from the newest pulled one of the same pair, incidents for changes).

    `found` are Label Studio's tasks (`.data`, `.annotations`), `pairs` every pair of the split that was given to
    somebody: a label given in this project counts, even if the pair moved on meanwhile. `labels` are those of this
    annotator and round. Of a pair's annotations the newest counts; what was skipped or cancelled does not. Adds to
    `counts`: new, changed, skipped, foreign (no pair of ours), unreadable (no known choice).
    """
    known = {row["pair_id"]: row["label"] for row in labels}
    answers: dict[str, list[Row]] = {}
    for task in found:
        pair_id = task.data.get("pair_id")
        if pair_id in pairs:
            answers.setdefault(pair_id, []).extend(task.annotations or [])
        else:
            counts["foreign"] += 1
    rows: list[Row] = []
    incidents: list[Row] = []
    for pair_id, answered in answers.items():
        answer = newest(answered)
        if answer is None:
            counts["skipped"] += bool(answered)
            continue
        label = verdict(answer.get("result") or [])
        if label is None:
            counts["unreadable"] += 1
            continue
        if label == known.get(pair_id):
            continue
        counts["changed" if pair_id in known else "new"] += 1
        who = {"round": rater[0], "annotator": rater[1], "project": project, "login": _login(answer, logins)}
        if pair_id in known:
            change = {"pair_id": pair_id, "label": known[pair_id], "new_label": label, "detail": answer["updated_at"]}
            incidents.append(who | change | {"kind": "annotation_changed", "task": answer.get("task")})
        given = {"label": label, "seconds": answer.get("lead_time"), "annotated_at": _moment(answer)}
        rows.append(who | given | {name: pairs[pair_id][name] for name in ("pair_id", "is_gold", "batch")})
    return rows, incidents


def newest(annotations: Sequence[Row]) -> Row | None:
    """The annotation that counts: the newest that is no skip."""
    given = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    return max(given, key=lambda a: (_moment(a), a["id"])) if given else None


def verdict(result: Sequence[Row]) -> str | None:
    """The choice of the control `verdict` in an annotation's result, or None when it is not exactly one known label."""
    choices: list[Any] = []
    for item in result:  # through the API a person may have written anything
        value = item.get("value") if isinstance(item, dict) and item.get("from_name") == "verdict" else None
        given = value.get("choices") if isinstance(value, dict) else None
        choices += given if isinstance(given, list) else []
    return choices[0] if len(choices) == 1 and choices[0] in LABELS else None


def _login(answer: Row, logins: Mapping[int, str]) -> str | None:
    """Who touched the annotation last: the API names the user by number, or by a short record."""
    user = answer.get("updated_by") or answer.get("completed_by")
    number = user.get("id") if isinstance(user, dict) else user
    return logins.get(number) if number is not None else None


def _moment(annotation: Row) -> datetime:
    return datetime.fromisoformat(annotation["updated_at"]).astimezone(UTC)
