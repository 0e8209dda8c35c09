"""What the running servers expose: loopback only, pictures only, no other host names, secrets in one private file."""

from __future__ import annotations

import ast
import gc
import os
import socket
import stat
from pathlib import Path

import pytest
import requests

from ndec_builder.annotation.label_studio.connection import Connection, verify
from ndec_builder.annotation.label_studio.ports import listeners
from ndec_builder.annotation.label_studio.server import running_state
from ndec_builder.annotation.settings import ServeConfig
from ndec_builder.annotation.web import image_server
from ndec_builder.annotation.web.image_server import ImageServer
from ndec_builder.core.workspace import Workspace

pytestmark = [pytest.mark.server, pytest.mark.slow]


def _data(connection: Connection) -> Path:
    assert connection.secrets is not None
    return connection.secrets.parent


def test_both_listen_on_loopback_by_default(label_studio: Connection, tmp_path: Path) -> None:
    assert ServeConfig(tmp_path).host == "127.0.0.1"
    state = running_state(_data(label_studio))
    assert state is not None
    with ImageServer(Workspace(tmp_path), 0) as images:
        ports = {
            int(url.rsplit(":", 1)[1]): pid for url, pid in ((images.url, os.getpid()), (state["url"], state["pid"]))
        }
        found = {entry.port: entry for entry in listeners() if entry.port in ports}
        assert found.keys() == ports.keys()
        for port, entry in found.items():
            assert not entry.is_wide and entry.pid == ports[port], entry
        held = [entry for entry in listeners() if entry.pid in ports.values()]
        assert not [entry for entry in held if entry.is_wide], held


@pytest.mark.parametrize("path", ["/", "/image", "/image/", "/image/pool/", "/examples/", "/compare/", "/guideline/.."])
def test_no_folder_is_listed(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with ImageServer(Workspace(tmp_path), 0) as images:
        answer = requests.get(images.url + path)
        assert answer.status_code == 404 and b"secret" not in answer.content and b"<li>" not in answer.content


def _raw(url: str, request: bytes) -> bytes:
    """The response to exactly these bytes: a client library would normalise the path."""
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while more := client.recv(65_536):
            answer += more
        return answer


ESCAPES = [
    b"/../../../../etc/passwd", b"/image/pool/../../../../etc/passwd", b"/image/pool/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    b"/examples/../../../etc/passwd", b"/examples/..%2f..%2f..%2fetc%2fpasswd", b"/examples/%2fetc%2fpasswd",
    b"//etc/passwd", b"/image/../pool/a", b"/examples/..%5c..%5cetc", b"/image/pool/\x00", b"http://evil/etc/passwd",
    b"/image/pool/%00/etc/passwd", b"/image/pool/file:%2f%2f%2fetc%2fpasswd", b"/static/../../etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_escapes(label_studio: Connection, tmp_path: Path, path: bytes) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with ImageServer(Workspace(tmp_path), 0) as images:
        for url in (images.url, label_studio.url):
            answer = _raw(url, request)
            assert b"root:" not in answer and not answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: image"), answer[
                :200
            ]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_host_names_are_refused_by_both(label_studio: Connection, tmp_path: Path, host: str) -> None:
    """A web page whose host name points at this machine must read nothing."""
    request = f"GET /guideline HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    with ImageServer(Workspace(tmp_path), 0) as images:
        assert _raw(images.url, request).split()[1] == b"403"
    answer = _raw(label_studio.url, request.replace(b"/guideline", b"/api/version"))
    assert answer.split()[1] == b"400" and b"release" not in answer


def test_keys_are_compared_in_constant_time(tmp_path: Path) -> None:
    """Addresses need a key, and comparing keys does not stop at the first difference."""
    tree = ast.parse(Path(image_server.__file__).read_text("utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert any(isinstance(call, ast.Attribute) and call.attr == "compare_digest" for call in calls)
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert not [node for node in compared if "key" in ast.unparse(node).split()], "a key is compared by =="
    with ImageServer(Workspace(tmp_path), 0, "0.0.0.0") as images:
        place, _, key = images.url.partition("/key/")
        local = f"http://127.0.0.1:{place.rsplit(':', 1)[1]}"
        assert requests.get(f"{local}/guideline").status_code == 403
        assert requests.get(f"{local}/key/{key[:-1]}0x/guideline").status_code == 403
        assert requests.get(f"{local}/key/{key}/guideline").status_code == 200


def test_secrets_are_in_one_private_file_only(label_studio: Connection) -> None:
    data = _data(label_studio)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    secrets = data / "secrets.json"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    token = label_studio.token.encode()
    # Only the server's own database may hold the token as well.
    others = [p for p in data.parent.rglob("*") if p.is_file() and p != secrets and "sqlite3" not in p.name]
    assert [path for path in others if token in path.read_bytes()] == []
    assert token.decode() not in repr(label_studio)


def test_talking_to_label_studio_leaves_no_socket_open(label_studio: Connection) -> None:
    def sockets() -> int:
        links = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                links.append(os.readlink(entry))  # noqa: PTH115 - a target that is not a path
            except OSError:
                continue
        return sum(link.startswith("socket:") for link in links)

    verify(label_studio)
    gc.disable()  # sockets that only the collector would close count as open
    try:
        before = sockets()
        for _ in range(10):
            verify(label_studio)
        assert sockets() <= before
    finally:
        gc.enable()
