"""The image server shows pictures inside a tar and on remote storage."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import fsspec
import requests

from ndec_builder.annotation.web.image_server import ImageServer, image_path
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace
from support.pictures import scene


def test_pictures_inside_a_tar_and_on_remote_storage(tmp_path: Path) -> None:
    inside, remote = io.BytesIO(), io.BytesIO()
    scene(1, (40, 30)).save(inside, "PNG")
    scene(2, (40, 30)).save(remote, "JPEG")
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        member = tarfile.TarInfo("a.png")
        member.size = len(inside.getvalue())
        tar.addfile(member, io.BytesIO(inside.getvalue()))
    with tarfile.open(tmp_path / "shard.tar") as tar:
        start = tar.getmembers()[0].offset_data
    fsspec.filesystem("memory").pipe("/ndec-test/b.jpg", remote.getvalue())
    uris = {"a": f"{tmp_path}/shard.tar#bytes={start}-{start + member.size - 1}", "b": "memory://ndec-test/b.jpg"}
    workspace = Workspace(tmp_path / "bench")
    rows = [{"image_id": i, "role": "pool", "uri": uri, "format": f, "rotation": 0}
            for (i, uri), f in zip(uris.items(), ("PNG", "JPEG"), strict=True)]  # fmt: skip
    write_table(workspace.images("pool"), table_of(IMAGES, rows))
    with ImageServer(workspace, 0) as images:
        assert requests.get(images.url + image_path("pool", "a")).content == inside.getvalue()
        assert requests.get(images.url + image_path("pool", "b")).content == remote.getvalue()
