"""What a table may refer to: files of its own folder, and hosts that a person allows. Nothing else is read."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.commands import COMMANDS
from ndec_builder.core.access.hosts import parse_allowed
from ndec_builder.core.access.references import References
from ndec_builder.core.storage import read_uri
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.settings import IngestConfig
from support.ingesting import picture
from support.untrusted_tables import ingest, write


class Site(http.server.ThreadingHTTPServer):
    """A server on loopback that counts requests. /moved/ADDRESS redirects, any other path is a picture."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.sent_passwords: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Answers)
        self.port = self.server_address[1]


class Answers(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        self.server.sent_passwords.append(self.headers["Authorization"])
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved/"))
            self.end_headers()
            return
        data = picture(5)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


OUT = "leads out of the folder"
OUTSIDE = "an absolute path outside of the source's folder"
PLAIN = "not a regular file"
CHAIN = "a chained address"
SCHEME = "which a table must not use"
HOST = "a host that was not allowed"
PRIVATE = "is not a public address"
NONE = "a name that no file and no address can have"
# what a row names → why it is refused. {private}: the folder next to the source · {port}: of a server on loopback
REFUSED = {
    "../private/secret.jpg": OUT,
    "below/../../private/secret.jpg": OUT,
    "..\\private\\secret.jpg": OUT,
    "{private}/secret.jpg": OUTSIDE,
    "//{private}/secret.jpg": OUTSIDE,
    "file://{private}/secret.jpg": OUTSIDE,
    "FILE://{private}/secret.jpg": OUTSIDE,
    "local://{private}/secret.jpg": OUTSIDE,
    "file://../private/secret.jpg": OUT,
    "link.jpg": OUT,
    "out/secret.jpg": OUT,
    "{private}/other.parquet#cell=0/0/image": OUTSIDE,
    "../private/other.parquet#cell=0/0/image": OUT,
    "{private}/secret.jpg#bytes=0-99": OUTSIDE,
    "link.jpg#bytes=0-99": OUT,
    "pipe.jpg": PLAIN,
    "pipe.jpg#bytes=0-9": PLAIN,
    "pipe.jpg#cell=0/0/image": PLAIN,
    "zero.jpg": OUT,
    "loop.jpg": PLAIN,
    "/dev/zero": OUTSIDE,
    "/proc/self/environ": OUTSIDE,
    "below": PLAIN,
    "a\0.jpg": NONE,
    "simplecache::file://{private}/secret.jpg": CHAIN,
    "zip://x.jpg::{private}/secret.jpg": CHAIN,
    "simplecache::http://127.0.0.1:{port}/x.jpg": CHAIN,
    "memory://secret.jpg": SCHEME,
    "ftp://127.0.0.1/x.jpg": SCHEME,
    "sftp://host/x.jpg": SCHEME,
    "github://o:r@main/x.jpg": SCHEME,
    "data://x.jpg": SCHEME,
    " http://127.0.0.1:{port}/x.jpg": SCHEME,
    "http://127.0.0.1:{port}/x.jpg": HOST,
    "http://[::1]:{port}/x.jpg": HOST,
    "http://169.254.169.254/latest/meta-data": HOST,
    "http://images.test:{port}/x.jpg": HOST,
    "https://public.test.evil.test/x.jpg": HOST,
    "s3://bucket/x.jpg": HOST,
    "https://me:pw@public.test/x.jpg": "user name or password",
    "https://public.test@127.0.0.1/x.jpg": "user name or password",
    "http:///x.jpg": NONE,
    "http://public.test:99999999/x.jpg": NONE,
    "http://localhost:{port}/x.jpg": PRIVATE,
    "http://2130706433:{port}/x.jpg": PRIVATE,
    "http://127.1:{port}/x.jpg": PRIVATE,
    "http://rebound.test:{port}/x.jpg": PRIVATE,
    "https://public.test/t.parquet#cell=0/0/image": "a cell of a remote table",
}
HONEST = {
    "a.jpg": 0, "./a.jpg": 0, "below/b.jpg": 1, "c::d.jpg": 2, "e#f.jpg": 3, "inside.jpg": 0, "{source}/a.jpg": 0,
    "file://{source}/below/b.jpg": 1, "container.bin#bytes=10-{last}": 0,
}  # fmt: skip
AGAIN = ("a.jpg", "./a.jpg", "{source}/a.jpg", "file://{source}/below/b.jpg")  # files that earlier rows name
ALLOW = (
    "https://public.test", "http://public.test", "http://localhost:{port}", "http://2130706433:{port}",
    "http://127.1:{port}", "http://rebound.test:{port}",
)  # fmt: skip


@pytest.fixture
def names(world: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Fills in the places of this test; every `.test` host gets an address: `public.test` a public one."""
    site.seen.clear()
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        name = str(host)
        fake = "93.184.216.34" if name == "public.test" else "127.0.0.1"
        return real(fake if name.endswith(".test") else host, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    last = 10 + len(picture(0)) - 1

    def fill(text: str) -> str:
        parts = {"private": world.parent / "private", "source": world, "port": site.port, "last": last}
        for name, value in parts.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    return fill


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened for reading images."""
    paths: list[str] = []
    real = os.open

    def record(path: Any, *rest: Any) -> int:
        paths.append(str(path))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", record)
    return paths


@pytest.mark.parametrize("name", REFUSED, ids=[repr(name) for name in REFUSED])
def test_a_table_cannot_name(
    world: Path, site: Site, names: Callable[[str], str], name: str, opened: list[str]
) -> None:
    settings = write("parquet", world, names(name))
    rows, rejects = ingest(world.parent / "ws", **settings, look="decode", allow=tuple(map(names, ALLOW)))
    assert list(rows) == ["good"] and list(rejects) == ["asked-0"]
    assert REFUSED[name] in rejects["asked-0"]
    assert site.seen == [] and not [path for path in opened if "private" in path or "secret" in path]


@pytest.mark.parametrize("kind", ["hf", "arrow"])
def test_the_other_kinds_of_tables_cannot_either(
    world: Path, site: Site, names: Callable[[str], str], kind: str, opened: list[str]
) -> None:
    settings = write(kind, world, *map(names, REFUSED))
    rows, rejects = ingest(world.parent / "ws", **settings, look="decode", allow=tuple(map(names, ALLOW)))
    assert list(rows) == ["good"] and len(rejects) == len(REFUSED)
    for number, reason in enumerate(REFUSED.values()):
        assert reason in rejects[f"asked-{number}"]
    assert site.seen == [] and not [path for path in opened if "private" in path or "secret" in path]


@pytest.mark.parametrize("kind", ["parquet", "hf", "arrow"])
def test_honest_references_are_accepted(world: Path, names: Callable[[str], str], kind: str) -> None:
    settings = write(kind, world, *map(names, HONEST))
    rows, rejects = ingest(world.parent / "ws", **settings)
    files = {f"asked-{number}": seed for number, (name, seed) in enumerate(HONEST.items()) if name not in AGAIN}
    assert set(rows) == {"good", *files} and rejects == {}
    workspace = Workspace(world.parent / "ws")
    data = {name: read_uri(workspace.resolve(rows[name]["uri"])) for name in files}
    assert data == {name: picture(seed) for name, seed in files.items()}


def test_there_are_forty_kinds() -> None:
    assert len(REFUSED) >= 40


def test_a_folder_can_be_allowed(world: Path, names: Callable[[str], str]) -> None:
    settings = write("parquet", world, names("{private}/secret.jpg"))
    rows, _ = ingest(world.parent / "ws", **settings, follow_links=world.parent / "private")
    assert set(rows) == {"good", "asked-0"}


def test_a_public_host_can_be_allowed(world: Path, names: Callable[[str], str]) -> None:
    settings = write("parquet", world, "https://public.test/x.jpg")
    rows, _ = ingest(world.parent / "ws", **settings, allow=("https://*.test",))
    assert rows["asked-0"]["uri"] == "https://public.test/x.jpg"


def test_a_private_host_can_be_allowed_by_its_name_only(world: Path, site: Site, names: Callable[[str], str]) -> None:
    settings = write("parquet", world, names("http://127.0.0.1:{port}/x.jpg"))
    config = IngestConfig(
        world.parent / "ws", "pool", look="decode", allow=(names("private:http://127.0.0.1:{port}"),), **settings
    )
    COMMANDS["ingest"].run(config)
    rows = Workspace(world.parent / "ws").read_images("pool")["image_id"].to_pylist()
    assert set(rows) == {"good", "asked-0"} and site.seen == ["/x.jpg"]


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/x", "http://localhost:{port}/x", "file:///etc/hostname"])
def test_a_redirect_leads_to_no_other_private_host(
    site: Site, names: Callable[[str], str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = names("http://rebound.test:{port}")
    monkeypatch.setenv("NDEC_ALLOW", f"private:{start}")
    with pytest.raises(OSError, match=r"not a public address|No connection adapters"):
        read_uri(f"{start}/moved/{names(target)}")
    assert len(site.seen) == 1


def test_a_name_that_changes_its_address_gets_no_request(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public when it is checked, loopback when it is connected to."""
    site.seen.clear()
    real, answers = socket.getaddrinfo, ["93.184.216.34", "127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **named: real(answers.pop(0), *rest, **named))
    with pytest.raises(OSError, match=r"changes.test \(127.0.0.1\) is not a public address"):
        read_uri(f"http://changes.test:{site.port}/x")
    assert site.seen == [] and answers == []


def test_an_allowed_host_with_a_private_address_is_refused_before_anything_is_read(
    world: Path, site: Site, names: Callable[[str], str]
) -> None:
    """Reading would refuse it too; the reject must say so without a connection."""
    site.seen.clear()
    host = names("http://rebound.test:{port}")
    rule = References((world,), (parse_allowed(host),))
    assert rule.resolve(f"{host}/x.jpg", str(world / "table.parquet"))[1].endswith("is not a public address")
    assert rule.resolve("http://93.184.216.34/x.jpg", str(world / "table.parquet"))[1].startswith("a host that was not")
    assert site.seen == []


def test_no_stored_password_is_sent(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login made-up password made-up\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NDEC_ALLOW", f"private:http://127.0.0.1:{site.port}")
    site.sent_passwords.clear()
    assert read_uri(f"http://127.0.0.1:{site.port}/x") == picture(5)
    assert site.sent_passwords == [None]


def test_a_source_that_the_person_names_may_be_private(site: Site, tmp_path: Path) -> None:
    """Later stages read it too: the run record says that a person named it."""
    site.seen.clear()
    (tmp_path / "images").mkdir()
    record = {"config": {"source": f"http://127.0.0.1:{site.port}/shards"}}
    (tmp_path / "images" / "pool.run.json").write_text(json.dumps(record))
    uri = f"http://127.0.0.1:{site.port}/shards/x.jpg"
    with pytest.raises(OSError, match="not a public address"):
        read_uri(uri)
    from ndec_builder.core.access.hosts import trusted

    with trusted(IngestConfig(tmp_path, "pool", "folder")):
        assert read_uri(uri) == picture(5)
        assert read_uri(f"{uri}#bytes=2-11") == picture(5)[2:12]  # this server ignores ranges
    assert "NDEC_ALLOW" not in os.environ


def test_lists_of_the_person_may_name_files_anywhere(world: Path, site: Site, names: Callable[[str], str]) -> None:
    lines = ["source/a.jpg", "{private}/secret.jpg", "file://{private}/secret2.jpg", "https://public.test/x.jpg"]
    lines += ["http://127.0.0.1:{port}/y.jpg", "source/pipe.jpg"]
    (world.parent / "list.txt").write_text("\n".join(map(names, lines)))
    rows, rejects = ingest(world.parent / "ws", source=world.parent / "list.txt")
    assert set(rows) == {"a", "secret", "secret2", "x"} and set(rejects) == {"y", "pipe"}
    assert PRIVATE in rejects["y"] and PLAIN in rejects["pipe"] and site.seen == []
    allow = (names("private:http://127.0.0.1:{port}"),)
    rows, _ = ingest(world.parent / "ws", source=world.parent / "list.txt", allow=allow)
    assert "y" in rows
