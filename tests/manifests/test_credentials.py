"""Passwords, tokens and signatures in URLs are not published."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.addresses import without_credentials
from ndec_builder.core.run_record import RunRecord
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.sources.settings import IngestConfig
from support.decided_world import World

# address as a cloud's own tools write it → what may be published
ADDRESSES = {
    "https://me:topsecret@example.org/a.jpg": "https://example.org/a.jpg",
    "https://topsecret@example.org/a.jpg": "https://example.org/a.jpg",
    "ftp://me:top@secret@example.org/a.jpg": "ftp://example.org/a.jpg",
    "https://b.s3.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=topsecret&X-Amz-Date=20260101T"
    "000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=topsecret": "https://b.s3.amazonaws.com/a.jpg",
    "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId=topsecret&Expires=17&Signature=topsecret%3D":
        "https://b.s3.amazonaws.com/a.jpg",
    "https://storage.googleapis.com/b/a.jpg?X-Goog-Algorithm=GOOG4&X-Goog-Credential=topsecret&X-Goog-Signature=topsecret":
        "https://storage.googleapis.com/b/a.jpg",
    "https://storage.googleapis.com/b/a.jpg?GoogleAccessId=topsecret&Expires=17&Signature=topsecret":
        "https://storage.googleapis.com/b/a.jpg",
    "https://x.blob.core.windows.net/c/a.jpg?sv=2024&st=1&se=2&sr=b&sp=r&sig=topsecret%3D":
        "https://x.blob.core.windows.net/c/a.jpg",
    "https://d.cloudfront.net/a.jpg?w=9&Expires=17&Signature=topsecret&Key-Pair-Id=topsecret":
        "https://d.cloudfront.net/a.jpg?w=9",
    "https://h.oss-cn.aliyuncs.com/a.jpg?OSSAccessKeyId=topsecret&Expires=1&Signature=topsecret":
        "https://h.oss-cn.aliyuncs.com/a.jpg",
    "https://api.example.org/a?id=7&access_token=topsecret": "https://api.example.org/a?id=7",
    "https://api.example.org/a?api_key=topsecret&size=l": "https://api.example.org/a?size=l",
    "https://example.org/a.jpg#access_token=topsecret": "https://example.org/a.jpg",
    "simplecache::https://me:topsecret@example.org/a.jpg": "simplecache::https://example.org/a.jpg",
}  # fmt: skip
KEPT = (
    "https://example.org/@user/photo.jpg", "https://example.org/a.jpg?se=2&sp=r", "https://example.org/a?size=o&page=2",
    "https://example.org/mail/me@example.org.jpg", "s3://bucket/shard.tar#bytes=1536-49746", "files/a@b.jpg",
    "https://example.org/a.jpg?expires=never", "https://example.org/signature/design.png?author=me",
)  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_credential_is_taken_out(address: str) -> None:
    assert without_credentials(address) == ADDRESSES[address]
    assert without_credentials(f"cannot read {address} today") == f"cannot read {ADDRESSES[address]} today"


@pytest.mark.parametrize("address", KEPT)
def test_an_address_without_one_is_kept(address: str) -> None:
    assert without_credentials(address) == address


@given(st.text(max_size=60))
def test_cleaning_again_changes_nothing(text: str) -> None:
    once = without_credentials(f"https://{text}")
    assert without_credentials(once) == once


def given_addresses(world: World, uri: bool) -> int:
    """Put a credential into the URLs of the references; returns how many images have one."""
    rows: list[dict[str, Any]] = world.workspace.read_images("reference").to_pylist()
    address = next(iter(ADDRESSES))
    for row, (name, value) in zip(
        rows, (("original_url", address), ("landing_url", address), ("uri", address)), strict=True
    ):
        if name != "uri" or uri:
            row[name] = value
    write_table(world.workspace.images("reference"), table_of(IMAGES, rows))
    return (3 if uri else 2) + 2  # the copies of r1 and r2 have their addresses


def everything(directory: Path) -> bytes:
    data = b""
    for path in sorted(directory.rglob("*")):
        if path.suffix == ".parquet":
            data += json.dumps(pq.read_table(path).to_pylist()).encode()
        elif path.suffix == ".tar":
            with tarfile.open(path) as tar:
                data += b"".join(tar.extractfile(member).read() for member in tar)  # type: ignore[union-attr]
        elif path.is_file():
            data += path.read_bytes()
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"attribution_only": True}, {"materialize": "tar"}, {"materialize": "folder"}, {}],
    ids=["attribution only", "tar", "folder", "linked"],
)  # fmt: skip
def test_no_dataset_holds_a_credential(
    world: World, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    count = given_addresses(world, uri="attribution_only" in options)
    directory = run(ExportConfig(world.workspace.root, **options))
    assert b"topsecret" not in everything(directory) and b"https://example.org/a.jpg" in everything(directory)
    assert json.loads((directory / "manifest.json").read_text())["credentials_removed"] == count
    assert f"were removed from the URLs of {count} images" in " ".join(capsys.readouterr().err.split())
    assert "M227" not in {finding.code for finding in validate(directory, images=False)}


@pytest.mark.slow
def test_a_linked_uri_with_a_credential_still_reads_and_is_reported(world: World) -> None:
    given_addresses(world, uri=True)
    directory = run(ExportConfig(world.workspace.root))
    found = {finding.code: finding for finding in validate(directory, images=False)}
    assert found["M227"].examples == ("r3",) and not found["M227"].is_error


def test_run_records_hold_no_credential(tmp_path: Path) -> None:
    source = "https://me:topsecret@example.org/a.tar?X-Amz-Signature=topsecret"
    record = RunRecord("ingest", IngestConfig(tmp_path, "pool", source), 1)  # type: ignore[arg-type]
    path = record.write(tmp_path, counts={}, inputs={source: "00"}, gaps=[f"cannot read {source}"])
    assert "topsecret" not in path.read_text() and "https://example.org/a.tar" in path.read_text()


def test_incidents_hold_no_credential(world: World) -> None:
    from ndec_builder.annotation.label_studio.server_snapshot import record_incidents
    from ndec_builder.annotation.tables import AnnotationTables

    tables = AnnotationTables(world.workspace, "test")
    row = {"kind": "task_edited", "round": "first", "annotator": "anna", "project": 1, "task": 2,
           "detail": "query: https://me:topsecret@example.org/a.jpg"}  # fmt: skip
    assert record_incidents(tables, [row]) == {"task_edited": 1}
    assert not record_incidents(AnnotationTables(world.workspace, "test"), [row])  # the same incident
    assert tables.incidents["detail"].to_pylist() == ["query: https://example.org/a.jpg"]
