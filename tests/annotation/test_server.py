"""Start, stop and failures of the server process, with a tiny program in place of Label Studio.

The real one is used in test_label_studio.py.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from ndec_builder.annotation.label_studio import data_lock, environment
from ndec_builder.annotation.label_studio.connection import Connection, connect_label_studio, verify
from ndec_builder.annotation.label_studio.credentials import image_key, make_secrets, secrets_file
from ndec_builder.annotation.label_studio.ports import check_port_is_free
from ndec_builder.annotation.label_studio.server import LabelStudioServer, running_state, state_file
from ndec_builder.annotation.settings import PullConfig, PushConfig, ServeConfig
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace
from support.needs import free_port
from support.processes import server_of_a_killed_owner

pytestmark = pytest.mark.slow


def test_starts_with_private_secrets_and_ends_its_own_process(env: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    data = workspace.label_studio
    with LabelStudioServer(data, free_port(), env=env, image_url="http://i") as server:
        state = running_state(data)
        assert state and state["url"] == server.url
        secret = make_secrets(data)
        assert stat.S_IMODE(secrets_file(data).stat().st_mode) == 0o600 and len(secret["token"]) == 40
        assert secret["token"] not in server.log.read_text() + state_file(data).read_text()
        with pytest.raises(NdecError, match=r"already runs on .*"):
            LabelStudioServer(data, free_port(), env=env).start()
        with pytest.raises(NdecError, match=rf"port {server.port} .* in use .*--port"):
            LabelStudioServer(tmp_path / "other", server.port, env=env).start()
    assert running_state(data) is None and not state_file(data).exists()
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url)
    with LabelStudioServer(data, free_port(), env=env):
        assert make_secrets(data) == secret  # kept for the next start


def test_only_harmless_variables_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ambient = {
        "DEBUG": "true", "CORS_ALLOW_ALL_ORIGINS": "true", "SSRF_PROTECTION_ENABLED": "false", "LC_TIME": "C",
        "LOCAL_FILES_SERVING_ENABLED": "true", "HEARTEX_DEBUG": "true", "PYTHONSTARTUP": "x", "AWS_SECRET": "x",
    }  # fmt: skip
    for name, value in ambient.items():
        monkeypatch.setenv(name, value)
    server = LabelStudioServer(tmp_path / "data", free_port())
    found = server._environment(make_secrets(tmp_path / "data"), None)
    assert found["DEBUG"] == found["CORS_ALLOW_ALL_ORIGINS"] == found["LOCAL_FILES_SERVING_ENABLED"] == "false"
    assert found["SSRF_PROTECTION_ENABLED"] == found["LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK"] == "true"
    assert found["LC_TIME"] == "C" and found["PATH"] == os.environ["PATH"]
    assert not {"HEARTEX_DEBUG", "PYTHONSTARTUP", "AWS_SECRET"} & found.keys()


def test_new_secrets_are_private_from_the_start(tmp_path: Path) -> None:
    """Nothing reads them in between: every read would also take the rights of others away."""
    image_key(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE(secrets_file(tmp_path / "data").stat().st_mode) == 0o600


def test_folders_that_others_could_read_are_made_private(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_secrets(tmp_path / "data")
    secrets_file(tmp_path / "data").chmod(0o644)
    (tmp_path / "data").chmod(0o755)
    make_secrets(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE(secrets_file(tmp_path / "data").stat().st_mode) == 0o600
    assert "mode 755" in capsys.readouterr().err


def test_the_last_log_lines_are_shown_when_the_server_exits(env: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "die").touch()
    with pytest.raises(NdecError, match=r"exit code 7.*no space left for the database"):
        LabelStudioServer(tmp_path / "data", free_port(), env=env).start()
    assert not state_file(tmp_path / "data").exists()


def test_a_stale_state_file_is_ignored_and_a_left_behind_server_is_ended(env: Path, tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    data.mkdir()
    (data / "stays").touch()
    write_json(
        state_file(data), {"pid": os.getpid(), "owner": 1, "url": "http://x", "image_url": ""}
    )  # a reused process id
    assert running_state(data) is None
    with (
        server_of_a_killed_owner(data, port, env) as left,
        LabelStudioServer(data, port, env=env),  # the same port: the left-behind server must have been ended
    ):
        now = running_state(data)
        assert now and now["pid"] != left["pid"]


def test_the_server_ends_when_ndec_is_killed(env: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with server_of_a_killed_owner(data, free_port(), env):
        data_lock.release(data_lock.acquire(data, wait=30))  # the server holds the lock until it ends
        assert running_state(data) is None


def test_secrets_that_do_not_match_the_database(env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabelStudioServer, "_environment", lambda self, secret, database: {
        **os.environ, "LABEL_STUDIO_BASE_DATA_DIR": str(self.data), "LABEL_STUDIO_USER_TOKEN": "another",
    })  # fmt: skip
    with pytest.raises(NdecError, match=r"refuses the token in .*secrets\.json"):
        LabelStudioServer(tmp_path / "data", free_port(), env=env).start()


def test_connecting_to_nothing_to_other_versions_and_with_a_wrong_token(
    env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(NdecError, match="ndec annotate serve"):
        connect_label_studio(workspace)
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("LABEL_STUDIO_URL", url)
    with pytest.raises(UsageError, match="no access token"):
        connect_label_studio(workspace)
    with pytest.raises(UsageError, match=r"token file .* does not exist"):
        connect_label_studio(workspace, token_file=str(tmp_path / "nope"))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "f" * 40)
    with pytest.raises(NdecError, match=f"no Label Studio answers at {url}"):
        connect_label_studio(workspace)
    with LabelStudioServer(tmp_path / "data", free_port(), env=env) as server:
        with pytest.raises(NdecError, match="refuses the access token") as caught:
            connect_label_studio(workspace, server.url)
        assert "f" * 40 not in str(caught.value)
        secret = read_json(secrets_file(tmp_path / "data"))
        connection = Connection(server.url, secret["token"], "")
        assert secret["token"] not in repr(connection)
    (tmp_path / "data" / "stand_in_version").write_text("2.0.0")
    with (
        pytest.raises(NdecError, match=r"runs Label Studio 2\.0\.0; ndec needs version 1"),
        LabelStudioServer(tmp_path / "data", free_port(), env=env) as server,
    ):
        verify(Connection(server.url, "", ""))


def test_the_environment_of_the_server(env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.find_server(env) == env / "bin/label-studio"
    with pytest.raises(NdecError, match="ndec annotate install"):
        environment.find_server(tmp_path / "nothing")
    commands: list[list[str]] = []
    monkeypatch.setattr(environment, "_run", lambda command, what: commands.append(command))
    assert environment.install(env) == env  # completed, then known to be complete
    assert any("label-studio==1.23.2" in command for command in commands)
    commands.clear()
    environment.install(env)
    assert commands == []
    (env / "lib/python3.11/site-packages/label_studio-1.23.2.dist-info").rename(
        env / "lib/python3.11/site-packages/label_studio-1.9.0.dist-info"
    )
    for call in (environment.find_server, environment.install):
        with pytest.raises(NdecError, match=r"has Label Studio 1\.9\.0.*1\.23\.2"):
            call(env)
    monkeypatch.setenv("NDEC_LABEL_STUDIO", str(env))
    assert environment.default_environment() == env
    monkeypatch.delenv("NDEC_LABEL_STUDIO")
    monkeypatch.setenv("NDEC_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert environment.default_environment() == tmp_path / "label-studio-1.23.2"
    (tmp_path / ".venv-label-studio").mkdir()
    assert environment.default_environment() == tmp_path / ".venv-label-studio"


def test_serve_stops_label_studio_on_sigterm(env: Path, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    config = f"ServeConfig(Path({str(tmp_path / 'bench')!r}), port={free_port()}, image_port={free_port()})"
    code = (
        "from pathlib import Path; from ndec_builder.annotation.serve import run\n"
        f"from ndec_builder.annotation.settings import ServeConfig\nrun({config})"
    )
    variables = {**os.environ, "NDEC_LABEL_STUDIO": str(env)}
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stderr
        said = "".join(next(process.stderr) for _ in range(3))
        assert "secrets.json" in said and make_secrets(tmp_path / "bench/label_studio")["token"] not in said
        assert running_state(tmp_path / "bench/label_studio")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert process.returncode == 0 and running_state(tmp_path / "bench/label_studio") is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: PushConfig(p, split="tset"), "split is 'tset'; it must be test or train; did you mean 'test'"),
        (lambda p: PullConfig(p, split="dev"), "split is 'dev'; it must be test or train"),
        (lambda p: PushConfig(p, round="second"), "round is 'second'; it must be first, double_check"),
        (lambda p: PushConfig(p, annotators=("a b",)), "annotator 'a b'"),
        (lambda p: PushConfig(p, annotators=("ann", "ann")), "named twice"),
        (lambda p: PushConfig(p, overlap=1.5), "overlap is 1.5"),
        (lambda p: PushConfig(p, double_check="some"), "double_check is 'some'"),
        (lambda p: ServeConfig(p, port=70000), "port is 70000"),
        (lambda p: ServeConfig(p, port=8701), "both 8701"),
    ],
)
def test_invalid_settings(make: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        make(tmp_path)  # type: ignore[operator]


def test_push_without_candidates_names_the_step_before(tmp_path: Path) -> None:
    from ndec_builder.annotation import push

    with pytest.raises(NdecError, match=r"no candidates .*ndec mine --split train"):
        push.run(PushConfig(tmp_path, split="train"))


def test_only_one_command_works_on_a_split_at_a_time(tmp_path: Path) -> None:
    from ndec_builder.core.locks import locked

    with locked(tmp_path), pytest.raises(NdecError, match="wait until it ends"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_busy_port_is_reported_before_anything_starts(env: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        with pytest.raises(NdecError, match=rf"in use by process {os.getpid()} \(.*`--port NUMBER`"):
            LabelStudioServer(tmp_path / "data", busy.getsockname()[1], env=env).start()
        assert not (tmp_path / "data").exists()


def test_a_port_that_is_released_a_moment_later_counts_as_free() -> None:
    """The system closes a killed program's sockets after its process has gone."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(NdecError, match="in use"):
            check_port_is_free(port, "`--port NUMBER`", wait=0.05)
        release = threading.Timer(0.3, held.close)
        release.start()
        check_port_is_free(port, "`--port NUMBER`", wait=30)
        release.join()
