"""The part of Label Studio's HTTP API that ndec uses, in memory: thousands of runs need a server that starts at once.

A process of its own answers on loopback, so that ndec uses its real clients. `test_fake_label_studio.py` runs the same
commands on this server and on Label Studio 1.23 and compares all tables. Change times count up from a fixed date by one
second, so that two runs give the same tables.
"""

from __future__ import annotations

import contextlib
import copy
import http.server
import json
import multiprocessing
import os
import re
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
TOKEN = "simulated-token"
LOGIN = "simulated@example.org"
_Row = dict[str, Any]


class FakeLabelStudio:
    """A running server; the state is changed through its methods, in the place of the people who label."""

    def __init__(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self._pipe = ours
        self._process = os.fork()
        if self._process == 0:
            try:
                ours.close()
                _Server(listening, theirs).serve()
            finally:
                os._exit(0)
        theirs.close()
        listening.close()

    def __enter__(self) -> FakeLabelStudio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        self._pipe.close()

    def _call(self, name: str, *values: Any) -> Any:
        self._pipe.send((name, values))
        fine, result = self._pipe.recv()
        if not fine:
            raise AssertionError(result)
        return result

    def state(self) -> _Row:
        """A copy of everything that is stored."""
        return self._call("state")  # type: ignore[no-any-return]

    def restore(self, state: _Row) -> None:
        """Put an older copy of the database back. The clock goes on."""
        self._call("restore", state)

    def reset(self, state: _Row | None = None) -> None:
        """Start again with an empty database, or with a copy and the clock that it had."""
        self._call("reset", state)

    def label(self, project: int, pair_id: str, choice: str | None, offset: float = 0.0) -> bool:
        """A simulated annotator labels a pair, corrects the label, or skips it (None). False without such a task."""
        return bool(self._call("label", project, pair_id, choice, offset))

    def delete_label(self, project: int, pair_id: str) -> bool:
        return bool(self._call("delete_label", project, pair_id))

    def delete_task(self, project: int, pair_id: str) -> None:
        self._call("delete_task", project, pair_id)

    def set_clock(self, offset: float | None) -> None:
        """Seconds by which the server's clock is wrong from now on; None: the real time instead of a counter."""
        self._call("set_clock", offset)

    def fail_at(self, number: int, when: str) -> None:
        """Drop the connection of request `number` (from 1), `before` it is carried out or `after`; 0: never.

        `killed before` and `killed after` also kill the process named by the next `client`. Counting starts again.
        """
        self._call("fail_at", number, when)

    def client(self, process: int) -> None:
        """The process that is killed at a request."""
        self._call("client", process)

    def requests(self) -> list[str]:
        """Method and path of the requests since `fail_at`."""
        return self._call("requests")  # type: ignore[no-any-return]

    def pause_at(self, number: int) -> None:
        """Hold the answer of request `number` back until `go_on`; 0: none."""
        self._call("pause_at", number)

    def go_on(self) -> None:
        self._call("go_on")


def state_of_database(path: Path) -> _Row:
    """The projects, tasks and annotations of Label Studio's own database (SQLite), as `reset` takes them."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        projects, tasks, notes = (
            [dict(row) for row in database.execute(f"SELECT * FROM {name} ORDER BY id")]
            for name in ("project", "task", "task_completion")
        )
    state = _empty() | {"clock": 60 * 86_400}  # later than all that is stored
    for kind, rows in (("project", projects), ("task", tasks), ("annotation", notes)):
        state["last"][kind] = max((row["id"] for row in rows), default=0)
    names = ("id", "title", "description", "label_config")
    state["projects"] = {row["id"]: {name: row[name] for name in names} for row in projects}
    for row in tasks:
        task = {"id": row["id"], "project": row["project_id"], "data": json.loads(row["data"]), "annotations": []}
        state["tasks"][row["id"]] = task | {"updated_at": _stored_time(row["updated_at"])}
    for row in notes:
        note = {name: row[name] for name in ("id", "lead_time")} | {"result": json.loads(row["result"])}
        note |= {"task": row["task_id"], "project": row["project_id"], "was_cancelled": bool(row["was_cancelled"])}
        note |= {"completed_by": row["completed_by_id"], "updated_by": row["updated_by_id"], "ground_truth": False}
        note |= {name: _stored_time(row[name]) for name in ("created_at", "updated_at")}
        state["tasks"][row["task_id"]]["annotations"].append(note)
    return state


def _stored_time(text: str) -> str:
    return f"{text.replace(' ', 'T')}Z"


class _Server:
    """State and answers. One lock: requests are carried out one after another, as with SQLite."""

    def __init__(self, listening: socket.socket, control: Connection) -> None:
        self.control, self.lock = control, threading.RLock()
        self.data = _empty()
        self.offset, self.seen, self.broken, self.process = 0.0, list[str](), (0, ""), 0
        self.paused, self.may_go = 0, threading.Event()
        server = http.server.ThreadingHTTPServer(listening.getsockname(), _handler(self), bind_and_activate=False)
        server.socket.close()
        server.socket = listening
        server.daemon_threads = True
        self.http = server

    def serve(self) -> None:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        while True:
            try:
                name, values = self.control.recv()
            except EOFError:
                return
            try:
                if name == "go_on":
                    self.may_go.set()
                    self.control.send((True, None))
                    continue
                with self.lock:
                    self.control.send((True, getattr(self, f"do_{name}")(*values)))
            except Exception as error:
                self.control.send((False, repr(error)))

    # what a test asks for

    def do_state(self) -> _Row:
        return copy.deepcopy(self.data)

    def do_restore(self, state: _Row) -> None:
        self.data = copy.deepcopy(state) | {"clock": self.data["clock"]}

    def do_reset(self, state: _Row | None) -> None:
        self.data = copy.deepcopy(state or _empty())
        self.offset: float | None = 0.0
        self.do_fail_at(0, "")

    def do_set_clock(self, offset: float | None) -> None:
        self.offset = offset

    def do_fail_at(self, number: int, when: str) -> None:
        self.broken, self.seen, self.paused = (number, when), [], 0
        self.may_go.clear()

    def do_client(self, process: int) -> None:
        self.process = process

    def do_requests(self) -> list[str]:
        return list(self.seen)

    def do_pause_at(self, number: int) -> None:
        self.paused = number
        self.may_go.clear()

    def do_label(self, project: int, pair_id: str, choice: str | None, offset: float) -> bool:
        for task in self._tasks(project):
            if task["data"]["pair_id"] == pair_id:
                self.annotate(task, choice, offset)
                return True
        return False

    def do_delete_label(self, project: int, pair_id: str) -> bool:
        for task in self._tasks(project):
            if task["data"]["pair_id"] == pair_id and task["annotations"]:
                task["annotations"].clear()
                task["updated_at"] = self.now()
                return True
        return False

    def do_delete_task(self, project: int, pair_id: str) -> None:
        for task in self._tasks(project):
            if task["data"]["pair_id"] == pair_id:
                del self.data["tasks"][task["id"]]

    # the stored data

    def annotate(self, task: _Row, choice: str | None, offset: float = 0.0) -> None:
        result = {"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": [choice]}}
        notes, now = task["annotations"], self.now(offset)
        if not notes:
            note = {"id": self.number("annotation"), "task": task["id"], "project": task["project"], "lead_time": 1.0}
            notes.append(note | {"completed_by": 1, "created_at": now, "updated_by": None, "ground_truth": False})
        notes[0] |= {"result": [] if choice is None else [result], "was_cancelled": choice is None, "updated_at": now}
        task["updated_at"] = now

    def now(self, offset: float = 0.0) -> str:
        if self.offset is None:
            return datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.data["clock"] += 1
        return (EPOCH + timedelta(seconds=self.data["clock"] + self.offset + offset)).isoformat().replace("+00:00", "Z")

    def number(self, kind: str) -> int:
        self.data["last"][kind] += 1
        return int(self.data["last"][kind])

    def _tasks(self, project: int) -> list[_Row]:
        return [task for _, task in sorted(self.data["tasks"].items()) if task["project"] == project]

    def project(self, number: int) -> _Row:
        tasks = self._tasks(number)
        counts = {"task_number": len(tasks), "num_tasks_with_annotations": sum(labels(task) > 0 for task in tasks)}
        return self.data["projects"][number] | counts

    # the API

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        for pattern, answer in _ROUTES.items():
            verb, _, form = pattern.partition(" ")
            if verb == method and (match := re.fullmatch(form, path)):
                return answer(self, query, body, *(int(part) for part in match.groups()))
        raise AssertionError(f"the fake Label Studio does not know {method} {path}")


def _empty() -> _Row:
    return {"clock": 0, "last": {"project": 0, "task": 0, "annotation": 0}, "projects": {}, "tasks": {}}


def labels(task: _Row) -> int:
    return sum(not note["was_cancelled"] for note in task["annotations"])


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


def _projects(server: _Server, query: dict[str, str], _: Any) -> tuple[int, Any]:
    rows = [server.project(number) for number in sorted(server.data["projects"], reverse=True)]
    found = _page(rows, query)
    return (200, {"count": len(rows), "results": found}) if found or query.get("page", "1") == "1" else (404, {})


def _project(server: _Server, query: dict[str, str], _: Any, number: int) -> tuple[int, Any]:
    return (200, server.project(number)) if number in server.data["projects"] else (404, {"detail": "Not found."})


def _create(server: _Server, query: dict[str, str], body: Any) -> tuple[int, Any]:
    number = server.number("project")
    server.data["projects"][number] = body | {"id": number}
    return 201, server.project(number)


def _change(server: _Server, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    server.data["projects"][number] |= body
    return 200, server.project(number)


def _import(server: _Server, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    made = []
    for one in body:
        task = {"id": server.number("task"), "project": number, "data": one["data"], "annotations": []}
        server.data["tasks"][task["id"]] = task | {"updated_at": server.now()}
        made.append(task["id"])
    return 201, {"task_count": len(made), "task_ids": made}


def _list_tasks(server: _Server, query: dict[str, str], _: Any) -> tuple[int, Any]:
    filters = json.loads(query["query"])["filters"] if "query" in query else {"conjunction": "and", "items": []}
    rows = [task for task in server._tasks(int(query["project"])) if _matches(task, filters)]
    shown = [
        task | {"total_annotations": labels(task), "cancelled_annotations": len(task["annotations"]) - labels(task)}
        for task in _page(rows, query)
    ]
    return 200, {"tasks": shown, "total": len(rows), "total_annotations": 0, "total_predictions": 0}


def _change_task(server: _Server, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    server.data["tasks"][number] |= body | {"updated_at": server.now()}
    return 200, server.data["tasks"][number]


def _delete_task(server: _Server, query: dict[str, str], _: Any, number: int) -> tuple[int, Any]:
    del server.data["tasks"][number]
    return 204, None


def _act(server: _Server, query: dict[str, str], body: Any) -> tuple[int, Any]:
    assert query["id"] == "delete_tasks", query
    included, filters = set(body["selectedItems"]["included"]), body["filters"]
    chosen = [t for t in server._tasks(int(query["project"])) if t["id"] in included and _matches(t, filters)]
    for task in chosen:
        del server.data["tasks"][task["id"]]
    return 200, {"processed_items": len(chosen)}


def _annotation(server: _Server, query: dict[str, str], _: Any, number: int) -> tuple[int, Any]:
    found = [note for task in server.data["tasks"].values() for note in task["annotations"] if note["id"] == number]
    return (200, found[0]) if found else (404, {"detail": "Not found."})


def _annotate(server: _Server, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    """As the page does: the first answer of a task, or a skip."""
    choice = None if body.get("was_cancelled") else body["result"][0]["value"]["choices"][0]
    server.annotate(server.data["tasks"][number], choice)
    return 201, server.data["tasks"][number]["annotations"][0]


def _correct(server: _Server, query: dict[str, str], body: Any, number: int) -> tuple[int, Any]:
    for task in server.data["tasks"].values():
        if [note["id"] for note in task["annotations"]] == [number]:
            server.annotate(task, body["result"][0]["value"]["choices"][0])
            return 200, task["annotations"][0]
    return 404, {"detail": "Not found."}


def _delete(server: _Server, query: dict[str, str], _: Any, number: int) -> tuple[int, Any]:
    for task in server.data["tasks"].values():
        if [note["id"] for note in task["annotations"]] == [number]:
            task["annotations"].clear()
            task["updated_at"] = server.now()
            return 204, None
    return 404, {"detail": "Not found."}


def _user(server: _Server, query: dict[str, str], _: Any) -> tuple[int, Any]:
    return 200, {"id": 1, "email": LOGIN}


_ROUTES: dict[str, Callable[..., tuple[int, Any]]] = {
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


def _handler(server: _Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60
        wbufsize = -1  # head and body in one packet

        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            with server.lock:
                server.seen.append(f"{self.command} {address.path}")
                number = len(server.seen)
                fails, when = server.broken
            if number == fails and when.endswith("before"):
                self._drop(when)
                return
            with server.lock:
                status, found = server.answer(self.command, address.path, query, body)
                text = b"" if status == 204 else json.dumps(found).encode()
            if number == fails:
                self._drop(when)
                return
            if number == server.paused:
                server.may_go.wait(60)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            self.wfile.flush()

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def _drop(self, when: str) -> None:
            if when.startswith("killed"):
                os.kill(server.process, signal.SIGKILL)
                time.sleep(0.01)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client was killed
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
