"""The empty database of the server's environment: made once, copied into new workspaces only."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ndec_builder.annotation.label_studio import environment
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.label_studio.environment import (
    DATABASE,
    SETTINGS,
    copy_empty_database,
    empty_database,
    make_empty_database,
)

PRIVATE = ("htx_user", "authtoken_token", "django_session", "organization", "project", "jwt_auth_jwtsettings")
_MANAGE = f"""
import os, pathlib, sys
assert sys.argv[1] == "migrate" and "synchronous=OFF" in os.environ["NDEC_SQLITE"]
pathlib.Path(os.environ["LABEL_STUDIO_BASE_DATA_DIR"], {DATABASE!r}).write_bytes(b"tables")
"""


def can_migrate(env: Path, script: str) -> None:
    """Give the stand-in of an environment a Python and a `manage.py`."""
    (env / "bin" / "python").symlink_to(sys.executable)
    folder = env / "lib/python3.11/site-packages/label_studio"
    folder.mkdir()
    (folder / "manage.py").write_text(script)


def test_installing_makes_it_once_and_for_this_version(env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    can_migrate(env, _MANAGE)
    monkeypatch.setattr(environment, "_run", lambda command, what: None)
    environment.install(env)
    assert empty_database(env).read_bytes() == b"tables"
    empty_database(env).write_bytes(b"kept")
    environment.install(env)
    assert empty_database(env).read_bytes() == b"kept"
    (env / ".ndec-installed").unlink()  # an install that was killed: what it left may be of a different version
    environment.install(env)
    assert empty_database(env).read_bytes() == b"tables"


def test_a_failure_is_reported_and_the_server_starts_without_it(env: Path, capfd: pytest.CaptureFixture[str]) -> None:
    can_migrate(env, "raise SystemExit('no room')")
    make_empty_database(env)
    assert "first starts take longer: no room" in capfd.readouterr().err
    assert not empty_database(env).exists()


def test_it_is_private_and_replaces_nothing(env: Path, tmp_path: Path) -> None:
    empty_database(env).write_bytes(b"tables")
    data, log, fresh = (tmp_path / name for name in ("data", "log", "fresh"))
    for folder in (data, log, fresh):
        folder.mkdir()
    (data / DATABASE).write_bytes(b"labels")
    (log / f"{DATABASE}-wal").write_bytes(b"labels")  # SQLite would replay it into the copy
    for folder in (data, log, fresh):
        copy_empty_database(env, folder)
    assert (data / DATABASE).read_bytes() == b"labels"
    assert not (log / DATABASE).exists()
    assert (fresh / DATABASE).read_bytes() == b"tables"
    assert stat.S_IMODE((fresh / DATABASE).stat().st_mode) == 0o600


@pytest.mark.server
def test_the_real_one_has_every_table_and_nobody(label_studio: Connection, tmp_path: Path) -> None:
    env = environment.default_environment()
    make_empty_database(env)
    copy_empty_database(env, tmp_path)
    manage = next(env.glob("lib*/python3*/site-packages/label_studio/manage.py"))
    done = subprocess.run(
        [env / "bin" / "python", manage, "migrate", "--check"],
        env=SETTINGS | {"LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        counts = [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in PRIVATE]
    assert counts == [0] * len(PRIVATE)
