"""Several annotators at once, and kills, on SQLite and PostgreSQL: small versions of the benchmark and fault run."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from annotation_load import make_pairs
from annotators_at_once import BAD as BAD_RACE
from annotators_at_once import race

from faults.kill_annotation import BAD as BAD_KILLS
from faults.kill_annotation import Bench
from ndec_builder.annotation.label_studio.connection import Connection, own_connection
from ndec_builder.annotation.label_studio.credentials import secrets_file
from ndec_builder.annotation.label_studio.environment import find_server
from ndec_builder.annotation.label_studio.server import LabelStudioServer, state_file
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace
from support.needs import free_port, missing
from support.postgres import find_binaries, postgres

pytestmark = pytest.mark.server
UNITS = Path(__file__).parents[2] / "examples" / "systemd"


def test_six_annotators_at_once_on_sqlite(served: tuple[Workspace, Connection]) -> None:
    workspace, connection = served
    make_pairs(workspace, 600)
    found = race(workspace, connection, seconds=3)
    assert found["labels"] > 5 and found["errors"] == 0
    assert {name: found[name] for name in BAD_RACE} == dict.fromkeys(BAD_RACE, 0)


def test_postgresql_six_at_once_then_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six people at once; then kill -9 of push, pull and server while two of them label on."""
    binaries = find_binaries()
    if binaries is None:
        missing("no PostgreSQL: install the package `postgresql`")
        return
    try:
        find_server()
    except NdecError as error:
        missing(f"no Label Studio server: {error}")
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "NDEC_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    workspace = Workspace(tmp_path / "bench")
    make_pairs(workspace, 600)
    with postgres(binaries, durable=False) as (address, password):
        monkeypatch.setenv("NDEC_DATABASE_PASSWORD", password)
        server = LabelStudioServer(workspace.label_studio, free_port(), image_url="http://i", database=address)
        with server:
            found = race(workspace, own_connection(workspace, server.url, "http://i"), seconds=3)
            assert found["labels"] > 5 and found["errors"] == 0
            assert {name: found[name] for name in BAD_RACE} == dict.fromkeys(BAD_RACE, 0)

            units_pull_and_dump(workspace, server, address, tmp_path, monkeypatch)

            # The password lies in the 0600 file alone; the next start needs the address only.
            written = server.log.read_text() + state_file(server.data).read_text()
            written += (workspace.annotation("test") / "run.json").read_text()
            assert password not in written and password not in repr(server.__dict__)
            assert read_json(secrets_file(server.data))["database_password"] == password
            assert not list(server.data.glob("label_studio*"))  # no SQLite file, and no dump of an empty database
            monkeypatch.delenv("NDEC_DATABASE_PASSWORD")

            other = tmp_path / "kills"
            other.mkdir()
            (other / "label_studio").symlink_to(server.data)
            monkeypatch.setenv("LABEL_STUDIO_URL", server.url)
            monkeypatch.setenv("LABEL_STUDIO_API_KEY", read_json(secrets_file(server.data))["token"])
            bench = Bench(other, server, seed=1)
            result = bench.run(["push", "pull", "server", "push"])
    assert bench.fault.kills["server"] == 1
    assert {name: result[name] for name in BAD_KILLS} == dict.fromkeys(BAD_KILLS, 0)
    assert result["labels confirmed"] > 5


def units_pull_and_dump(
    workspace: Workspace, server: LabelStudioServer, address: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the commands of the systemd unit `ndec-pull.service`, with the paths of this machine."""
    where = urlsplit(address)
    given = {"PGHOST": where.hostname, "PGPORT": str(where.port), "PGUSER": where.username}
    given |= {"PGPASSWORD": os.environ["NDEC_DATABASE_PASSWORD"], "LABEL_STUDIO_URL": server.url}
    given |= {"LABEL_STUDIO_API_KEY": read_json(secrets_file(server.data))["token"]}
    paths = {"/srv/ndec/my-bench": str(workspace.root), "/srv/ndec/backup": str(folder)}
    before = AnnotationTables(workspace, "test").labels.num_rows
    lines = (UNITS / "ndec-pull.service").read_text().splitlines()
    commands = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    assert len(commands) == 2
    for line in commands:
        program, *words = shlex.split(line)
        for path, here in paths.items():
            words = [word.replace(path, here) for word in words]
        own = [sys.executable, "-m", "ndec_builder"] if program == "/opt/ndec/bin/ndec" else [program]
        subprocess.run([*own, *words], check=True, capture_output=True, env={**os.environ, **given})  # type: ignore[dict-item]
    assert AnnotationTables(workspace, "test").labels.num_rows == before  # the race has pulled them already
    content = subprocess.run(["pg_restore", "--list", str(folder / "my-bench.pgdump")], capture_output=True, text=True)
    assert "TABLE DATA public task_completion" in content.stdout


def test_the_error_names_a_postgresql_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDEC_DATABASE_PASSWORD", "geheim")
    try:
        find_server()
    except NdecError as error:
        missing(f"no Label Studio server: {error}")
    port = free_port()
    address = f"postgresql://me@127.0.0.1:{port}/bench"
    with pytest.raises(NdecError, match=rf"no PostgreSQL answers at postgresql://me@127.0.0.1:{port}/bench") as caught:
        LabelStudioServer(tmp_path / "data", free_port(), database=address).start()
    assert "geheim" not in str(caught.value)
