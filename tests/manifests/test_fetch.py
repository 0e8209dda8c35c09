"""`ndec fetch` against a real server on loopback that behaves as badly as the web does."""

from __future__ import annotations

import csv
import itertools
import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.storage import read_uri, sha256_bytes
from ndec_builder.edits.make import run as make_copies
from ndec_builder.edits.settings import EditConfig
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.fetch import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig, FetchConfig
from ndec_builder.manifests.validate import validate
from support.damage import info, rehash, table
from support.decided_world import World

pytestmark = pytest.mark.slow

Answer = tuple[int, dict[str, str], bytes]


class Web(ThreadingHTTPServer):
    """pages: path → answers, the last one repeated. Records every request, and how many ran at a time."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.pages: dict[str, list[Answer]] = {}
        self.seen: dict[str, list[float]] = defaultdict(list)
        self.agents: set[str] = set()
        self.sockets: set[tuple[str, int]] = set()
        self.running = self.most = 0
        self.lock = threading.Lock()
        self.url = f"http://{host}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_GET(self) -> None:
        web = self.server
        with web.lock:
            web.running += 1
            web.most = max(web.most, web.running)
            web.seen[self.path].append(time.monotonic())
            web.agents.add(self.headers.get("User-Agent", ""))
            web.sockets.add(self.client_address)
            answers = web.pages.get(self.path, [(404, {}, b"")])
            code, headers, body = answers[min(len(web.seen[self.path]), len(answers)) - 1]
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if int(headers.get("Content-Length", "0")) > len(body):
            self.close_connection = True  # promised more than it sent
        with web.lock:
            web.running -= 1

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as server:
        yield server


@contextmanager
def serving(server: Web) -> Iterator[Web]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def directory(world: World, web: Web) -> Path:
    return attribution_only(world, web)


def attribution_only(world: World, web: Web) -> Path:
    """An attribution-only dataset whose images the server has, at /TABLE/ID."""
    linked = open_manifest(export(ExportConfig(world.workspace.root, name="linked")))
    made = export(ExportConfig(world.workspace.root, attribution_only=True))
    for name, key in IMAGE_TABLES.items():
        for row in linked.table(name).to_pylist():
            data = read_uri(linked.resolve(row["uri"]))
            web.pages[f"/{name}/{row[key]}"] = [(200, {"Content-Type": "image/png"}, data)]
        table(name, lambda rows, n=name, k=key: [r | {"original_url": f"{web.url}/{n}/{r[k]}"} for r in rows])(made)
    rehash(made)
    return made


def fetch(directory: Path, **options: object) -> Path:
    quick: dict[str, object] = {"delay": 0.0, "max_wait": 0.05, "timeout": 5.0, "allow": ("127.0.0.1",)}
    return run(FetchConfig(directory, **(quick | options)))  # type: ignore[arg-type]


def report(directory: Path) -> dict[str, dict[str, str]]:
    with (directory / "fetch.csv").open(newline="") as file:
        return {f"{row['table']}/{row['image_id']}": row for row in csv.DictReader(file)}


def test_everything_is_fetched_checked_and_then_readable(directory: Path, web: Web) -> None:
    manifest = open_manifest(directory)
    assert manifest.stored("references")["uri"].to_pylist() == [None] * 3
    assert fetch(directory, contact="me@example.org") == directory
    for row in manifest.table("references").to_pylist():
        assert sha256_bytes(read_uri(manifest.resolve(row["uri"]))) == row["sha256"]
    codes = {finding.code for finding in validate(directory)}
    assert not codes & {"M104", "M305", "M306"}
    assert {row["state"] for row in report(directory).values()} == {"fetched"}
    assert web.most == 1 and len(web.sockets) == 1  # one request, one connection
    assert all(agent.startswith("ndec/") and "me@example.org" in agent for agent in web.agents)


@pytest.fixture
def with_copies(world: World, web: Web) -> Path:
    """The same with four edited copies, whose address is that of their reference, as `ndec edit` records it."""
    make_copies(EditConfig(world.workspace.root, count=4, seed=3, prefix="made", role="reference"))
    directory = attribution_only(world, web)
    origin = {
        row["query_id"]: row["reference_id"] for row in open_manifest(directory).table("ground_truth").to_pylist()
    }
    copies = {name: f"{web.url}/references/{origin[name]}" for name in MADE}
    table("queries", lambda rows: [r | {"original_url": copies.get(r["query_id"], r["original_url"])} for r in rows])(
        directory
    )
    rehash(directory)
    return directory


MADE = [f"made-{number:06d}" for number in range(4)]


def test_edited_copies_are_made_again_from_their_references(with_copies: Path, web: Web) -> None:
    assert not [finding for finding in validate(with_copies) if finding.code == "M222" and "queries" in finding.detail]
    fetch(with_copies)
    states = {name: row["state"] for name, row in report(with_copies).items()}
    assert [states[f"queries/{name}"] for name in MADE] == ["made"] * 4
    assert states["queries/copy-000000"] == "fetched"  # a record without a seed, and an address of its own
    assert not [path for path in web.seen if "made" in path] and len(web.seen["/references/r1"]) == 1
    assert not {finding.code for finding in validate(with_copies)} & {"M305", "M306"}
    fetch(with_copies)
    assert {row["state"] for row in report(with_copies).values()} == {"there"}


def test_copies_that_cannot_be_made_are_reported(with_copies: Path, web: Web) -> None:
    manifest = open_manifest(with_copies)
    origin = {row["query_id"]: row["reference_id"] for row in manifest.table("ground_truth").to_pylist()}
    lost = next(name for name in MADE if origin[name] != origin[MADE[0]])
    del web.pages[f"/references/{origin[lost]}"]

    def another_seed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        edits = {row["query_id"]: row["edit"] for row in rows}
        changed = json.dumps(json.loads(edits[MADE[0]]) | {"seed": 4})
        return [row | ({"edit": changed} if row["query_id"] == MADE[0] else {}) for row in rows]

    table("queries", another_seed)(with_copies)
    with pytest.raises(GapsError, match="not_made"):
        fetch(with_copies)
    rows = report(with_copies)
    assert rows[f"queries/{MADE[0]}"]["state"] == "not_made"
    assert "made again it has other edits" in rows[f"queries/{MADE[0]}"]["detail"]
    assert rows[f"queries/{lost}"]["detail"] == f"an edited copy of the reference {origin[lost]}, which is missing"


def test_it_goes_on_where_it_stopped(directory: Path, web: Web) -> None:
    fetch(directory)
    paths = sorted((directory / "images").rglob("*"))
    lost = next(path for path in paths if path.name == "r2")
    lost.unlink()
    next(path for path in paths if path.name == "r3").write_bytes(b"half a pict")
    before = {path: len(times) for path, times in web.seen.items()}
    fetch(directory)
    again = {path for path, times in web.seen.items() if len(times) > before[path]}
    assert again == {"/references/r2", "/references/r3"}
    assert report(directory)["references/r1"]["state"] == "there"


def test_what_is_gone_or_changed_is_reported_and_ends_with_three(directory: Path, web: Web) -> None:
    web.pages["/references/r1"] = [(410, {}, b"")]
    del web.pages["/references/r2"]
    web.pages["/references/r3"] = [(200, {}, b"another picture")]
    web.pages["/queries/mine"] = [(403, {}, b"")]
    with pytest.raises(GapsError, match=r"4 of \d+ images are missing") as error:
        fetch(directory)
    assert error.value.exit_code == 3
    rows = report(directory)
    assert (rows["references/r1"]["state"], rows["references/r2"]["state"]) == ("gone", "gone")
    assert (
        rows["references/r3"]["state"] == "changed"
        and sha256_bytes(b"another picture") in rows["references/r3"]["detail"]
    )
    assert rows["queries/mine"]["state"] == "refused" and rows["queries/stranger"]["state"] == "fetched"
    assert not list((directory / "images").rglob("r3*"))  # changed bytes are not kept
    assert "M306" in {finding.code for finding in validate(directory)}


def test_busy_hosts_are_asked_again(directory: Path, web: Web) -> None:
    good = web.pages["/references/r1"][0]
    web.pages["/references/r1"] = [(429, {"Retry-After": "1"}, b""), (503, {}, b""), good]
    web.pages["/references/r2"] = [(200, {"Content-Length": "999999"}, b"cut"), web.pages["/references/r2"][0]]
    web.pages["/references/r3"] = [(500, {}, b"")]
    with pytest.raises(GapsError):
        fetch(directory, retries=2)
    rows = report(directory)
    assert rows["references/r1"]["state"] == rows["references/r2"]["state"] == "fetched"
    assert (rows["references/r3"]["state"], rows["references/r3"]["detail"]) == ("failed", "HTTP 500, 3 tries")
    assert [len(web.seen[f"/references/r{n}"]) for n in (1, 2, 3)] == [3, 2, 3]


def test_it_waits_as_asked_and_between_requests(directory: Path, web: Web) -> None:
    web.pages["/references/r1"].insert(0, (429, {"Retry-After": "1"}, b""))
    fetch(directory, delay=0.03, max_wait=10.0)
    first, second = web.seen["/references/r1"]
    assert second - first >= 1.0
    times = sorted(moment for moments in web.seen.values() for moment in moments)
    assert min(b - a for a, b in itertools.pairwise(times)) >= 0.029


def test_redirects_stay_on_the_web(directory: Path, web: Web, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    web.pages["/moved"] = web.pages["/references/r1"]
    web.pages["/references/r1"] = [(302, {"Location": "/moved"}, b"")]
    web.pages["/references/r2"] = [(301, {"Location": f"file://{tmp_path / 'secret'}"}, b"")]
    web.pages["/references/r3"] = [(302, {"Location": "/references/r3"}, b"")]
    with pytest.raises(GapsError):
        fetch(directory)
    rows = report(directory)
    assert rows["references/r1"]["state"] == "fetched"
    assert rows["references/r2"]["state"] == "refused" and "only http and https" in rows["references/r2"]["detail"]
    assert rows["references/r3"]["detail"] == "more than 5 redirects"


def test_large_files_and_missing_addresses(directory: Path, web: Web) -> None:
    web.pages["/references/r1"] = [(200, {}, b"x" * 1_000_001)]
    table("references", lambda rows: [r | ({"original_url": None} if r["image_id"] == "r2" else {}) for r in rows])(
        directory
    )
    table(
        "queries", lambda rows: [r | ({"original_url": "ftp://x/y"} if r["query_id"] == "mine" else {}) for r in rows]
    )(directory)
    with pytest.raises(GapsError):
        fetch(directory, max_megabytes=1)
    rows = report(directory)
    assert "1,000,001 bytes, the limit is 1,000,000" in rows["references/r1"]["detail"]
    assert rows["references/r2"]["state"] == "no_url" and rows["queries/mine"]["state"] == "refused"


def test_a_host_that_is_not_there(directory: Path, web: Web) -> None:
    gone = web.url.replace(str(web.server_address[1]), "9")  # discard: nobody listens
    table("references", lambda rows: [r | {"original_url": f"{gone}/x"} for r in rows])(directory)
    with pytest.raises(GapsError):
        fetch(directory, retries=1)
    assert report(directory)["references/r1"]["detail"] == "ConnectionError, 2 tries"
    assert report(directory)["queries/mine"]["state"] == "fetched"


def test_a_web_address_in_uri_goes_first(directory: Path, web: Web) -> None:
    web.pages["/bucket"] = web.pages["/references/r1"]
    change = {"uri": f"{web.url}/bucket", "original_url": f"{web.url}/elsewhere"}
    table("references", lambda rows: [r | (change if r["image_id"] == "r1" else {}) for r in rows])(directory)
    fetch(directory)
    assert "/elsewhere" not in web.seen and report(directory)["references/r1"]["state"] == "fetched"


def test_bad_input(world: World, directory: Path) -> None:
    with pytest.raises(UsageError, match="not attribution-only"):
        fetch(export(ExportConfig(world.workspace.root, name="linked")))
    for options, message in (({"delay": -1.0}, "delay"), ({"hosts": 0}, "hosts"), ({"contact": "a\nb"}, "contact")):
        with pytest.raises(UsageError, match=message):
            fetch(directory, **options)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0", "[::ffff:127.0.0.1]", "127.0.0.1.nip"]
)
def test_a_private_address_gets_no_request(
    directory: Path, web: Web, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = web.server_address[1]
    resolve = socket.getaddrinfo
    if host.endswith(".nip"):  # a public name of a loopback address
        monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **named: resolve("127.0.0.1", *rest[:2], **named))
    change = {"original_url": f"http://{host}:{port}/references/r1"}
    for name in ("references", "queries", "train_basic", "train_pair_images"):
        table(name, lambda rows: [row | change for row in rows])(directory)
    with pytest.raises(GapsError):
        fetch(directory, allow=(), retries=0)
    assert not web.seen  # no request reached it
    rows = report(directory).values()
    assert {row["state"] for row in rows} <= {"refused", "failed", "not_made"}  # copies: no reference to make them from
    assert all("is not a public address; `--allow" in row["detail"] for row in rows if row["state"] == "refused")


def test_a_redirect_to_a_private_address_gets_no_request(directory: Path, web: Web) -> None:
    with serving(Web("127.0.0.2")) as other:
        web.pages["/references/r1"] = [(302, {"Location": f"{other.url}/secret"}, b"")]
        with pytest.raises(GapsError):
            fetch(directory, retries=0)
    rows = report(directory)
    assert rows["references/r1"]["state"] == "refused" and "127.0.0.2" in rows["references/r1"]["detail"]
    assert rows["references/r3"]["state"] == "fetched" and not other.seen


@pytest.mark.parametrize("root", ["..", "/etc", "../../../home"])
def test_images_root_outside_of_the_dataset_is_refused(directory: Path, web: Web, root: str) -> None:
    info(images_root=root)(directory)
    with pytest.raises(NdecError, match="outside of the dataset"):
        fetch(directory)
    assert not web.seen


def test_a_link_out_of_the_dataset_is_refused(directory: Path, web: Web, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (directory / "images").symlink_to(tmp_path / "outside")
    with pytest.raises(NdecError, match=r"leads out of .* through a link"):
        fetch(directory)
    assert not web.seen and not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("uri", ["/etc/passwd", "images/../../../x.jpg", "file:///etc/passwd", "http://127.0.0.1/x"])
def test_a_uri_of_a_packed_dataset_stays_in_it(world: World, uri: str) -> None:
    manifest = open_manifest(export(ExportConfig(world.workspace.root, materialize="folder")))
    with pytest.raises(NdecError, match="leaves the dataset"):
        manifest.resolve(uri)
