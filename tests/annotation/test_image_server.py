"""Pictures over http: the right bytes, nothing else, only for this machine."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from PIL import Image

from ndec_builder.annotation.image_server import ImageServer, image_path
from ndec_builder.annotation.pictures import missing_images
from ndec_builder.annotation.ports import is_loopback
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from pictures import scene

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


def test_serves_files_as_they_are_and_turns_the_rest_into_jpeg(server: tuple[str, Path]) -> None:
    url, folder = server
    for image_id in ("a", ODD):
        answer = requests.get(url + image_path("pool", image_id))
        assert answer.content == (folder / "a.png").read_bytes()
        assert answer.headers["Content-Type"] == "image/png" and answer.headers["Access-Control-Allow-Origin"] == "*"
    turned = Image.open(io.BytesIO(requests.get(url + image_path("pool", "turned")).content))
    tiff = Image.open(io.BytesIO(requests.get(url + image_path("pool", "t")).content))
    assert (turned.format, turned.size, tiff.format, tiff.size) == ("JPEG", (30, 40), "JPEG", (40, 30))
    assert requests.head(url + image_path("pool", "a")).headers["Content-Length"] == str(
        (folder / "a.png").stat().st_size
    )


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
        ("/compare/pool/a/pool/nobody/flip.webp", 404),
        ("/compare/pool/a/pool/broken/flip.webp", 404),
        ("/compare/pool/a/pool/a/secret", 404),
        ("/examples/nothing.jpg", 404),
        ("/examples/..%2Fguideline.md", 404),
    ],
)
def test_everything_else_is_refused(server: tuple[str, Path], path: str, status: int) -> None:
    answer = requests.get(server[0] + path)
    assert answer.status_code == status and b"secret" not in answer.content


@pytest.mark.parametrize(("image_id", "reason"), [("gone", "does not exist"), ("broken", "cannot decode|not an image")])
def test_a_picture_that_cannot_be_read_is_a_marked_placeholder_and_noted(
    server: tuple[str, Path], tmp_path: Path, image_id: str, reason: str
) -> None:
    workspace = Workspace(tmp_path / "bench")
    answer = requests.get(server[0] + image_path("pool", image_id))
    assert (
        answer.status_code == 200 and answer.headers["X-Ndec-Missing"] and answer.headers["Cache-Control"] == "no-store"
    )
    assert "X-Ndec-Missing" in answer.headers["Access-Control-Expose-Headers"]
    assert Image.open(io.BytesIO(answer.content)).size == (960, 720)
    noted = missing_images(workspace)
    assert list(noted) == [f"pool/{image_id}"] and re.search(reason, noted[f"pool/{image_id}"]["reason"])
    name = "gone.png" if image_id == "gone" else "broken.tif"
    scene(3, (40, 30)).save(server[1] / name)  # it is back
    assert "X-Ndec-Missing" not in requests.get(server[0] + image_path("pool", image_id)).headers
    assert missing_images(workspace) == {}


def test_another_host_is_served_by_its_own_name(server: tuple[str, Path], tmp_path: Path) -> None:
    with ImageServer(Workspace(tmp_path / "bench"), 0, "0.0.0.0") as images:
        port = images.url.rsplit(":", 1)[1]
        assert images.url == f"http://{socket.gethostname()}:{port}"
        answer = requests.get(f"http://127.0.0.1:{port}/image/pool/a", headers={"Host": "studio.example"})
        assert answer.status_code == 200
    assert (
        is_loopback("127.0.0.1") and is_loopback("::1") and not is_loopback("0.0.0.0") and not is_loopback("10.0.0.1")
    )


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


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(NdecError, match=rf"port {port} .* in use .*--image-port"):
            ImageServer(Workspace(tmp_path), port)
