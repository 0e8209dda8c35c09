"""Tar files and WebDataset shards: read in place, kept inside, used up to the cut."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.annotation.web.pictures import Pictures, ServedPicture
from ndec_builder.core.access import remote
from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.storage import read_table, read_uri
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.extract import extract
from ndec_builder.sources.containers import expand
from ndec_builder.sources.ingest import run
from ndec_builder.sources.readers.tar import members
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread
from support.pictures import scene


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    scene(seed, (48, 36)).save(out, "JPEG")
    return out.getvalue()


def write_tar(path: Path, files: dict[str, bytes | tarfile.TarInfo], pax: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            if isinstance(data, tarfile.TarInfo):
                tar.addfile(data)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def ingest(tmp_path: Path, source: str | Path, **more: Any) -> dict[str, dict[str, Any]]:
    run(IngestConfig(tmp_path / "ws", "pool", source, **more))
    return {row["image_id"]: row for row in Workspace(tmp_path / "ws").read_images("pool").to_pylist()}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards as WebDataset writes them: samples of a jpg, a json or a txt."""
    for shard in range(2):
        files: dict[str, bytes | tarfile.TarInfo] = {}
        for number in range(3):
            key = f"{shard}{number:04d}"
            about = {
                "url": f"https://example.org/{key}.jpg",
                "license": "CC-BY-4.0",
                "author": "Ä",
                "group": f"g{number}",
            }
            files[f"{key}.jpg"] = jpeg(10 * shard + number)
            files[f"{key}.json"] = json.dumps(about).encode()
            files[f"{key}.txt"] = f"caption {key}\n".encode()
        write_tar(tmp_path / "shards" / f"part-{shard:03d}.tar", files)
    return tmp_path / "shards"


def test_members_become_rows_with_their_metadata(tmp_path: Path, shards: Path) -> None:
    rows = ingest(tmp_path, shards)
    assert list(rows) == ["00000", "00001", "00002", "10000", "10001", "10002"]
    row = rows["10001"]
    assert read_uri(Workspace(tmp_path / "ws").resolve(row["uri"])) == jpeg(11)
    assert row["sha256"] == hashlib.sha256(jpeg(11)).hexdigest()
    assert (row["width"], row["height"], row["format"]) == (48, 36, "JPEG")
    found = [row[name] for name in ("original_url", "license", "author", "title", "group")]
    assert found == ["https://example.org/10001.jpg", "CC-BY-4.0", "Ä", "caption 10001", "g1"]


@pytest.mark.slow
def test_patterns_single_files_and_remote_addresses_give_the_same_images(tmp_path: Path, shards: Path) -> None:
    whole = {image_id: row["sha256"] for image_id, row in ingest(tmp_path, shards).items()}
    for source in (f"{shards}/part-{{000..001}}.tar", f"{shards}/part-*.tar", f"{shards}/part-{{000,001}}.tar"):
        assert {i: row["sha256"] for i, row in ingest(tmp_path, source).items()} == whole
    assert list(ingest(tmp_path, shards / "part-001.tar")) == ["10000", "10001", "10002"]
    for source in (f"file://{shards}", f"file://{shards}/part-*.tar"):
        rows = ingest(tmp_path, source, kind="tar")  # another machine: listed, not opened
        assert {row["sha256"] for row in rows.values()} == {None}
        assert read_uri(rows["10001"]["uri"]) == jpeg(11)
        assert {i: r["sha256"] for i, r in ingest(tmp_path, source, kind="tar", look="header").items()} == whole


@pytest.mark.slow
def test_the_image_server_and_embedding_read_members(tmp_path: Path, shards: Path) -> None:
    ingest(tmp_path, shards)
    workspace = Workspace(tmp_path / "ws")
    assert Pictures(workspace).show("pool", "10001") == ServedPicture(jpeg(11), "image/jpeg")

    backbone = load_backbone("efficientnet-lite0")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "10001.jpg").write_bytes(jpeg(11))
    plain = pa.table({"image_id": ["10001"], "uri": [str(tmp_path / "plain" / "10001.jpg")]})
    inside = extract(backbone, workspace.read_images("pool"), workspace.resolve)
    outside = extract(backbone, plain, str)
    assert inside.rejects == [] and len(inside.ids) == 6
    here = inside.features[inside.ids.index("10001")]
    assert here @ outside.features[0] > 0.999 * np.linalg.norm(here) * np.linalg.norm(outside.features[0])


def test_members_outside_links_and_devices_are_rejects(tmp_path: Path) -> None:
    def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    write_tar(
        tmp_path / "a.tar",
        {
            "good.jpg": jpeg(1), "../up.jpg": jpeg(2), "/root.jpg": jpeg(3), "a/../../over.jpg": jpeg(4),
            "C:/win.jpg": jpeg(5),
            "soft.jpg": special("soft.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            "hard.jpg": special("hard.jpg", tarfile.LNKTYPE, "good.jpg"),
            "dev.jpg": special("dev.jpg", tarfile.CHRTYPE), "none.jpg": b"", "notes.md": b"not looked at",
        },
    )  # fmt: skip
    assert list(ingest(tmp_path, tmp_path / "a.tar", max_reject_share=1.0)) == ["good"]
    table = read_table(tmp_path / "ws" / "images" / "pool-rejects.parquet").to_pylist()
    reasons = {row["image_id"]: row["reason"] for row in table}
    assert set(reasons) == {"up", "root", "over", "win", "soft", "hard", "dev", "none"}
    assert all("leads out" in reasons[name] for name in ("up", "root", "over", "win"))
    assert reasons["soft"] == reasons["hard"] == "a link, not a file"
    assert "device" in reasons["dev"] and reasons["none"] == "empty file"


def test_a_truncated_tar_keeps_the_members_before_the_cut(tmp_path: Path, shards: Path) -> None:
    path = shards / "part-001.tar"
    with tarfile.open(path) as tar:
        third = tar.getmember("10002.jpg")
    whole = path.read_bytes()
    for end in (third.offset_data + 100, third.offset + 200, third.offset):  # in the data, in a header, between two
        path.write_bytes(whole[:end])
        with pytest.raises(GapsError, match=r"part-001.tar is cut after 6 members") as caught:
            ingest(tmp_path, shards)
        assert caught.value.exit_code == 3
        rows = Workspace(tmp_path / "ws").read_images("pool")["image_id"].to_pylist()
        assert rows == ["00000", "00001", "00002", "10000", "10001"]
    path.write_bytes(b"no tar at all, but long enough" * 100)
    with pytest.raises(NdecError, match="cannot be read as a tar file"):
        ingest(tmp_path, shards)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "hidden.tar"])
def test_compressed_tars_are_refused_with_advice(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "a.tar", {"x.jpg": jpeg(1)})
    packed = gzip.compress((tmp_path / "a.tar").read_bytes())
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(UsageError, match=r"unpacking everything before it.*gunzip"):
        ingest(tmp_path, tmp_path / name)


def test_sources_without_tars_or_images(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(UsageError, match=r"missing: 2 of 4 files, .*part-002.tar, .*part-003.tar"):
        ingest(tmp_path, f"{shards}/part-{{000..003}}.tar")
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"no \.tar file at"):
        ingest(tmp_path, tmp_path / "none", kind="tar")
    write_tar(tmp_path / "text.tar", {"a.md": b"text"})
    with pytest.raises(UsageError, match="no image in"):
        ingest(tmp_path, tmp_path / "text.tar")
    write_tar(shards / "part-002.tar", {"00001.jpg": jpeg(9)})
    with pytest.raises(
        UsageError, match=r"part-000.tar#bytes.* and .*part-002.tar#bytes.* would both be image '00001'.*--id path"
    ):
        ingest(tmp_path, shards, id="stem")


@given(
    st.dictionaries(
        st.text("abcß/.", min_size=1, max_size=130), st.binary(min_size=1, max_size=1500), min_size=1, max_size=6
    ),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_address_returns_the_same_bytes_as_tarfile(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], pax: bool
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    write_tar(path, {f"d{i}/{name}x.jpg": data for i, (name, data) in enumerate(files.items())}, pax)
    gaps: list[str] = []
    with path.open("rb") as file:
        found = {member.name: member for member, *_ in members(file, str(path), str(path), gaps, Unread())}
    with tarfile.open(path) as tar:
        for info in tar:
            if not found[info.name].problem:
                handle = tar.extractfile(info)
                assert handle is not None and read_uri(found[info.name].uri) == handle.read()
    assert gaps == []


def test_patterns_are_expanded() -> None:
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{x,y}/{0..1}") == ["x/0", "x/1", "y/0", "y/1"]
    assert expand("plain{.tar") == ["plain{.tar"]


class Flaky(LocalFileSystem):
    """A storage that fails so many times before it answers."""

    protocol = "flaky"
    left = 0

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        if Flaky.left:
            Flaky.left -= 1
            raise TimeoutError("no answer")
        return super()._open(path, mode, **more)


def test_a_scan_that_fails_twice_is_retried(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.001)
    with zipfile.ZipFile(tmp_path / "Q.zip", "w") as archive:
        archive.writestr("Q00001.jpg", jpeg(5))
    pq.write_table(pa.table({"id": ["p"], "jpg": [jpeg(6)]}), tmp_path / "p.parquet")
    for source, kind, role, expected in (
        (f"flaky://{shards}/part-000.tar", "tar", "pool", ["00000", "00001", "00002"]),
        (f"flaky://{tmp_path}/Q.zip", "disc21", "query", ["Q00001"]),
        (f"flaky://{tmp_path}/p.parquet", "parquet", "pool", ["p"]),
    ):
        Flaky.left = 2
        run(IngestConfig(tmp_path / "ws", role, source, kind=kind))
        assert Workspace(tmp_path / "ws").read_images(role)["image_id"].to_pylist() == expected
        Flaky.left = 99
        with pytest.raises(NdecError, match=r"could not be read in 5 tries .*no answer"):
            run(IngestConfig(tmp_path / "ws", role, source, kind=kind))
    with pytest.raises((NdecError, UsageError), match=r"none\.tar"):
        Flaky.left = 0
        run(IngestConfig(tmp_path / "ws", "pool", f"flaky://{tmp_path}/none.tar", kind="tar"))
