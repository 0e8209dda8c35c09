"""The part of Label Studio's HTTP API that ndec uses, in memory: thousands of runs need a server that starts at once.

A process of its own answers on loopback, so that ndec uses its real clients. `test_fake_label_studio.py` runs the same
commands on this server and on Label Studio 1.23 and compares all tables. Change times count up from a fixed date by one
second, so that two runs give the same tables.
"""

from __future__ import annotations

import copy
import http.server
import json
import multiprocessing
import os
import re
import signal
import socket
import threading
import time
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.fake_label_studio_routes import ROUTES
from support.fake_label_studio_state import StoredState, empty_state
from support.processes import fork

TOKEN = "simulated-token"
_Row = dict[str, Any]


class FakeLabelStudio:
    """A running server; the state is changed through its methods, in the place of the people who label."""

    def __init__(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self._pipe = ours
        self._process = fork()
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

    def label(self, project: int, pair_id: str, choice: str | None, offset: float = 0.0, task: int = 0) -> bool:
        """A simulated annotator labels a pair, corrects the label, or skips it (None). False without such a task.

        task: this one of the pair's tasks; 0: the first.
        """
        return bool(self._call("label", project, pair_id, choice, offset, task))

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


class _Server(StoredState):
    """State and answers. One lock: requests are carried out one after another, as with SQLite."""

    def __init__(self, listening: socket.socket, control: Connection) -> None:
        super().__init__()
        self.control, self.lock = control, threading.RLock()
        self.seen, self.broken, self.process = list[str](), (0, ""), 0
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
        self.data = copy.deepcopy(state or empty_state())
        self.offset = 0.0
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

    def do_label(self, project: int, pair_id: str, choice: str | None, offset: float, number: int) -> bool:
        for task in self.tasks_of(project):
            if task["data"]["pair_id"] == pair_id and number in (0, task["id"]):
                self.annotate(task, choice, offset)
                return True
        return False

    def do_delete_label(self, project: int, pair_id: str) -> bool:
        for task in self.tasks_of(project):
            if task["data"]["pair_id"] == pair_id and task["annotations"]:
                task["annotations"].clear()
                task["updated_at"] = self.now()
                return True
        return False

    def do_delete_task(self, project: int, pair_id: str) -> None:
        for task in self.tasks_of(project):
            if task["data"]["pair_id"] == pair_id:
                del self.data["tasks"][task["id"]]

    # the API

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        for pattern, answer in ROUTES.items():
            verb, _, form = pattern.partition(" ")
            if verb == method and (match := re.fullmatch(form, path)):
                return answer(self, query, body, *(int(part) for part in match.groups()))
        raise AssertionError(f"the fake Label Studio does not know {method} {path}")


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
