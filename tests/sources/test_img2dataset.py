"""Folders as img2dataset 1.47 writes them: pictures, one json and txt each, and a parquet table of all downloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ndec_builder.core.errors import GapsError
from support.ingesting import Ingested, picture

FAILED = ("failed_to_download", "HTTP Error 404: File not found")


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def download(root: Path, form: str, tagged: bool = False) -> Path:
    """Two shards of three URLs, the last of which failed in each; `form` is the output_format."""
    for shard in range(2):
        rows: list[dict[str, Any]] = []
        for i in range(3):
            key = f"{shard}{i:04d}"
            good = i < 2
            data = picture(10 * shard + i, exif=rotated()) if tagged and i == 0 else picture(10 * shard + i)
            status, error = ("success", None) if good else FAILED
            orientation = {"Image Orientation": "Rotated 90 CW"} if i == 0 else {}
            row = {
                "url": f"https://example.org/{key}.jpg", "key": key, "status": status, "error_message": error,
                "caption": f"caption {key}", "exif": json.dumps(orientation) if good else None,
            }  # fmt: skip
            if form == "parquet":
                row["jpg"] = data if good else None
            elif good:
                folder = root / f"{shard:05d}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{key}.jpg").write_bytes(data)
                (folder / f"{key}.json").write_text(json.dumps(row))
                (folder / f"{key}.txt").write_text(row["caption"])
            rows.append(row)
        root.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows[::-1]), root / f"{shard:05d}.parquet")
        (root / f"{shard:05d}_stats.json").write_text("{}")
    return root


@pytest.mark.parametrize("form", ["files", "parquet"])
def test_local_pictures_count_before_addresses(tmp_path: Path, form: str) -> None:
    root = download(tmp_path / "out", form)
    with pytest.raises(GapsError, match=r"2 of 6 images .*2 × failed_to_download: HTTP Error 404"):
        Ingested(tmp_path, root)
    found = Ingested(tmp_path, root, max_reject_share=1.0)
    assert found.ids == ["00000", "00001", "10000", "10001"]
    assert found.data("10001") == picture(11) and not any("://" in uri for uri in found.column("uri").values())
    assert found.column("original_url")["00001"] == "https://example.org/00001.jpg"
    assert found.column("title")["00001"] == "caption 00001"
    assert found.rejects == dict.fromkeys(("00002", "10002"), "failed_to_download: HTTP Error 404: File not found")


@pytest.mark.parametrize("form", ["files", "parquet"])
@pytest.mark.parametrize("tagged", [False, True], ids=["re-encoded", "skip_reencode"])
def test_photos_are_rotated_once(tmp_path: Path, form: str, tagged: bool) -> None:
    found = Ingested(tmp_path, download(tmp_path / "out", form, tagged), max_reject_share=1.0)
    degrees = 0 if tagged else 90
    assert found.column("rotation") == {"00000": degrees, "00001": 0, "10000": degrees, "10001": 0}


def test_the_folder_of_one_shard_is_read_with_its_table(tmp_path: Path) -> None:
    root = download(tmp_path / "out", "files")
    found = Ingested(tmp_path, root / "00001", max_reject_share=1.0)
    assert found.column("rotation") == {"10000": 90, "10001": 0} and set(found.rejects) == {"10002"}
    pictures = Ingested(tmp_path, root / "00001", kind="folder")  # said so: nothing but its pictures
    assert pictures.ids == ["10000", "10001"] and "2 .json, 2 .txt are not read" in pictures.notes


def test_a_picture_that_is_missing_is_not_fetched_from_the_web(tmp_path: Path) -> None:
    root = download(tmp_path / "out", "files")
    (root / "00000" / "00001.jpg").unlink()
    found = Ingested(tmp_path, root, max_reject_share=1.0)
    assert found.ids == ["00000", "10000", "10001"] and "no such file" in found.rejects["00001"]


def test_a_status_of_another_meaning_is_no_failure(tmp_path: Path) -> None:
    table = pa.table({"jpg": [picture(1), picture(2)], "id": ["a", "b"], "status": ["draft", "final"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert Ingested(tmp_path, tmp_path / "a.parquet").ids == ["a", "b"]
