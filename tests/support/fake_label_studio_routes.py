"""The routes of Label Studio's HTTP API that ndec uses, on the state of the fake server."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from support.fake_label_studio_state import StoredState, labels

LOGIN = "simulated@example.org"
_Row = dict[str, Any]


def _matches(task: _Row, filters: _Row) -> bool:
    found = []
    for item in filters["items"]:
        name, operator, value = item["filter"].removeprefix("filter:tasks:"), item["operator"], item["value"]
        if name == "updated_at":
            assert operator == "greater", item
            found.append(_moment(task["updated_at"]) > _moment(value))
            continue
        skipped = sum(note["was_cancelled"] for note in task["annotations"])
        number = {"total_annotations": labels(task), "cancelled_annotations": skipped}[name]
        found.append({"greater": number > value, "equal": number == value}[operator])
    return (all if filters["conjunction"] == "and" else any)(found)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _page(rows: list[_Row], query: dict[str, str]) -> list[_Row]:
    size, page = int(query.get("page_size", 100)), int(query.get("page", 1))
    return rows[size * (page - 1) : size * page]


def _projects(server: StoredState, query: dict[str, str], _: Any) -> tuple[int, Any]:
    rows = [server.project(number) for number in sorted(server.data["projects"], reverse=True)]
    names = set(query["include"].split(",")) if "include" in query else None
    found = [{name: row[name] for name in row if names is None or name in names} for row in _page(rows, query)]
    return (200, {"count": len(rows), "results": found}) if found or query.get("page", "1") == "1" else (404, {})


def _project(server: StoredState, query: dict[str, str], _: Any, number: int) -> tuple[int, Any]:
    return (200, server.project(number)) if number in server.data["projects"] else (404, {"detail": "Not found."})


def _create(server: StoredState, query: dict[str, str], body: Any) -> tuple[int, Any]:
    number = server.number("project")
    server.data["projects"][number] = body | {"id": number}
    return 201, server.project(number)


def _change(server: StoredState, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    server.data["projects"][number] |= body
    return 200, server.project(number)


def _import(server: StoredState, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    made = []
    for one in body:
        task = {"id": server.number("task"), "project": number, "data": one["data"], "annotations": []}
        server.data["tasks"][task["id"]] = task | {"updated_at": server.now()}
        made.append(task["id"])
    return 201, {"task_count": len(made), "task_ids": made}


def _list_tasks(server: StoredState, query: dict[str, str], _: Any) -> tuple[int, Any]:
    filters = json.loads(query["query"])["filters"] if "query" in query else {"conjunction": "and", "items": []}
    rows = [task for task in server.tasks_of(int(query["project"])) if _matches(task, filters)]
    shown = [
        task | {"total_annotations": labels(task), "cancelled_annotations": len(task["annotations"]) - labels(task)}
        for task in _page(rows, query)
    ]
    return 200, {"tasks": shown, "total": len(rows), "total_annotations": 0, "total_predictions": 0}


def _change_task(server: StoredState, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    server.data["tasks"][number] |= body | {"updated_at": server.now()}
    return 200, server.data["tasks"][number]


def _delete_task(server: StoredState, query: dict[str, str], _: Any, number: int) -> tuple[int, Any]:
    del server.data["tasks"][number]
    return 204, None


def _act(server: StoredState, query: dict[str, str], body: Any) -> tuple[int, Any]:
    assert query["id"] == "delete_tasks", query
    included, filters = set(body["selectedItems"]["included"]), body["filters"]
    chosen = [t for t in server.tasks_of(int(query["project"])) if t["id"] in included and _matches(t, filters)]
    for task in chosen:
        del server.data["tasks"][task["id"]]
    return 200, {"processed_items": len(chosen)}


def _annotation(server: StoredState, query: dict[str, str], _: Any, number: int) -> tuple[int, Any]:
    found = [note for task in server.data["tasks"].values() for note in task["annotations"] if note["id"] == number]
    return (200, found[0]) if found else (404, {"detail": "Not found."})


def _annotate(server: StoredState, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    """As the page does: the first answer of a task, or a skip."""
    choice = None if body.get("was_cancelled") else body["result"][0]["value"]["choices"][0]
    server.annotate(server.data["tasks"][number], choice)
    return 201, server.data["tasks"][number]["annotations"][0]


def _correct(server: StoredState, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    for task in server.data["tasks"].values():
        if [note["id"] for note in task["annotations"]] == [number]:
            server.annotate(task, body["result"][0]["value"]["choices"][0])
            return 200, task["annotations"][0]
    return 404, {"detail": "Not found."}


def _delete(server: StoredState, query: dict[str, str], _: Any, number: int) -> tuple[int, Any]:
    for task in server.data["tasks"].values():
        if [note["id"] for note in task["annotations"]] == [number]:
            task["annotations"].clear()
            task["updated_at"] = server.now()
            return 204, None
    return 404, {"detail": "Not found."}


def _user(server: StoredState, query: dict[str, str], _: Any) -> tuple[int, Any]:
    return 200, {"id": 1, "email": LOGIN}


ROUTES: dict[str, Callable[..., tuple[int, Any]]] = {
    "GET /api/version": lambda *_: (200, {"release": "1.23.2"}),
    "GET /api/current-user/whoami": _user,
    "GET /api/users/": lambda *given: (200, [_user(*given)[1]]),
    "GET /api/projects/": _projects,
    "POST /api/projects/": _create,
    r"GET /api/projects/(\d+)/": _project,
    r"PATCH /api/projects/(\d+)/": _change,
    r"POST /api/projects/(\d+)/import": _import,
    "GET /api/tasks/": _list_tasks,
    r"PATCH /api/tasks/(\d+)/": _change_task,
    r"DELETE /api/tasks/(\d+)/": _delete_task,
    "POST /api/dm/actions/": _act,
    r"GET /api/annotations/(\d+)/": _annotation,
    r"POST /api/tasks/(\d+)/annotations/": _annotate,
    r"PATCH /api/annotations/(\d+)/": _correct,
    r"DELETE /api/annotations/(\d+)/": _delete,
}  # fmt: skip
