"""DISC21 as folders, lists and zips, and both forms of its ground truth."""

from __future__ import annotations

import io
import json
import resource
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.storage import read_table, read_uri
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ingest import run
from ndec_builder.sources.readers.zip import zip_members
from ndec_builder.sources.settings import IngestConfig
from ndec_builder.sources.unread import Unread
from support.pictures import scene


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    scene(seed, (48, 36)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """references/ as a folder, queries and training images as zips, one stored and one deflated."""
    root = tmp_path / "disc"
    (root / "references").mkdir(parents=True)
    for number in range(3):
        (root / "references" / f"R{number:06d}.jpg").write_bytes(jpeg(number))
    for name, letter, packing in (("dev_queries", "Q", zipfile.ZIP_STORED), ("train_0", "T", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(root / f"{name}.zip", "w", packing) as archive:
            for number in range(2):
                digits = f"{number:05d}" if letter == "Q" else f"{number:06d}"
                archive.writestr(f"{name}/{letter}{digits}.jpg", jpeg(10 * ord(letter) + number))
    return root


def ingest(tmp_path: Path, role: str, source: Path | None = None, **more: Any) -> list[dict[str, Any]]:
    run(IngestConfig(tmp_path / "ws", role, source or tmp_path / "disc", kind="disc21", **more))
    name = role if role != "all" else "query"
    return Workspace(tmp_path / "ws").read_images(name).to_pylist()


def test_the_letter_gives_the_role_and_zips_are_read_in_place(tmp_path: Path, disc: Path) -> None:
    ingest(tmp_path, "all")
    workspace = Workspace(tmp_path / "ws")
    found = {role: workspace.read_images(role).to_pylist() for role in ("reference", "query", "basic")}
    assert [row["image_id"] for row in found["reference"]] == ["R000000", "R000001", "R000002"]
    assert [row["image_id"] for row in found["query"]] == ["Q00000", "Q00001"]
    assert [row["image_id"] for row in found["basic"]] == ["T000000", "T000001"]
    for role, seed in (("query", 811), ("basic", 841)):
        assert read_uri(workspace.resolve(found[role][1]["uri"])) == jpeg(seed)
    assert ".zip#bytes=" in found["query"][0]["uri"] and found["basic"][0]["uri"].endswith("&deflate")
    assert [row["image_id"] for row in ingest(tmp_path, "query", disc / "dev_queries.zip")] == ["Q00000", "Q00001"]


@pytest.mark.parametrize("form", ["header", "bare", "bom and crlf", "json"])
def test_the_forms_of_the_ground_truth(tmp_path: Path, disc: Path, form: str) -> None:
    ingest(tmp_path, "reference")
    truth = tmp_path / ("gt.json" if form == "json" else "gt.csv")
    rows = "Q00000,R000002\nQ00001,\n"
    if form == "json":
        truth.write_text(json.dumps({"Q00000.jpg": ["R000002", "R000001.jpg"], "Q00001": []}))
    elif form == "bom and crlf":
        truth.write_bytes(b"\xef\xbb\xbfquery_id,reference_id\r\n" + rows.replace("\n", "\r\n").encode())
    else:
        truth.write_text(("query_id,reference_id\n" if form == "header" else "") + rows)
    ingest(tmp_path, "query", ground_truth=truth)
    found = [tuple(row.values()) for row in read_table(Workspace(tmp_path / "ws").ground_truth).to_pylist()]
    more = [("Q00000", "R000001")] if form == "json" else []
    assert found == [*more, ("Q00000", "R000002"), ("Q00001", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"Q00000": "R000001"}', "'Q00000' .* expected a list"),
        ('{"Q00000": [3]}', "'Q00000' .* expected a list"),
        ("[1]", "expected an object"),
        ("{", "is not JSON"),
        ("{}", "no rows"),
        ('{"Q00000": ["R000001", "R000001"]}', "twice"),
        ('{"Q00000": ["R000001"], "Q00000": []}', "'Q00000' twice"),
        ('{"Q00009": []}', "names 1 query id .* 'Q00009'"),
    ],
)
def test_invalid_json_ground_truths(tmp_path: Path, disc: Path, text: str, message: str) -> None:
    (tmp_path / "gt.json").write_text(text)
    with pytest.raises(NdecError, match=message):
        ingest(tmp_path, "query", ground_truth=tmp_path / "gt.json")


def test_a_list_selects_ids_and_missing_ones_are_named(tmp_path: Path, disc: Path) -> None:
    names = tmp_path / "ids"
    names.write_bytes(b"\xef\xbb\xbfR000002\r\nR000000\r\n")
    assert [row["image_id"] for row in ingest(tmp_path, "reference", ids=names)] == ["R000000", "R000002"]
    names.write_text("R000002\nR000007\nR000009\nT000001\n")
    with pytest.raises(GapsError, match=r"2 ids of .* have no image: R000007, R000009") as caught:
        ingest(tmp_path, "reference", ids=names)
    assert "T000001" not in str(caught.value)
    assert Workspace(tmp_path / "ws").read_images("reference")["image_id"].to_pylist() == ["R000002"]
    for text, message in (
        ("R1\nX\n", "2 entries that are no DISC21 ids: R1, X"),
        ("R000001\nR000001\n", "1 id appears twice: R000001"),
        ("\n", "empty"),
    ):
        names.write_text(text)
        with pytest.raises(NdecError, match=message):
            ingest(tmp_path, "reference", ids=names)


def test_sources_that_do_not_fit(tmp_path: Path, disc: Path) -> None:
    with pytest.raises(UsageError, match="none for the role 'pool'"):
        ingest(tmp_path, "pool")
    with pytest.raises(UsageError, match="no DISC21 image of the role 'query'"):
        ingest(tmp_path, "query", disc / "references")
    (disc / "references" / "cover.jpg").write_bytes(jpeg(1))
    with pytest.raises(GapsError, match=r"left out because (its id is|their ids are) no DISC21 ids?: cover"):
        ingest(tmp_path, "reference")
    with pytest.raises(UsageError, match=r"none\.zip does not exist"):
        ingest(tmp_path, "query", tmp_path / "none.zip")


def test_a_member_without_a_name_and_one_that_claims_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("R000001.jpg", b"picture")
        archive.writestr("x", b"nameless")
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")  # the directory's entry of the nameless one
    del data[place + 46]
    data[place + 28 : place + 30] = (0).to_bytes(2, "little")
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = (int.from_bytes(data[end + 12 : end + 16], "little") - 1).to_bytes(4, "little")
    path.write_bytes(data)
    assert [member.name for member in zip_members(str(path), str(path), frozenset({".jpg", ""}), Unread())] == [
        "R000001.jpg"
    ]

    first = data.index(b"PK\x01\x02")
    for offset in (20, 24):  # packed and unpacked size
        data[first + offset : first + offset + 4] = (0x7FFFFFFF).to_bytes(4, "little")
    path.write_bytes(data)
    (member,) = zip_members(str(path), str(path), frozenset({".jpg"}), Unread())
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))  # the claim does not fit
    try:
        with pytest.raises(OSError, match="ends at or before"):
            read_uri(member.uri)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_zip_with_a_member_outside_is_refused(tmp_path: Path, disc: Path) -> None:
    for name in ("../../Q00007.jpg", "/Q00007.jpg", "C:\\Q00007.jpg", "a\\..\\..\\Q00007.jpg"):
        with zipfile.ZipFile(disc / "dev_queries.zip", "a") as archive:
            archive.writestr(zipfile.ZipInfo(name), jpeg(1))
        with pytest.raises(NdecError, match="members outside of it"):
            ingest(tmp_path, "query")
    assert not Workspace(tmp_path / "ws").images("query").exists()


def test_zips_that_are_damaged_or_packed_differently(tmp_path: Path, disc: Path) -> None:
    path = disc / "dev_queries.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NdecError, match=r"dev_queries\.zip cannot be read as a zip file"):
        ingest(tmp_path, "query")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("Q00003.jpg", jpeg(3))
        archive.writestr(zipfile.ZipInfo("Q00004.jpg"), jpeg(4))
        archive.writestr(zipfile.ZipInfo("Q00005.jpg"), b"")
    assert [row["image_id"] for row in ingest(tmp_path, "query", max_reject_share=1.0)] == ["Q00004"]
    rejects = read_table(tmp_path / "ws" / "images" / "query-rejects.parquet").to_pylist()
    assert "packed by method 12" in rejects[0]["reason"] and rejects[1]["reason"] == "empty file"


@given(
    st.lists(
        st.tuples(st.text("aß/", max_size=9), st.binary(min_size=1, max_size=900), st.booleans()),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=50, deadline=None)
def test_every_address_returns_the_same_bytes_as_zipfile(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes, bool]]
) -> None:
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i, (name, data, packed) in enumerate(files):
            archive.writestr(f"{i}{name}x.jpg", data, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
    with zipfile.ZipFile(path) as archive:
        found = {m.name: read_uri(m.uri) for m in zip_members(str(path), str(path), frozenset({".jpg"}), Unread())}
        assert found == {name: archive.read(name) for name in archive.namelist()}
