"""OpenImages: the csv alone, folders and tars with the csv, and everything that can be wrong with the csv."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import random
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.schemas import IMAGES
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ingest import run
from ndec_builder.sources.readers import openimages_csv
from ndec_builder.sources.settings import IngestConfig
from support.pictures import scene

HEADER = [
    "ImageID",
    "Subset",
    "OriginalURL",
    "OriginalLandingURL",
    "License",
    "AuthorProfileURL",
    "Author",
    "Title",
    "OriginalSize",
    "OriginalMD5",
    "Thumbnail300KURL",
    "Rotation",
]
TITLES = ["plain", "with, comma", 'a "quoted" word', "Ünïcödé 夏", "two\nlines", ""]
ROTATIONS = ["0.0", "90.0", "180.0", "270.0", "", "90"]


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    scene(seed, (48, 36)).save(out, "JPEG")
    return out.getvalue()


def record(number: int) -> dict[str, str]:
    image_id = hashlib.md5(str(number).encode()).hexdigest()[:16]
    md5 = base64.b64encode(hashlib.md5(jpeg(number)).digest()).decode()
    values = (
        image_id, ("train", "validation", "test")[number % 3], f"https://photos.example/{number}_o.jpg",
        f"https://photos.example/p/{number}", "https://creativecommons.org/licenses/by/2.0/",
        f"https://photos.example/people/{number % 4}", f"Author, {number % 4}", TITLES[number % 6], "1", md5, "",
        ROTATIONS[number % 6],
    )  # fmt: skip
    return dict(zip(HEADER, values, strict=True))


def write_csv(path: Path, rows: list[dict[str, str]], columns: list[str] = HEADER, **how: Any) -> Path:
    with path.open("w", encoding=how.get("encoding", "utf-8"), newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator=how.get("lines", "\n"))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, list[dict[str, str]]]:
    """A csv of 30 rows in no order, of which 6 images are there as the bucket lays them out."""
    rows = [record(number) for number in range(30)]
    random.Random(3).shuffle(rows)
    for number in range(6):
        row = record(number)
        path = tmp_path / "oi" / row["Subset"] / f"{row['ImageID']}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    return write_csv(tmp_path / "oi" / "meta.csv", rows), rows


def ingest(tmp_path: Path, source: str | Path, **more: Any) -> dict[str, dict[str, Any]]:
    run(IngestConfig(tmp_path / "ws", "pool", source, **more))
    return {row["image_id"]: row for row in Workspace(tmp_path / "ws").read_images("pool").to_pylist()}


def check_metadata(row: dict[str, Any], wanted: dict[str, str]) -> None:
    found = [row[name] or "" for name in ("original_url", "landing_url", "license", "author_url", "author", "title")]
    assert found == [wanted[name] for name in HEADER[2:8]]
    assert row["rotation"] == {"": 0, "0.0": 0, "90.0": 270, "90": 270, "180.0": 180, "270.0": 90}[wanted["Rotation"]]
    assert row["group"] == wanted["AuthorProfileURL"]


@pytest.mark.parametrize("form", [{}, {"encoding": "utf-8-sig", "lines": "\r\n"}])
def test_a_csv_alone_lists_every_image_and_opens_none(
    tmp_path: Path, world: tuple[Path, list[dict[str, str]]], form: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows = world
    write_csv(path, rows, **form)
    monkeypatch.setattr(openimages_csv, "_BLOCK", 900)  # several blocks, a title of two lines across them
    found = ingest(tmp_path, path, images="s3://bucket/")
    assert list(found) == sorted(row["ImageID"] for row in rows)
    for wanted in rows:
        row = found[wanted["ImageID"]]
        check_metadata(row, wanted)
        assert row["uri"] == f"s3://bucket/{wanted['Subset']}/{wanted['ImageID']}.jpg"
        assert [row[name] for name in ("sha256", "width", "height", "format")] == [None] * 4
    table = read_table(tmp_path / "ws" / "images" / "pool.parquet")
    assert table.schema.equals(IMAGES) and table["sha256"].null_count == table.num_rows
    assert pq.ParquetFile(tmp_path / "ws" / "images" / "pool.parquet").num_row_groups == 1
    assert not list((tmp_path / "ws" / "images").glob(".ingest*"))
    next_to = ingest(tmp_path, path)  # the folders are stored next to the csv
    first = rows[0]
    assert next_to[first["ImageID"]]["uri"] == f"{tmp_path}/oi/{first['Subset']}/{first['ImageID']}.jpg"


def test_existing_images_get_their_metadata(tmp_path: Path, world: tuple[Path, list[dict[str, str]]]) -> None:
    path, rows = world
    by_id = {row["ImageID"]: row for row in rows}
    found = ingest(tmp_path, tmp_path / "oi", kind="openimages", metadata=path)
    assert set(found) == {record(number)["ImageID"] for number in range(6)}
    for image_id, row in found.items():
        check_metadata(row, by_id[image_id])
        assert len(row["sha256"]) == 64 and row["width"] == 48
    assert ingest(tmp_path, path, look="decode") == found  # the csv as source, images opened
    (tmp_path / "oi" / "train" / "0000000000000000.jpg").write_bytes(jpeg(99))
    with pytest.raises(GapsError, match=r"1 image has no row in meta.csv.*: 0000000000000000"):
        ingest(tmp_path, tmp_path / "oi", kind="openimages", metadata=path)


def test_tars_by_first_digit(tmp_path: Path, world: tuple[Path, list[dict[str, str]]]) -> None:
    path, rows = world
    for number in range(6):
        row = record(number)
        with tarfile.open(tmp_path / f"train_{row['ImageID'][0]}.tar", "a") as tar:
            info = tarfile.TarInfo(f"train_{row['ImageID'][0]}/{row['ImageID']}.jpg")
            info.size = len(jpeg(number))
            tar.addfile(info, io.BytesIO(jpeg(number)))
    found = ingest(tmp_path, f"{tmp_path}/train_*.tar", kind="openimages", metadata=path)
    assert len(found) == 6
    for image_id, row in found.items():
        assert ".tar#bytes=" in row["uri"]
        check_metadata(row, next(r for r in rows if r["ImageID"] == image_id))


def test_placeholders_are_found_by_their_md5(tmp_path: Path, world: tuple[Path, list[dict[str, str]]]) -> None:
    path, rows = world
    gone = record(2)
    (tmp_path / "oi" / gone["Subset"] / f"{gone['ImageID']}.jpg").write_bytes(jpeg(777))
    found = ingest(
        tmp_path, tmp_path / "oi", kind="openimages", metadata=path, verify_md5=True, max_reject_share=1.0
    )  # fmt: skip
    assert len(found) == 5 and gone["ImageID"] not in found
    (reject,) = read_table(tmp_path / "ws" / "images" / "pool-rejects.parquet").to_pylist()
    assert reject["image_id"] == gone["ImageID"] and "placeholder" in reject["reason"]
    rows[rows.index(gone)]["OriginalMD5"] = "nonsense"
    write_csv(path, rows)
    with pytest.raises(NdecError, match=f"OriginalMD5 that is not base64 of 16 bytes: {gone['ImageID']}"):
        ingest(tmp_path, tmp_path / "oi", kind="openimages", metadata=path, verify_md5=True)


def test_groups_can_be_images_or_subsets(tmp_path: Path, world: tuple[Path, list[dict[str, str]]]) -> None:
    path, rows = world
    rows[0]["AuthorProfileURL"] = rows[0]["Author"] = ""
    write_csv(path, rows)
    assert ingest(tmp_path, path)[rows[0]["ImageID"]]["group"] == rows[0]["ImageID"]  # nobody's photo: its own group
    for image_id, row in ingest(tmp_path, path, group_by="image").items():
        assert row["group"] == image_id
    assert {row["group"] for row in ingest(tmp_path, path, group_by="folder").values()} == {
        "train",
        "validation",
        "test",
    }


def test_repeated_ids_are_named(tmp_path: Path, world: tuple[Path, list[dict[str, str]]]) -> None:
    path, rows = world
    twice = sorted([rows[3]["ImageID"], rows[8]["ImageID"]])
    write_csv(path, [*rows, rows[3], {**rows[8], "Title": "other"}])
    with pytest.raises(NdecError, match=r"ids? appears? twice") as caught:
        ingest(tmp_path, path)
    assert any(image_id in str(caught.value) for image_id in twice)
    assert not Workspace(tmp_path / "ws").images("pool").exists()
    write_csv(path, [*rows, *(record(number) for number in range(2))])
    with pytest.raises(
        NdecError, match="2 ids appear twice: " + ", ".join(sorted(record(n)["ImageID"] for n in range(2)))
    ):
        ingest(tmp_path, tmp_path / "oi", kind="openimages", metadata=path)


def test_invalid_csvs(tmp_path: Path, world: tuple[Path, list[dict[str, str]]]) -> None:
    path, rows = world
    write_csv(path, rows, columns=[name for name in HEADER if name not in ("License", "Rotation")])
    with pytest.raises(NdecError, match="lacks the columns License, Rotation; it has ImageID,"):
        ingest(tmp_path, path)
    for change, message in (
        ({"Rotation": "45.0"}, "the Rotation of .* is '45.0'"),
        ({"Subset": "challenge"}, "1 image has a Subset other than .* 'challenge'"),
        ({"ImageID": ""}, "1 row without an ImageID"),
    ):
        write_csv(path, [*rows[1:], {**rows[0], **change}])
        with pytest.raises(NdecError, match=message):
            ingest(tmp_path, path, images="s3://bucket")
    text = write_csv(path, rows).read_text()
    for broken in (text + '00aa,train,a,b,c,d,e,"open,f,g,h,i\n', text + "00aa,train\n"):
        path.write_text(broken)
        with pytest.raises(NdecError, match="is not valid csv"):
            ingest(tmp_path, path)
    path.write_bytes(text.encode() + b"00ab,train,,,,,\xff\xfe,t,1,m,u,0.0\n")
    with pytest.raises(NdecError, match=r"is not valid csv.*UTF8|not UTF-8 text"):
        ingest(tmp_path, path)
    path.write_text(",".join(HEADER) + "\n")
    with pytest.raises(UsageError, match="has a header but no rows"):
        ingest(tmp_path, path)


def test_missing_options_of_openimages(tmp_path: Path, world: tuple[Path, list[dict[str, str]]]) -> None:
    path, rows = world
    with pytest.raises(UsageError, match="needs its metadata"):
        ingest(tmp_path, tmp_path / "oi", kind="openimages")
    with pytest.raises(UsageError, match=r"none\.csv is not a file"):
        ingest(tmp_path, tmp_path / "oi", kind="openimages", metadata=tmp_path / "none.csv")
    with pytest.raises(UsageError, match="leave out --add"):
        ingest(tmp_path, path, add=True)
    lonely = write_csv(tmp_path / "meta.csv", rows)
    with pytest.raises(UsageError, match="give --images"):
        ingest(tmp_path, lonely)


def test_a_ground_truth_is_not_ignored(tmp_path: Path, world: tuple[Path, list[dict[str, str]]]) -> None:
    path, rows = world
    (tmp_path / "gt.csv").write_text(f"{rows[0]['ImageID']},r0\n")
    config = IngestConfig(tmp_path / "ws", "query", path, ground_truth=tmp_path / "gt.csv")
    with pytest.raises(UsageError, match="leave out --add, --ground-truth"):
        run(config)
