"""Ingesting a folder: rows, rejects and errors."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.schemas import GROUND_TRUTH, IMAGES, REJECTS
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.grouping import own_group
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig
from support.pictures import scene, write_scenes


def ingest(tmp_path: Path, role: str = "reference", **more: Any) -> list[dict[str, Any]]:
    run(IngestConfig(tmp_path / "ws", role, tmp_path / "in", **more))
    table = read_table(Workspace(tmp_path / "ws").images(role))
    assert table.schema.equals(IMAGES)
    return table.to_pylist()


def rejects(tmp_path: Path, role: str = "reference") -> dict[str, str]:
    table = read_table(tmp_path / "ws" / "images" / f"{role}-rejects.parquet")
    assert table.schema.equals(REJECTS)
    return {row["image_id"]: row["reason"] for row in table.to_pylist()}


def crafted_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def test_rows_are_ascending_and_carry_header_and_hash(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in" / "b", 2, first_seed=5)
    write_scenes(tmp_path / "in" / "a", 2, first_seed=1, suffix=".jpg")
    rows = ingest(tmp_path, workers=3)
    assert [row["image_id"] for row in rows] == ["scene-0001", "scene-0002", "scene-0005", "scene-0006"]
    for row in rows:
        data = Path(Workspace(tmp_path / "ws").resolve(row["uri"])).read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["width"], row["height"], row["rotation"]) == (192, 144, 0)
        assert row["group"] == own_group(row["image_id"], f"../{Path(row['uri']).relative_to(tmp_path)}")
    assert [row["format"] for row in rows] == ["JPEG", "JPEG", "PNG", "PNG"]
    record = json.loads((tmp_path / "ws" / "images" / "reference.run.json").read_text())
    assert record["counts"] == {"images": 4, "rejects": 0, "ground_truth": 0}


def test_group_and_licence_can_be_given(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in" / "holiday", 1)
    (row,) = ingest(tmp_path, group_by="folder", license="CC0-1.0")
    assert row["group"].startswith("folder/holiday#")
    assert row["license"] == "CC0-1.0"


def test_images_inside_the_workspace_get_relative_uris(tmp_path: Path) -> None:
    write_scenes(tmp_path / "ws" / "mine", 1)
    run(IngestConfig(tmp_path / "ws", "pool", tmp_path / "ws" / "mine"))
    assert read_table(tmp_path / "ws" / "images" / "pool.parquet")["uri"].to_pylist() == ["mine/scene-0000.png"]


def test_unusual_but_valid_pictures_are_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = scene(1)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 16).save(folder / "sixteen.png")
    palette = picture.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(folder / "palette.gif", transparency=3)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    picture.save(folder / 'he said "hi",\nthen left.png')
    rows = {row["image_id"]: row for row in ingest(tmp_path)}
    assert set(rows) == {"cmyk", "sixteen", "palette", "turned", 'he said "hi",\nthen left'}
    assert (rows["turned"]["width"], rows["turned"]["height"]) == (144, 192)
    assert rejects(tmp_path) == {}


def test_unusable_files_are_rejects_with_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_scenes(folder, 3)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    whole = (folder / "scene-0000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.png").write_bytes(crafted_png(60_000, 60_000))
    (folder / "notes.txt").write_text("not looked at")
    rows = ingest(tmp_path, max_reject_share=0.6)
    assert [row["image_id"] for row in rows] == ["scene-0000", "scene-0001", "scene-0002"]
    reasons = rejects(tmp_path)
    assert set(reasons) == {"empty", "text", "cut", "bomb"}
    assert reasons["empty"] == "empty file"
    assert reasons["text"].startswith("not an image")
    assert reasons["cut"].startswith("cannot decode")
    assert reasons["bomb"].startswith("too large: 60000x60000")


def test_the_pixel_limit_is_a_setting(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 1)
    with pytest.raises(GapsError, match="too large: 192x144 pixels, the limit is 1000"):
        ingest(tmp_path, max_pixels=1000)


def test_too_many_rejects_exit_3_after_writing(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 2)
    for name in ("x.jpg", "y.jpg"):
        (tmp_path / "in" / name).write_bytes(b"")
    with pytest.raises(GapsError, match=r"2 of 4 images .* 2 × empty file") as caught:
        ingest(tmp_path)
    assert caught.value.exit_code == 3
    assert read_table(tmp_path / "ws" / "images" / "reference.parquet").num_rows == 2
    assert set(rejects(tmp_path)) == {"x", "y"}


def test_an_unreadable_file_is_a_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path / "in", 2)
    real = os.open

    def denied(path: object, *rest: int) -> int:  # root may read everything, so the refusal is simulated
        if str(path).endswith("scene-0001.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", denied)
    assert len(ingest(tmp_path, max_reject_share=1.0)) == 1
    assert rejects(tmp_path) == {"scene-0001": "cannot read: Permission denied"}


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (outside,) = write_scenes(tmp_path / "elsewhere", 1, first_seed=9)
    write_scenes(tmp_path / "in", 1)
    (tmp_path / "in" / "secret.png").symlink_to(outside)
    (tmp_path / "in" / "folder").symlink_to(outside.parent)
    (tmp_path / "in" / "inner.png").symlink_to(tmp_path / "in" / "scene-0000.png")
    rows = ingest(tmp_path, max_reject_share=1.0)
    assert [row["image_id"] for row in rows] == ["inner", "scene-0000"]
    assert set(rejects(tmp_path)) == {"secret", "folder"}


def test_a_name_that_is_not_utf8_is_a_reject(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 1)
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "in" / "scene-0000.png").rename(tmp_path / "in" / name)
    with pytest.raises(GapsError, match="not UTF-8"):
        ingest(tmp_path)
    assert set(rejects(tmp_path)) == {"caf\ufffd"}


def test_one_id_twice_names_both_files(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in" / "a", 1, suffix=".jpg")
    write_scenes(tmp_path / "in" / "b", 1, suffix=".png")
    names = r"a/scene-0000\.jpg and .*b/scene-0000\.png would both be image 'scene-0000'; .*--id path"
    with pytest.raises(UsageError, match=names):
        ingest(tmp_path, id="stem")


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_sources_that_are_not_folders_of_images(tmp_path: Path, kind: str) -> None:
    if kind == "empty":
        (tmp_path / "in").mkdir()
    if kind == "file":
        (tmp_path / "in").write_bytes(b"x")
    expected = {"missing": "does not exist", "empty": "no image in", "file": "is a file, not a folder"}[kind]
    with pytest.raises(UsageError, match=expected):
        ingest(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "tarr"}, "kind is 'tarr'; it must be .*did you mean 'tar'"),
        ({"group_by": "owner"}, "group_by is 'owner'"),
        ({"ground_truth": Path("gt.csv")}, "role query"),
        ({"max_reject_share": 5.0}, "max_reject_share is 5.0; it must be at least 0 and at most 1"),
    ],
)
def test_invalid_settings(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        IngestConfig(tmp_path, "reference", tmp_path, **settings)


def test_an_unknown_role(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="role is 'queries'"):
        ingest(tmp_path, role="queries")


def test_ingesting_again_gives_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 9)
    target = tmp_path / "ws" / "images" / "reference.parquet"
    ingest(tmp_path, workers=1)
    first = target.read_bytes()
    ingest(tmp_path, workers=4)
    assert target.read_bytes() == first


def test_a_ground_truth_is_written_sorted(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 3)
    run(IngestConfig(tmp_path / "ws", "reference", tmp_path / "in"))
    truth = tmp_path / "gt.csv"
    truth.write_text("query_id,reference_id\nscene-0002,scene-0001.jpg\nscene-0000,\n")
    ingest(tmp_path, "query", ground_truth=truth)
    table = read_table(Workspace(tmp_path / "ws").ground_truth)
    assert table.schema.equals(GROUND_TRUTH)
    assert table.to_pylist() == [
        {"query_id": "scene-0000", "reference_id": None},
        {"query_id": "scene-0002", "reference_id": "scene-0001"},
    ]


def test_a_ground_truth_with_unknown_ids_writes_nothing(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 2)
    truth = tmp_path / "gt.csv"
    truth.write_text("Q1,scene-0001\nscene-0000,\n")
    with pytest.raises(NdecError, match=r"names 1 query id .* 'Q1'"):
        ingest(tmp_path, "query", ground_truth=truth)
    assert not (tmp_path / "ws" / "images" / "query.parquet").exists()


def test_files_that_are_not_regular_are_rejects(tmp_path: Path) -> None:
    """A link to itself once ended the run, and reading a pipe would wait forever."""
    write_scenes(tmp_path / "in", 1)
    (tmp_path / "in" / "self.png").symlink_to("self.png")
    (tmp_path / "in" / "nothing.png").symlink_to("not-there.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    ingest(tmp_path, "pool", max_reject_share=1.0)
    rejects = read_table(tmp_path / "ws" / "images" / "pool-rejects.parquet").to_pylist()
    assert [row["image_id"] for row in rejects] == ["nothing", "pipe", "self"]
    assert all("not a regular file" in row["reason"] for row in rejects)


def test_unread_endings_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every ending that is seen and not read is counted, pictures or not."""
    for name in ("a.PSD", "b.psd", "c.svg", "notes.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=r"no image in .*: 2 \.psd, 1 \.svg, 1 \.txt are not read: .*convert"):
        ingest(tmp_path)
    write_scenes(tmp_path / "in", 2)
    (tmp_path / "in" / "cut.png").write_bytes(b"")
    assert len(ingest(tmp_path, max_reject_share=1.0)) == 2
    said = capsys.readouterr().err
    assert "2 .psd, 1 .svg, 1 .txt are not read" in said
    assert "2 images, 1 rejected (1 × empty file; all in" in said and "reference-rejects.parquet)" in said
