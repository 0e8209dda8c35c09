"""Starts and stops one Label Studio that keeps its data, password and token in the workspace."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import sqlite3
import stat
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import requests

from ndec_builder.annotation.label_studio.database import Database, read_database
from ndec_builder.annotation.label_studio.environment import LABEL_STUDIO_VERSION, find_server
from ndec_builder.annotation.label_studio.ports import HOST, check_port_is_free, is_loopback, public_host
from ndec_builder.core.console import say
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, write_json

USER = "annotator@ndec.local"
_SERVER_FILES = Path(__file__).parent / "server_files"
_STOP_SECONDS = 15.0
_PASSED_ON = {"HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TEMP", "TMP", "TMPDIR", "TZ", "USER"}


def secrets_file(data: Path) -> Path:
    return data / "secrets.json"


def state_file(data: Path) -> Path:
    """The running server of this data directory: pid, owner, url, image_url. Absent while none runs."""
    return data / "server.json"


def make_secrets(data: Path) -> dict[str, str]:
    """Read or make `{user, password, token}`. Only the owner can ever read the file."""
    path = secrets_file(data)
    for existing, rights in ((data, 0o700), (path, 0o600)):
        if existing.exists() and (found := stat.S_IMODE(existing.stat().st_mode)) & 0o077:
            existing.chmod(rights)
            say(f"{existing} could be read by other users (mode {found:o}); now only by you (mode {rights:o})")
    if path.is_file():
        values: dict[str, str] = read_json(path)
        return values
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    values = {"user": USER, "password": secrets.token_urlsafe(12), "token": secrets.token_hex(20)}
    _write_private(path, values)
    return values


def image_key(data: Path) -> str:
    """The key of the image server's addresses; made once, so that addresses in existing tasks stay valid."""
    values = make_secrets(data)
    if "image_key" not in values:
        values |= {"image_key": secrets.token_hex(16)}
        _write_private(secrets_file(data), values)
    return values["image_key"]


def running_state(data: Path) -> dict[str, Any] | None:
    """State of the server that runs on this data directory, or None. A stale file of an exited server is ignored."""
    path = state_file(data)
    if not path.is_file():
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
    ) -> None:
        self.data, self.port, self.image_url, self.env, self.wait = data.absolute(), port, image_url, env, wait
        self.host, self.database = host, database
        self.url = f"http://{public_host(host)}:{port}"
        self.log = self.data / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = find_server(self.env)
        ended = self._end_orphan()
        check_port_is_free(self.port, "--port", self.host, wait=_STOP_SECONDS if ended else 0)
        secret = make_secrets(self.data)
        database = self._find_database(secret)
        self._prepare_upgrade(database)
        command = [str(program), "start", "--no-browser", "--internal-host", self.host, "--port", str(self.port)]
        command += ["--log-level", "WARNING", "--enable-legacy-api-token"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(secret, database),
                cwd=self.data, start_new_session=True,
            )  # fmt: skip
        try:
            write_json(state_file(self.data), self._state())
            self._wait_until_up(secret["token"])
            write_json(self.data / "version.json", {"label_studio": LABEL_STUDIO_VERSION})
        except BaseException:
            self.stop()
            raise

    def _find_database(self, secret: dict[str, str]) -> Database | None:
        """The configured database. A new password is saved, so that the next start needs the address only."""
        database = read_database(self.database, secret.get("database_password", ""))
        if database is not None:
            if database.password and database.password != secret.get("database_password"):
                _write_private(secrets_file(self.data), secret | {"database_password": database.password})
            database.check_answers()
        return database

    def _prepare_upgrade(self, database: Database | None) -> None:
        """Copy a database of an older version, which Label Studio migrates at start; refuse one of a newer version."""
        path = self.data / "version.json"
        made_by = str(read_json(path)["label_studio"]) if path.is_file() else LABEL_STUDIO_VERSION
        if _numbers(made_by) > _numbers(LABEL_STUDIO_VERSION):
            raise NdecError(
                f"{self.data} was made by Label Studio {made_by}, and this ndec uses {LABEL_STUDIO_VERSION}, which "
                "cannot read it; use the ndec that made it, or move the folder away: `ndec annotate push` makes the "
                "projects again"
            )
        store = self.data / "label_studio.sqlite3"
        if made_by != LABEL_STUDIO_VERSION and database is None and store.is_file():
            copy = self.data / f"label_studio-{made_by}.sqlite3"
            with contextlib.closing(sqlite3.connect(store)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
                old.backup(new)
            say(f"upgrading from Label Studio {made_by}; a copy of the old database is kept in {copy}")

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
        """End the process group that `start` made."""
        if self._process is None:
            return
        for sign, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            if self._process.poll() is None:
                os.killpg(self._process.pid, sign)
                try:
                    self._process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
        self._process = None
        state_file(self.data).unlink(missing_ok=True)

    def __enter__(self) -> LabelStudioServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def check_alive(self) -> None:
        """Raise NdecError with the last log lines if the process has exited."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise NdecError(f"Label Studio exited (exit code {code}); {self._last_lines()}")

    def _wait_until_up(self, token: str) -> None:
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
                "COLLECT_ANALYTICS": "false",
                "LATEST_VERSION_CHECK": "false",
                "SENTRY_DSN": "",
                "FRONTEND_SENTRY_DSN": "",
                "TASK_LOCK_TTL": "300",  # seconds; a lock only delays the pair of a closed tab
                "PYTHONPATH": str(_SERVER_FILES),
                "PYTHONDONTWRITEBYTECODE": "1",  # the folder may be read-only
                "DJANGO_SETTINGS_MODULE": "ndec_label_studio_settings",
                # a web page whose host name points at this machine must not reach it
                "NDEC_HOSTS": "127.0.0.1 localhost [::1]" if is_loopback(self.host) else "*",
            }
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _write_private(path: Path, value: dict[str, str]) -> None:
    """Write JSON atomically to a file that only its owner can read."""
    temporary = path.with_suffix(".partial")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
