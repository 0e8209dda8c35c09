"""A real PostgreSQL for one test or benchmark: in a temporary folder, on loopback, ended by its own number."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.needs import free_port
from support.processes import ends_with_us

NAME = "ndec"


def find_binaries() -> Path | None:
    """Folder of `initdb` and `postgres`: on the path, or where Debian puts them."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


class Postgres:
    """One PostgreSQL server. `address`: without the password. It can be killed and started again on its data."""

    def __init__(self, binaries: Path, folder: Path, durable: bool) -> None:
        """Make the data folder. PostgreSQL refuses to run as root."""
        self.binaries, self.folder, self.port, self.password = binaries, folder, free_port(), secrets.token_hex(8)
        self.address = f"postgresql://{NAME}@127.0.0.1:{self.port}/{NAME}"
        self._process: subprocess.Popen[bytes] | None = None
        user = "nobody" if os.geteuid() == 0 else None
        self._run: dict[str, Any] = {"user": user, "cwd": folder, "stdin": subprocess.DEVNULL}
        given, data = folder / "password", str(folder / "data")
        given.write_text(self.password)
        if user:
            entry = pwd.getpwnam(user)
            for path in (folder, given):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        setup = [str(binaries / "initdb"), "-D", data, "-U", NAME, "--auth=scram-sha-256", f"--pwfile={given}", "-N"]
        subprocess.run([*setup, "-E", "UTF8", "--locale=C"], check=True, capture_output=True, **self._run)
        self._command = [str(binaries / "postgres"), "-D", data, "-p", str(self.port), "-h", "127.0.0.1"]
        self._command += ["-k", str(folder)]
        if not durable:
            self._command += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]

    def start(self, statement: str = "SELECT 1") -> None:
        """Start it and wait until it has run the statement. After a kill, it waits for processes that still end."""
        deadline = time.monotonic() + 60
        while True:
            if self._process is None or self._process.poll() is not None:
                with (self.folder / "log").open("ab") as log:
                    self._process = subprocess.Popen(
                        self._command, stdout=log, stderr=log, preexec_fn=ends_with_us(signal.SIGINT), **self._run
                    )
            if (made := self._ask(statement)).returncode == 0:
                return
            if time.monotonic() > deadline:
                said = (self.folder / "log").read_text()[-2000:]
                raise RuntimeError(f"PostgreSQL did not start: {said} {made.stderr!r}")
            time.sleep(0.2)

    def _ask(self, statement: str) -> subprocess.CompletedProcess[bytes]:
        client = [str(self.binaries / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", NAME, "-d", "postgres"]
        variables = {**os.environ, "PGPASSWORD": self.password}
        return subprocess.run([*client, "-c", statement], env=variables, capture_output=True)

    def kill(self, everything: bool) -> None:
        """kill -9 of the main process, which makes the others end by themselves, or of all of them."""
        assert self._process is not None
        others = children_of(self._process.pid)
        self._process.kill()
        for pid in others if everything else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # fast shutdown
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


@contextlib.contextmanager
def running_postgres(binaries: Path, durable: bool = True) -> Iterator[Postgres]:
    """A fresh database. Not `durable`: it does not wait for the disk, for tests that do not kill it."""
    folder = Path(tempfile.mkdtemp(prefix="ndec-postgres-"))
    server = None
    try:
        server = Postgres(binaries, folder, durable)
        server.start(f"CREATE DATABASE {NAME}")
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def postgres(binaries: Path, durable: bool = True) -> Iterator[tuple[str, str]]:
    """Yield (address without the password, password) of `running_postgres`."""
    with running_postgres(binaries, durable) as server:
        yield server.address, server.password
