"""Several annotators at once, and kills, on SQLite and PostgreSQL: small versions of the benchmark and fault run."""

from __future__ import annotations

import logging
from pathlib import Path

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
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace
from support.needs import free_port, missing
from support.postgres import find_binaries, postgres

pytestmark = pytest.mark.server


def test_six_annotators_at_once_on_sqlite(served: tuple[Workspace, Connection]) -> None:
    workspace, connection = served
    make_pairs(workspace, 600)
    found = race(workspace, connection, seconds=6)
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
            found = race(workspace, own_connection(workspace, server.url, "http://i"), seconds=6)
            assert found["labels"] > 5 and found["errors"] == 0
            assert {name: found[name] for name in BAD_RACE} == dict.fromkeys(BAD_RACE, 0)

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
