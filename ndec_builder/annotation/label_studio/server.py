"""Starts and stops one Label Studio that keeps its data, password and token in the workspace."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO
from urllib.parse import urlsplit

import requests

from ndec_builder.annotation.label_studio import data_lock
from ndec_builder.annotation.label_studio.credentials import (
    closed_text,
    make_secrets,
    secrets_file,
    write_private_json,
)
from ndec_builder.annotation.label_studio.database import Database, prepare_upgrade, read_database, record_version
from ndec_builder.annotation.label_studio.environment import SETTINGS, copy_empty_database, find_server
from ndec_builder.annotation.label_studio.ports import HOST, check_port_is_free, is_loopback, public_host
from ndec_builder.core.console import say, waiting
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json

_STOP_SECONDS = 15.0
_PASSED_ON = {"HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TEMP", "TMP", "TMPDIR", "TZ", "USER"}


def state_file(data: Path) -> Path:
    """The running server of this data directory: pid, owner, url, image_url. Absent while none runs."""
    return data / "server.json"


def running_state(data: Path) -> dict[str, Any] | None:
    """State of the server that runs on this data directory, or None. A stale file of an exited server is ignored.

    None also for a directory of another user, whose passwords this user may not read.
    """
    path = state_file(data)
    if closed_text(data) or not path.is_file():
        return None
    state: dict[str, Any] = read_json(path)
    return state if _is_ours(state["pid"], data) else None


def _is_ours(pid: int, data: Path) -> bool:
    """Whether this process is alive and a Label Studio on our data: process ids are reused."""
    if not _alive(pid):
        return False
    environment = Path(f"/proc/{pid}/environ")
    try:
        return f"LABEL_STUDIO_BASE_DATA_DIR={data.absolute()}".encode() in environment.read_bytes().split(b"\0")
    except OSError:  # no /proc on this system, or another user's process
        return not Path("/proc/self").exists()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


class LabelStudioServer:
    """Context manager: `with LabelStudioServer(data, port) as server: server.url`. NdecError if it cannot start."""

    def __init__(
        self,
        data: Path,
        port: int,
        *,
        image_url: str = "",
        env: Path | None = None,
        wait: float = 300,
        host: str = HOST,
        database: str = "",
        without_backup: bool = False,
    ) -> None:
        self.data, self.port, self.image_url, self.env, self.wait = data.absolute(), port, image_url, env, wait
        self.host, self.database, self.without_backup = host, database, without_backup
        self.url = f"http://{public_host(host)}:{port}"
        self.log = self.data / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: TextIO | None = None
        self._life: int | None = None  # our end of a pipe: the server ends when it closes, as it does if we are killed

    def start(self) -> None:
        self.launch()
        self.wait_until_up()

    def launch(self) -> None:
        """Start the process without waiting until it answers."""
        program = find_server(self.env)
        ended = self._end_orphan()
        check_port_is_free(self.port, "`--port NUMBER`", self.host, wait=_STOP_SECONDS if ended else 0)
        secret = make_secrets(self.data)
        self._lock = data_lock.acquire(self.data)
        try:
            database = self._find_database(secret)
            prepare_upgrade(self.data, database, program.parent / "python", without_backup=self.without_backup)
            if database is None:
                copy_empty_database(program.parents[1], self.data)
            command = [str(program), "start", "--no-browser", "--internal-host", self.host, "--port", str(self.port)]
            command += ["--log-level", "WARNING", "--enable-legacy-api-token"]
            watched, self._life = os.pipe()
            variables = self._environment(secret, database) | {"NDEC_OWNER": str(watched)}
            with self.log.open("ab") as log, os.fdopen(watched):
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables, umask=0o077,
                    cwd=self.data, start_new_session=True, pass_fds=(self._lock.fileno(), watched),
                )  # fmt: skip
            data_lock.sign(self._lock, self._process.pid, self.url)
            write_private_json(state_file(self.data), self._state())
        except BaseException:
            self.stop()
            raise

    def wait_until_up(self) -> None:
        """Wait until it answers; it is stopped if it does not."""
        try:
            with waiting("starting Label Studio (the first start takes longest)"):
                self._wait_for_answer(read_json(secrets_file(self.data))["token"])
            record_version(self.data)
        except BaseException:
            self.stop()
            raise

    def _find_database(self, secret: dict[str, str]) -> Database | None:
        """The configured database. A new password is saved, so that the next start needs the address only."""
        database = read_database(self.database, secret.get("database_password", ""))
        if database is not None:
            if database.password and database.password != secret.get("database_password"):
                write_private_json(secrets_file(self.data), secret | {"database_password": database.password})
            database.check_answers()
        return database

    def _state(self) -> dict[str, Any]:
        assert self._process is not None
        return {"pid": self._process.pid, "owner": os.getpid(), "url": self.url, "image_url": self.image_url}

    def _end_orphan(self) -> bool:
        """End the server that a killed `ndec` of this workspace left behind; whether there was one on this port.

        Raises NdecError when the `ndec` that started it is still running.
        """
        state = running_state(self.data)
        if state is None:
            return False
        if _alive(state["owner"]):
            raise NdecError(
                f"a Label Studio already runs on {self.data}, at {state['url']}, started by process {state['owner']}; "
                "use that one, or stop it with `ndec annotate stop`"
            )
        say(f"ending the Label Studio (process {state['pid']}) that an earlier run left behind")
        os.killpg(state["pid"], signal.SIGKILL)  # its image server ended with its owner; SQLite keeps every saved label
        deadline = time.monotonic() + _STOP_SECONDS
        while _is_ours(state["pid"], self.data) and time.monotonic() < deadline:
            time.sleep(0.1)
        return bool(urlsplit(state["url"]).port == self.port)

    def stop(self) -> None:
        """End the process group that `start` made, and unlock the data folder."""
        if self._process is not None:
            for sign, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
                if self._process.poll() is None:
                    os.killpg(self._process.pid, sign)
                    try:
                        self._process.wait(patience)
                    except subprocess.TimeoutExpired:
                        continue
            self._process = None
            state_file(self.data).unlink(missing_ok=True)
        if self._life is not None:
            os.close(self._life)
            self._life = None
        if self._lock is not None:
            data_lock.release(self._lock)
            self._lock = None

    def __enter__(self) -> LabelStudioServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def check_alive(self) -> None:
        """Raise NdecError with the last log lines if the process has exited."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise NdecError(f"Label Studio exited (exit code {code}); {self._last_lines()}")

    def _wait_for_answer(self, token: str) -> None:
        begun = time.monotonic()
        while time.monotonic() - begun < self.wait:
            self.check_alive()
            try:
                if requests.get(f"{self.url}/health", timeout=5).status_code == 200:
                    break
            except requests.RequestException:
                pass
            time.sleep(0.3)
        else:
            raise NdecError(f"Label Studio did not answer at {self.url} within {self.wait:.0f} s; {self._last_lines()}")
        self.check_alive()  # another program may have taken the port between our check and its start
        headers = {"Authorization": f"Token {token}"}
        answer = requests.get(f"{self.url}/api/current-user/whoami", headers=headers, timeout=60)
        if answer.status_code != 200:
            raise NdecError(
                f"Label Studio at {self.url} refuses the token in {secrets_file(self.data)} (HTTP "
                f"{answer.status_code}): the file does not match the database next to it; restore it, or move "
                f"{self.data} away to start with an empty one"
            )

    def _last_lines(self) -> str:
        lines = self.log.read_text("utf-8", errors="replace").strip().splitlines()[-4:]
        return f"the last lines of {self.log}: {' / '.join(lines) or '(none)'}"

    def _environment(self, secret: dict[str, str], database: Database | None) -> dict[str, str]:
        """Our settings, and the few variables that every program needs: no other variable reaches the server."""
        env = {name: value for name, value in os.environ.items() if name.startswith("LC_") or name in _PASSED_ON}
        chosen = database.variables() if database else {}
        return (
            env
            | chosen
            | SETTINGS
            | {
                "LABEL_STUDIO_BASE_DATA_DIR": str(self.data),
                "LABEL_STUDIO_USERNAME": secret["user"],
                "LABEL_STUDIO_PASSWORD": secret["password"],
                "LABEL_STUDIO_USER_TOKEN": secret["token"],
                "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
                "DEBUG": "false",
                "CORS_ALLOW_ALL_ORIGINS": "false",
                "SSRF_PROTECTION_ENABLED": "true",
                "ENABLE_LOCAL_FILES_STORAGE": "false",
                "LOCAL_FILES_SERVING_ENABLED": "false",
                "TASK_LOCK_TTL": "300",  # seconds; a lock only delays the pair of a closed tab
                # a web page whose host name points at this machine must not reach it
                "NDEC_HOSTS": "127.0.0.1 localhost [::1]" if is_loopback(self.host) else "*",
            }
        )
