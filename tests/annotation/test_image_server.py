"""Pictures over HTTP: the right bytes, nothing else, only for this machine."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest
import requests
from PIL import Image

from ndec_builder.annotation.label_studio.ports import page_origins, public_host
from ndec_builder.annotation.records.missing_images import missing_images, missing_line
from ndec_builder.annotation.web import image_server
from ndec_builder.annotation.web.image_server import ImageServer, image_path
from ndec_builder.annotation.web.pictures import Pictures
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import IMAGES, TASKS, table_of
from ndec_builder.core.storage import read_table, sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from support.pictures import scene

ODD = "ä b/c%2F..?#&.x"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "outside"
    folder.mkdir()
    picture = scene(1, (40, 30))
    picture.save(folder / "a.png")
    picture.save(folder / "t.tif")
    (folder / "secret.txt").write_text("secret")
    (folder / "broken.tif").write_bytes(b"II*\0 broken")
    rows = [
        ("a", "a.png", "PNG", 0),
        (ODD, "a.png", "PNG", None),
        ("turned", "a.png", "PNG", 90),
        ("t", "t.tif", "TIFF", 0),
    ]
    rows += [("broken", "broken.tif", "TIFF", 0), ("gone", "gone.png", "PNG", 0)]
    table = [
        {"image_id": i, "role": "pool", "uri": str(folder / name), "format": f, "rotation": r} for i, name, f, r in rows
    ]
    workspace = Workspace(tmp_path / "bench")
    write_table(workspace.images("pool"), table_of(IMAGES, table))
    with ImageServer(workspace, 0) as images:
        yield images.url, folder


def test_serves_plain_files_as_they_are_and_renders_the_rest(server: tuple[str, Path]) -> None:
    url, folder = server
    for image_id in ("a", ODD):
        answer = requests.get(url + image_path("pool", image_id))
        assert answer.content == (folder / "a.png").read_bytes()
        assert answer.headers["Content-Type"] == "image/png"
    turned = Image.open(io.BytesIO(requests.get(url + image_path("pool", "turned")).content))
    tiff = Image.open(io.BytesIO(requests.get(url + image_path("pool", "t")).content))
    assert (turned.format, turned.size, tiff.format, tiff.size) == ("PNG", (30, 40), "PNG", (40, 30))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/image/pool/", 404),
        ("/image/pool", 404),
        ("/image/pool/nobody", 404),
        ("/image/basic/a", 404),
        ("/image/..%2Fpool/a", 404),
        ("/image/pool/..%2F..%2Foutside%2Fsecret.txt", 404),
        ("/image/gold/a", 404),
        ("/pair/0123456789abcdef/query", 404),
        ("/pair/0123456789abcdef/flip.webp", 404),
        ("/pair/0123456789abcdef/secret", 404),
        ("/examples/nothing.jpg", 404),
        ("/examples/..%2Fguideline.md", 404),
    ],
)
def test_everything_else_is_refused(server: tuple[str, Path], path: str, status: int) -> None:
    answer = requests.get(server[0] + path)
    assert answer.status_code == status and b"secret" not in answer.content


@pytest.mark.parametrize(("image_id", "reason"), [("gone", "does not exist"), ("broken", "cannot decode|not an image")])
def test_an_unreadable_picture_is_a_marked_placeholder_and_recorded(
    server: tuple[str, Path], tmp_path: Path, image_id: str, reason: str
) -> None:
    workspace = Workspace(tmp_path / "bench")
    answer = requests.get(server[0] + image_path("pool", image_id))
    assert (
        answer.status_code == 200 and answer.headers["X-Ndec-Missing"] and answer.headers["Cache-Control"] == "no-store"
    )
    assert "X-Ndec-Missing" in answer.headers["Access-Control-Expose-Headers"]
    assert Image.open(io.BytesIO(answer.content)).size == (960, 720)
    recorded = missing_images(workspace)
    assert list(recorded) == [f"pool/{image_id}"] and re.search(reason, recorded[f"pool/{image_id}"]["reason"])
    name = "gone.png" if image_id == "gone" else "broken.tif"
    scene(3, (40, 30)).save(server[1] / name)  # repaired
    assert "X-Ndec-Missing" not in requests.get(server[0] + image_path("pool", image_id)).headers
    assert missing_images(workspace) == {}


@pytest.mark.slow
def test_only_pages_of_label_studio_read_pictures_on_loopback(tmp_path: Path) -> None:
    origins = page_origins("http://127.0.0.1:8700")
    with ImageServer(Workspace(tmp_path), 0, label_studio=origins) as images:
        for origin in ("http://127.0.0.1:8700", "http://localhost:8700"):
            allowed = requests.get(f"{images.url}/guideline", headers={"Origin": origin})
            assert allowed.headers["Access-Control-Allow-Origin"] == origin
        for origin in ("http://evil.example", "http://127.0.0.1:8701", "https://127.0.0.1:8700", "null"):
            refused = requests.get(f"{images.url}/guideline", headers={"Origin": origin})
            assert "Access-Control-Allow-Origin" not in refused.headers
            assert refused.headers["Cross-Origin-Resource-Policy"] == "same-site"


def test_head_does_not_read_the_picture(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pictures, "show", lambda *_: pytest.fail("the picture was read"))
    assert requests.head(server[0] + image_path("pool", "a")).status_code == 200
    assert requests.head(server[0] + image_path("pool", "nobody")).status_code == 404


@pytest.mark.slow
def test_silent_connections_take_a_fixed_number_of_threads_and_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_server._Handler, "request_seconds", 0.5)
    with ImageServer(Workspace(tmp_path), 0) as images, contextlib.ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(socket.create_connection(_address(images)))
        assert requests.get(f"{images.url}/guideline").status_code == 200
        assert sum(thread.name.startswith("ndec-images_") for thread in threading.enumerate()) <= 16


def test_a_trickle_of_bytes_does_not_keep_a_connection_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte arrives well within the limit for a silent connection; the request as a whole does not end."""
    monkeypatch.setattr(image_server._Handler, "request_seconds", 1.0)
    with ImageServer(Workspace(tmp_path), 0) as images, socket.create_connection(_address(images)) as slow:
        slow.settimeout(0.2)
        slow.sendall(b"GET /guideline HTTP/1.1\r\n")
        for _ in range(100):  # 20 s of trickle
            try:
                slow.sendall(b"a")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:  # reset: the server has closed it
                break
        else:
            pytest.fail("the connection stayed open")


def _address(images: ImageServer) -> tuple[str, int]:
    return "127.0.0.1", int(images.url.partition("/key/")[0].rsplit(":", 1)[1])


def test_a_repaired_picture_is_no_longer_missing_after_a_restart(server: tuple[str, Path], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "bench")
    requests.get(server[0] + image_path("pool", "gone"))
    assert missing_line(workspace) == (
        "1 picture could not be shown; the first is pool/gone: the file does not exist "
        "(all: annotation/missing_images.json)"
    )
    scene(3, (40, 30)).save(server[1] / "gone.png")
    with ImageServer(workspace, 0) as restarted:
        requests.get(restarted.url + image_path("pool", "gone"))
    assert missing_images(workspace) == {}
    assert missing_line(workspace) is None


def test_a_repaired_picture_that_nobody_looks_at_is_no_longer_missing(server: tuple[str, Path], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "bench")
    requests.get(server[0] + image_path("pool", "gone"))
    Pictures(workspace).check_again()
    assert list(missing_images(workspace)) == ["pool/gone"]
    scene(3, (40, 30)).save(server[1] / "gone.png")
    with ImageServer(workspace, 0):
        deadline = time.monotonic() + 30
        while missing_images(workspace) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert missing_images(workspace) == {}


def test_a_picture_that_changed_since_its_ingest_is_not_shown(server: tuple[str, Path], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "bench")
    path = workspace.images("pool")
    rows = read_table(path).to_pylist()
    ingested = {row["image_id"]: sha256_file(server[1] / "a.png") for row in rows if row["uri"].endswith("a.png")}
    write_table(path, table_of(IMAGES, [row | {"sha256": ingested.get(row["image_id"])} for row in rows]))
    assert "X-Ndec-Missing" not in requests.get(server[0] + image_path("pool", "a")).headers
    scene(9, (40, 30)).save(server[1] / "a.png")
    assert "X-Ndec-Missing" in requests.get(server[0] + image_path("pool", "a")).headers
    assert "changed since it was ingested" in missing_images(workspace)["pool/a"]["reason"]


def test_a_missing_picture_of_an_image_that_was_removed_leaves_the_list(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "bench")
    requests.get(server[0] + image_path("pool", "gone"))
    table = workspace.images("pool")
    rows = read_table(table)
    write_table(table, rows.filter(pc.not_equal(rows["image_id"], "gone")))
    Pictures(workspace).check_again()
    assert missing_images(workspace) == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_pictures_need_the_key_on_every_host(server: tuple[str, Path], tmp_path: Path, host: str) -> None:
    with ImageServer(Workspace(tmp_path / "bench"), 0, host) as images:
        place, _, key = images.url.partition("/key/")
        port = place.rsplit(":", 1)[1]
        assert place == f"http://{public_host(host)}:{port}"
        local = f"http://127.0.0.1:{port}"
        assert requests.get(f"{local}/key/{key}/image/pool/a").status_code == 200
        secrets = Workspace(tmp_path / "bench").label_studio / "secrets.json"
        assert key in secrets.read_text() and len(key) == 32 and secrets.stat().st_mode & 0o777 == 0o600
        for path in ("", f"/key/{key[:-1]}", "/key/", f"/key/{key}x", "/key/%ff", "/key/x"):
            assert requests.get(f"{local}{path}/image/pool/a").status_code == 403, path
            assert requests.get(f"{local}{path}/pair/0123456789abcdef/query").status_code == 403, path
        assert requests.get(f"{local}/{key}/image/pool/a").status_code == 404
        assert requests.get(f"{local}/guideline").status_code == 200  # the same for everybody, so it needs none
    with ImageServer(Workspace(tmp_path / "bench"), 0, host) as images:
        assert images.url.endswith(f"/key/{key}")  # addresses in existing tasks stay valid


def test_a_public_host_answers_under_any_name(server: tuple[str, Path], tmp_path: Path) -> None:
    with ImageServer(Workspace(tmp_path / "bench"), 0, "0.0.0.0") as images:
        place, _, key = images.url.partition("/key/")
        address = f"http://127.0.0.1:{place.rsplit(':', 1)[1]}/key/{key}/image/pool/a"
        assert requests.get(address, headers={"Host": "studio.example"}).status_code == 200


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("0.0.0.0", 403)])
def test_tasks_without_the_key_are_shown_until_they_have_it(
    server: tuple[str, Path], tmp_path: Path, host: str, status: int
) -> None:
    """Tasks of an older ndec, on loopback; elsewhere the key was always needed."""
    workspace = Workspace(tmp_path / "bench")
    row = {"pair_id": "0123456789abcdef", "query_id": "a", "reference_id": "a", "annotator": "ann", "round": "first"}
    write_table(workspace.annotation("test") / "tasks.parquet", table_of(TASKS, [row]))
    with ImageServer(workspace, 0, host) as images:
        keyless = f"http://127.0.0.1:{images.url.partition('/key/')[0].rsplit(':', 1)[1]}/pair/0123456789abcdef/query"
        assert requests.get(keyless).status_code == status
        write_json(workspace.label_studio / "keyed-test.json", {"tasks": 1})
        assert requests.get(keyless).status_code == 403


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example", 403), ("127.0.0.1.evil.example:80", 403), ("localhost:1", 200)]
)
def test_other_host_names_are_refused(server: tuple[str, Path], host: str, status: int) -> None:
    assert requests.get(server[0] + "/image/pool/a", headers={"Host": host}).status_code == status


def test_new_images_are_found_without_a_restart(server: tuple[str, Path], tmp_path: Path) -> None:
    assert requests.get(server[0] + "/image/query/a").status_code == 404
    row = {"image_id": "a", "role": "query", "uri": str(server[1] / "a.png"), "format": "PNG", "rotation": 0}
    write_table(tmp_path / "bench" / "images" / "query.parquet", table_of(IMAGES, [row]))
    assert requests.get(server[0] + "/image/query/a").status_code == 200


def test_a_busy_port_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(NdecError, match=rf"port {port} .* in use .*--image-port"):
            ImageServer(Workspace(tmp_path), port)


def test_the_guideline_and_its_pictures(server: tuple[str, Path]) -> None:
    page = requests.get(server[0] + "/guideline")
    assert page.headers["Content-Type"].startswith("text/html") and "from the reference alone" in page.text
    assert '<meta name="viewport" content="width=device-width' in page.text
    pictures = re.findall(r'src="(examples/[a-z-]+\.jpg)"', page.text)
    assert len(pictures) == 12
    for path in pictures:
        assert Image.open(io.BytesIO(requests.get(f"{server[0]}/{path}").content)).size == (610, 220)
