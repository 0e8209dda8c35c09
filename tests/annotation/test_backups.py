"""Copies of Label Studio's database before an upgrade: none is ever replaced, and a start without one is refused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ndec_builder.annotation.label_studio.database import Database, prepare_upgrade, record_version, version_file
from ndec_builder.annotation.label_studio.server import LabelStudioServer
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_json
from support.needs import free_port, missing
from support.postgres import find_binaries, postgres

PYTHON = Path(sys.executable)
POSTGRES = Database("someone", "db.example", 5432, "labels", "a-password")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose database was made by version 1.9.0 and has one row."""
    folder = tmp_path / "data"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "label_studio.sqlite3")) as store, store:
        store.execute("CREATE TABLE labels (x)")
        store.execute("INSERT INTO labels VALUES (1)")
    write_json(version_file(folder), {"label_studio": "1.9.0"})
    return folder


def add_row(data: Path, value: int) -> None:
    with closing(sqlite3.connect(data / "label_studio.sqlite3")) as store, store:
        store.execute("INSERT INTO labels VALUES (?)", [value])


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as store:
        return [value for (value,) in store.execute("SELECT x FROM labels ORDER BY x")]


def test_a_second_attempt_keeps_the_copy_of_the_first(data: Path, env: Path) -> None:
    """The first upgrade fails after it has changed the database: the copy from before must survive the retry."""
    (data / "die").touch()
    for _ in range(2):
        with pytest.raises(NdecError, match="exit code 7"):
            LabelStudioServer(data, free_port(), env=env).start()
        add_row(data, 2)  # what the failed migration changed
    assert rows(data / "label_studio-1.9.0-1.sqlite3") == [1]
    assert rows(data / "label_studio-1.9.0-2.sqlite3") == [1, 2]


def test_an_unchanged_database_is_not_copied_twice(data: Path) -> None:
    first = prepare_upgrade(data, None, PYTHON)
    assert prepare_upgrade(data, None, PYTHON) == first
    assert len(list(data.glob("label_studio-*"))) == 1


def test_a_database_without_a_version_file_is_copied(data: Path) -> None:
    version_file(data).unlink()
    copy = prepare_upgrade(data, None, PYTHON)
    assert copy is not None and copy.name == "label_studio-unknown-1.sqlite3" and rows(copy) == [1]


def test_the_copy_includes_what_is_only_in_the_log(data: Path) -> None:
    with closing(sqlite3.connect(data / "label_studio.sqlite3")) as writer:  # an open writer: nothing is checkpointed
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("INSERT INTO labels VALUES (7)")
        writer.commit()
        assert (data / "label_studio.sqlite3-wal").stat().st_size
        copy = prepare_upgrade(data, None, PYTHON)
        assert copy is not None
        alone = shutil.copy(copy, data / "alone.sqlite3")
        assert rows(Path(alone)) == [1, 7]


def test_only_the_owner_can_read_a_copy(data: Path) -> None:
    before = os.umask(0o022)
    try:
        copy = prepare_upgrade(data, None, PYTHON)
    finally:
        os.umask(before)
    assert copy is not None and stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_no_copy_after_a_start_of_the_same_version_or_of_an_empty_folder(data: Path, tmp_path: Path) -> None:
    record_version(data)
    assert prepare_upgrade(data, None, PYTHON) is None
    (tmp_path / "new").mkdir()
    assert prepare_upgrade(tmp_path / "new", None, PYTHON) is None


def test_a_broken_database_is_not_upgraded(data: Path) -> None:
    (data / "label_studio.sqlite3").write_bytes(b"no database, but long enough" * 100)
    with pytest.raises(NdecError, match=r"cannot be copied before the upgrade .*--without-backup"):
        prepare_upgrade(data, None, PYTHON)
    assert not list(data.glob(".*partial")) and not list(data.glob("label_studio-*"))
    assert prepare_upgrade(data, None, PYTHON, without_backup=True) is None


@pytest.mark.parametrize("version", ["1.9.0", ""])
def test_postgresql_without_pg_dump_is_refused(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if version:
        write_json(version_file(tmp_path), {"label_studio": version})
    with pytest.raises(NdecError, match=r"`pg_dump` is not installed here.*--without-backup") as caught:
        prepare_upgrade(tmp_path, POSTGRES, tmp_path / "no-python")
    assert "a-password" not in str(caught.value)
    assert prepare_upgrade(tmp_path, POSTGRES, tmp_path / "no-python", without_backup=True) is None


def test_pg_dump_that_fails_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "pg_dump"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'aborting because of server version mismatch' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    write_json(version_file(tmp_path), {"label_studio": "1.9.0"})
    with pytest.raises(NdecError, match="server version mismatch"):
        prepare_upgrade(tmp_path, POSTGRES, PYTHON)
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "version.json"}


@pytest.mark.slow
def test_a_real_postgresql_is_dumped_with_its_rows(tmp_path: Path) -> None:
    if (binaries := find_binaries()) is None or not (restore := shutil.which("pg_restore")):
        missing("no PostgreSQL with pg_dump and pg_restore")
        return
    with postgres(binaries, durable=False) as (address, password):
        user, place = address.removeprefix("postgresql://").split("@")
        host, _, rest = place.partition(":")
        port, _, name = rest.partition("/")
        client = [str(binaries / "psql"), "-h", host, "-p", port, "-U", user, "-d", name, "-c"]
        command = "CREATE TABLE labels (x text); INSERT INTO labels VALUES ('a row of ours')"
        subprocess.run([*client, command], check=True, capture_output=True, env=os.environ | {"PGPASSWORD": password})
        copy = prepare_upgrade(tmp_path, Database(user, host, int(port), name, password), PYTHON)
    assert copy is not None and stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copy.name == "label_studio-unknown-1.pgdump"
    script = subprocess.run([restore, "--file=-", str(copy)], check=True, capture_output=True, text=True).stdout
    assert "a row of ours" in script
