"""Serving: stopping from another terminal, upgrades, an existing server, hints only when switched on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from ndec_builder.annotation.label_studio import environment
from ndec_builder.annotation.label_studio.connection import remember_pictures
from ndec_builder.annotation.label_studio.credentials import make_secrets
from ndec_builder.annotation.label_studio.server import LabelStudioServer, running_state
from ndec_builder.annotation.serve import stop
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace
from support.needs import free_port
from support.processes import ends_with_us

pytestmark = pytest.mark.slow


def serve(workspace: Path, env: Path, *more: str, lines: int, **variables: str) -> tuple[subprocess.Popen[str], str]:
    """Start `ndec annotate serve` and wait for its first lines."""
    command = [sys.executable, "-m", "ndec_builder", "annotate", "serve", "--workspace", str(workspace), *more]
    environment = {**os.environ, "NDEC_LABEL_STUDIO": str(env), **variables}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=ends_with_us())
    assert process.stderr
    return process, "".join(next(process.stderr) for _ in range(lines))


def test_stop_ends_the_servers_of_another_terminal(env: Path, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    workspace = Workspace(tmp_path / "bench")
    assert not stop(workspace)
    ports = ("--port", str(free_port()), "--image-port", str(free_port()))
    process, _ = serve(workspace.root, env, *ports, lines=3)
    with process:
        assert running_state(workspace.label_studio) and stop(workspace)
        assert process.wait(30) == 0 and running_state(workspace.label_studio) is None


def test_another_address_of_the_pictures_than_that_of_the_tasks_is_said(env: Path, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    workspace, port = Workspace(tmp_path / "bench"), free_port()
    make_secrets(workspace.label_studio)
    for number in (port, 1):
        remember_pictures(workspace, f"http://127.0.0.1:{number}/key/k")
    more = ("--port", str(free_port()), "--image-port", str(port))
    process, said = serve(workspace.root, env, *more, lines=3)
    with process:
        assert stop(workspace)
    assert (
        "with pictures at http://127.0.0.1:1, and this serves them at" in said and said.count("sent to annotators") == 1
    )
    assert f"at http://127.0.0.1:{port}: the page cannot show those pairs" in said


def test_serving_pictures_only_for_an_existing_label_studio(env: Path, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    with LabelStudioServer(tmp_path / "other", free_port(), env=env) as server:
        token, port = make_secrets(tmp_path / "other")["token"], free_port()
        more = ("--url", server.url, "--image-port", str(port), "--host", "0.0.0.0")
        process, said = serve(tmp_path / "bench", env, *more, lines=3, LABEL_STUDIO_API_KEY=token)
        try:
            assert "WARNING: other machines reach 0.0.0.0" in said and token not in said
            key = read_json(tmp_path / "bench" / "label_studio" / "secrets.json")["image_key"]
            assert key not in said
            assert requests.get(f"http://127.0.0.1:{port}/pair/0123456789abcdef/query").status_code == 403
            assert requests.get(f"http://127.0.0.1:{port}/key/{key}/pair/0123456789abcdef/query").status_code == 404
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:  # a failed assertion must not leave the server running
            process.kill()
            process.communicate()
        assert [path.name for path in (tmp_path / "bench" / "label_studio").iterdir()] == ["secrets.json"]


def test_an_upgrade_keeps_a_copy_of_the_database(
    env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    with LabelStudioServer(data, free_port(), env=env):
        pass
    assert read_json(data / "version.json") == {"label_studio": "1.23.2"}
    with sqlite3.connect(data / "label_studio.sqlite3") as store:
        store.execute("CREATE TABLE kept (x)")
    write_json(data / "version.json", {"label_studio": "1.9.0"})
    with LabelStudioServer(data, free_port(), env=env):
        pass
    with sqlite3.connect(data / "label_studio-1.9.0-1.sqlite3") as copy:
        assert copy.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert "opens a database of version 1.9.0; a copy of it is kept in" in capsys.readouterr().err
    write_json(data / "version.json", {"label_studio": "1.100.0"})
    with pytest.raises(NdecError, match=r"made by Label Studio 1\.100\.0.* cannot read it"):
        LabelStudioServer(data, free_port(), env=env).start()

    metadata = env / "lib/python3.11/site-packages"
    (metadata / "label_studio-1.23.2.dist-info").rename(metadata / "label_studio-1.9.0.dist-info")
    commands: list[list[str]] = []

    def pip(command: list[str], what: str) -> None:
        commands.append(command)
        if what.startswith("install"):
            (metadata / "label_studio-1.9.0.dist-info").rename(metadata / "label_studio-1.23.2.dist-info")

    monkeypatch.setattr(environment, "_run", pip)
    with pytest.raises(NdecError, match="install --upgrade"):
        environment.install(env)
    assert environment.install(env, upgrade=True) == env and "label-studio==1.23.2" in commands[-1]
