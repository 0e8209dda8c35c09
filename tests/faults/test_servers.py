"""What the running servers expose: loopback only, pictures only, no other host names, secrets in one private file."""

from __future__ import annotations

import gc
import os
import socket
import stat
from email.parser import BytesParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from ndec_builder.annotation import pull, push
from ndec_builder.annotation.label_studio.connection import Connection, verify
from ndec_builder.annotation.label_studio.ports import listeners
from ndec_builder.annotation.label_studio.server import running_state
from ndec_builder.annotation.settings import PullConfig, PushConfig, ServeConfig
from ndec_builder.annotation.web import image_server
from ndec_builder.annotation.web.image_server import ImageServer
from ndec_builder.core.schemas import CANDIDATES, table_of
from ndec_builder.core.storage import read_json, write_table
from ndec_builder.core.workspace import Workspace, shipped

pytestmark = [pytest.mark.server, pytest.mark.slow]


def _data(connection: Connection) -> Path:
    assert connection.secrets is not None
    return connection.secrets.parent


def _port(url: str) -> int:
    return urlsplit(url).port or 0


def test_both_listen_on_loopback_by_default(label_studio: Connection, tmp_path: Path) -> None:
    assert ServeConfig(tmp_path).host == "127.0.0.1"
    state = running_state(_data(label_studio))
    assert state is not None
    with ImageServer(Workspace(tmp_path), 0) as images:
        ports = {_port(url): pid for url, pid in ((images.url, os.getpid()), (state["url"], state["pid"]))}
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
    with socket.create_connection(("127.0.0.1", _port(url)), timeout=10) as client:
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


def _read(answer: bytes) -> tuple[int, str, bytes]:
    """(status, media type, body) of a response, whatever the order of its headers."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, _, headers = head.partition(b"\r\n")
    return int(status.split()[1]), BytesParser().parsebytes(headers).get_content_type(), body


def test_a_picture_is_recognised_as_one(tmp_path: Path) -> None:
    """Else the next test could not fail."""
    with ImageServer(Workspace(tmp_path), 0) as images:
        request = b"GET /examples/same-size.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
        name = next(shipped("annotation/examples").glob("*.jpg")).name.encode()
        status, media_type, body = _read(_raw(images.url, request.replace(b"same-size.jpg", name)))
    assert (status, media_type) == (200, "image/jpeg") and body.startswith(b"\xff\xd8")


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_escapes_the_image_server(tmp_path: Path, path: bytes, keyed: bool) -> None:
    with ImageServer(Workspace(tmp_path), 0) as images:
        prefix = urlsplit(images.url).path.encode() if keyed else b""
        status, media_type, body = _read(_raw(images.url, _request(prefix + path)))
    assert status in (403, 404) and media_type == "text/plain" and b"root:" not in body


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_escapes_label_studio(label_studio: Connection, path: bytes) -> None:
    status, media_type, body = _read(_raw(label_studio.url, _request(path)))
    assert not media_type.startswith("image/") and b"root:" not in body
    assert status != 200 or b"<html" in body  # its pages and its login page


def _request(path: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_host_names_are_refused_by_both(label_studio: Connection, tmp_path: Path, host: str) -> None:
    """A web page whose host name points at this machine must read nothing."""
    request = f"GET /guideline HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    with ImageServer(Workspace(tmp_path), 0) as images:
        assert _raw(images.url, request).split()[1] == b"403"
    answer = _raw(label_studio.url, request.replace(b"/guideline", b"/api/version"))
    assert answer.split()[1] == b"400" and b"release" not in answer


def _status_with_key(images: ImageServer, key: str) -> int:
    url = f"http://127.0.0.1:{_port(images.url)}/key/{key}/pair/0123456789abcdef/query"
    return requests.get(url).status_code


@pytest.mark.parametrize(("answer", "status"), [(True, 404), (False, 403)])
@pytest.mark.parametrize("right", [True, False])
def test_the_key_is_compared_by_compare_digest_and_by_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: bool, answer: bool, status: int
) -> None:
    """`compare_digest` takes the same time for every wrong key; here it lies, and the server must believe it."""
    given: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(image_server.hmac, "compare_digest", lambda *keys: given.append(keys) or answer)
    with ImageServer(Workspace(tmp_path), 0) as images:
        key = images.url.partition("/key/")[2]
        assert _status_with_key(images, key if right else "x" * 32) == status
    assert [set(pair) for pair in given] == [{key.encode(), key.encode() if right else b"x" * 32}]


def test_only_the_right_key_opens(tmp_path: Path) -> None:
    with ImageServer(Workspace(tmp_path), 0) as images:
        key = images.url.partition("/key/")[2]
        assert _status_with_key(images, key) == 404  # an unknown pair
        for wrong in (key[:-1], key + "0", key.swapcase(), key[::-1], ""):
            assert _status_with_key(images, wrong) == 403, wrong


def _files_with(data: Path, secret: str) -> set[str]:
    """Files under the workspace of this data folder that contain a secret, by their path in the data folder."""
    found = [path for path in data.parent.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    return {os.path.relpath(path, data) for path in found}


@pytest.fixture
def used(label_studio: Connection, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a server with a project, an annotator's account and pictures that were looked at."""
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    data = _data(label_studio)
    workspace = Workspace(data.parent)
    row = {
        "pair_id": "0123456789abcdef",
        "split": "test",
        "query_id": "q",
        "reference_id": "r",
        "score": 0.9,
        "rank": 1,
    }
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, [row]))
    with ImageServer(workspace, 0) as images:
        push.run(PushConfig(workspace.root, annotators=("ann",), image_url=images.url.partition("/key/")[0]))
        pull.run(PullConfig(workspace.root))
    return data


def test_every_file_with_a_secret_is_a_private_one(used: Path) -> None:
    secrets = read_json(used / "secrets.json")
    accounts = read_json(used / "accounts.json")
    databases = {path.name for path in used.glob("label_studio.sqlite3*")}
    assert databases
    allowed = {
        secrets["token"]: {"secrets.json"} | databases,  # Label Studio stores its tokens as they are
        secrets["password"]: {"secrets.json"},
        secrets["image_key"]: {"secrets.json"} | databases,  # in the tasks
        accounts["ann"]["password"]: {"accounts.json"},
    }
    assert len(allowed) == 4
    for number, (secret, names) in enumerate(allowed.items()):
        found = _files_with(used, secret)
        assert found and found <= names, number


def test_all_files_next_to_the_secrets_are_private(used: Path) -> None:
    assert stat.S_IMODE(used.stat().st_mode) == 0o700
    files = [path for path in used.rglob("*") if path.is_file()]
    assert {"secrets.json", "accounts.json", "label_studio.sqlite3", "server.log"} <= {path.name for path in files}
    for name in ("secrets.json", "accounts.json", "server.json", "server.lock"):
        assert stat.S_IMODE((used / name).stat().st_mode) == 0o600, name
    for path in used.glob("label_studio*.sqlite3*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_connection_shows_no_secret() -> None:
    shown = repr(Connection("http://label-studio", "a-token", "http://images/key/a-key", "someone"))
    assert "someone" in shown and "a-token" not in shown and "a-key" not in shown


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
