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

from support.needs import free_port
from support.processes import ends_with_us

NAME = "ndec"


def find_binaries() -> Path | None:
    """Folder of `initdb` and `postgres`: on the path, or where Debian puts them."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


@contextlib.contextmanager
def postgres(binaries: Path, durable: bool = True) -> Iterator[tuple[str, str]]:
    """Yield (address without the password, password) of a fresh database. PostgreSQL refuses to run as root.

    Not `durable`: it does not wait for the disk; what is killed in tests is never PostgreSQL itself.
    """
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ndec-postgres-"))
    port, password = free_port(), secrets.token_hex(8)
    given = folder / "password"
    given.write_text(password)
    if user:
        entry = pwd.getpwnam(user)
        for path in (folder, given):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    data = str(folder / "data")
    run = {"user": user, "cwd": folder, "stdin": subprocess.DEVNULL}
    process = None
    try:
        setup = [str(binaries / "initdb"), "-D", data, "-U", NAME, "--auth=scram-sha-256", f"--pwfile={given}", "-N"]
        subprocess.run([*setup, "-E", "UTF8", "--locale=C"], check=True, capture_output=True, **run)  # type: ignore[call-overload]
        with (folder / "log").open("wb") as log:
            command = [str(binaries / "postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
            command += (
                [] if durable else ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
            )
            process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, preexec_fn=ends_with_us(signal.SIGINT), **run
            )
        client = [str(binaries / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", NAME, "-d", "postgres"]
        deadline = time.monotonic() + 60
        while True:
            variables = {**os.environ, "PGPASSWORD": password}
            made = subprocess.run([*client, "-c", f"CREATE DATABASE {NAME}"], env=variables, capture_output=True)
            if made.returncode == 0:
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-2000:]} {made.stderr!r}")
            time.sleep(0.2)
        yield f"postgresql://{NAME}@127.0.0.1:{port}/{NAME}", password
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # fast shutdown
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)
