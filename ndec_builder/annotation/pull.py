"""`ndec annotate pull`: new and changed labels of Label Studio → rows appended to labels.parquet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ndec_builder.annotation import projects
from ndec_builder.annotation.connection import connect, talking
from ndec_builder.annotation.labels import read_labels, read_tasks
from ndec_builder.annotation.settings import PullConfig
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.locks import locked
from ndec_builder.core.runs import RunRecord
from ndec_builder.core.schemas import LABEL_ROWS, LABELS, table_of
from ndec_builder.core.storage import sha256_file, write_table
from ndec_builder.core.workspace import Workspace

RESULT_VERSION = 1
# A slow request may carry a time stamp a little before one that was pulled already; looking twice costs nothing.
_LOOK_BACK = timedelta(seconds=60)


def run(config: PullConfig) -> Path:
    """Append new labels; returns the path of labels.parquet, whose old rows stay as they are.

    Only tasks changed since the newest label of a project are asked for. A changed answer is a new row; a withdrawn one
    is reported and its row stays. Raises NdecError for projects that are gone, after the others were pulled.
    """
    record = RunRecord("annotate pull", config, RESULT_VERSION)
    workspace = Workspace(config.workspace)
    directory = workspace.annotation(config.split)
    tasks = read_tasks(workspace, config.split)
    connection = connect(workspace, config.url, config.token_file)
    client = connection.client()
    counts: Counter[str] = Counter()
    lost: list[NdecError] = []
    with locked(directory):
        labels = read_labels(workspace, config.split)
        with talking(connection, "looking for ndec's projects"):
            there = projects.find_projects(client)
        rows: list[dict[str, Any]] = []
        for round_, annotator in sorted(set(zip(*(tasks[c].to_pylist() for c in ("round", "annotator")), strict=True))):
            title = projects.project_title(workspace, config.split, round_, annotator)
            project = there.get(projects.project_key(workspace, config.split, round_, annotator))
            if project is None:
                lost.append(projects.gone(title, connection.url, config.split, round_))
                continue
            projects.report_renamed(project, title)
            own = [row for row in tasks.to_pylist() if (row["round"], row["annotator"]) == (round_, annotator)]
            old = [row for row in labels.to_pylist() if (row["round"], row["annotator"]) == (round_, annotator)]
            since = max((row["annotated_at"] for row in old), default=None)
            with talking(connection, f"pulling the project {title!r}"):
                rows += new_labels(changed_tasks(client, project.id, since), own, old, counts)
        rows.sort(key=lambda row: (row["annotated_at"], row["round"], row["annotator"], row["pair_id"]))
        path = write_table(directory / "labels.parquet", pa.concat_tables([labels, table_of(LABEL_ROWS, rows)]))
    _report(counts)
    inputs = {"tasks.parquet": sha256_file(directory / "tasks.parquet")}
    record.write(directory, counts={"labels": labels.num_rows + len(rows), **dict(counts)}, inputs=inputs)
    if lost:
        raise lost[0]
    return path


def changed_tasks(client: Any, project: int, since: datetime | None) -> Iterable[Any]:
    """Tasks of a project with their annotations; those touched after `since` (less a margin), or all."""
    query = {}
    if since is not None:
        moment = (since - _LOOK_BACK).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        item = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": moment}
        query = {"query": json.dumps({"filters": {"conjunction": "and", "items": [item]}})}
    return client.tasks.list(project=project, fields="all", page_size=1000, **query)


def new_labels(
    found: Iterable[Any], tasks: list[dict[str, Any]], labels: list[dict[str, Any]], counts: Counter[str]
) -> list[dict[str, Any]]:
    """Rows (LABEL_ROWS) for answers that differ from the newest pulled one of the same pair.

    `found` are Label Studio's tasks (`.data`, `.annotations`), `tasks` and `labels` ndec's rows of the same project. Of
    a pair's annotations the newest counts; what was skipped or cancelled does not. Adds to `counts`: new, changed,
    skipped, withdrawn (labelled once, no annotation left), foreign (no pair of ours), unreadable (no known choice).
    """
    known = {row["pair_id"]: row for row in tasks}
    newest = {row["pair_id"]: row["label"] for row in labels}
    answers: dict[str, list[dict[str, Any]]] = {}
    for task in found:
        pair_id = task.data.get("pair_id")
        if pair_id in known:
            answers.setdefault(pair_id, []).extend(task.annotations or [])
        else:
            counts["foreign"] += 1
    rows = []
    for pair_id, answered in answers.items():
        given = [annotation for annotation in answered if not annotation.get("was_cancelled")]
        if not given:
            counts["skipped"] += bool(answered)
            counts["withdrawn"] += pair_id in newest
            continue
        annotation = max(given, key=lambda a: (_moment(a), a["id"]))
        label = verdict(annotation.get("result") or [])
        if label is None:
            counts["unreadable"] += 1
        elif label != newest.get(pair_id):
            counts["changed" if pair_id in newest else "new"] += 1
            task_row = known[pair_id]
            rows.append(
                {"label": label, "seconds": annotation.get("lead_time"), "annotated_at": _moment(annotation)}
                | {name: task_row[name] for name in ("pair_id", "round", "annotator", "is_gold", "batch")}
            )
    return rows


def verdict(result: list[dict[str, Any]]) -> str | None:
    """The choice of the control `verdict` in an annotation's result, or None when it is not exactly one known label."""
    choices = [c for item in result if item.get("from_name") == "verdict" for c in item["value"].get("choices", [])]
    return choices[0] if len(choices) == 1 and choices[0] in LABELS else None


def _moment(annotation: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(annotation["updated_at"]).astimezone(UTC)


def _report(counts: Counter[str]) -> None:
    say(f"pulled {counts['new']} new and {counts['changed']} changed labels; {counts['skipped']} pairs were skipped")
    if counts["withdrawn"]:
        say(f"{counts['withdrawn']} labels were deleted in Label Studio; they stay here until answered anew")
    if counts["foreign"]:
        say(f"{counts['foreign']} tasks in ndec's projects are not ndec's pairs; they are left alone")
    if counts["unreadable"]:
        say(f"{counts['unreadable']} annotations hold no known choice; was the labelling interface changed by hand?")
