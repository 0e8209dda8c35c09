"""One file is one image: rows that name it again, an added source with other ids for it, and ids that get longer."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import NdecError
from support.ingesting import Ingested, picture


def put(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(number))
    return folder


def captions(folder: Path, **more: list[Any]) -> Path:
    """A table with three captions of each of two pictures."""
    put(folder, "img/a.jpg", "img/b.jpg")
    paths = [f"img/{name}.jpg" for name in "ab" for _ in range(3)]
    columns = {"path": paths, "caption": [f"{number}" for number in range(6)]}
    pq.write_table(pa.table(columns | more), folder / "captions.parquet")
    return folder


def test_rows_of_one_file_are_one_image(tmp_path: Path) -> None:
    found = Ingested(tmp_path, captions(tmp_path / "coco"))
    assert found.column("title") == {"a": "0", "b": "3"}
    assert "4 rows name a file that an earlier row of the source names" in found.notes
    assert "another licence" not in found.notes


def test_an_annotation_id_of_each_row_does_not_repeat_the_picture(tmp_path: Path) -> None:
    assert Ingested(tmp_path, captions(tmp_path / "coco", id=[*range(6)])).ids == ["0", "3"]


def test_rows_of_one_file_that_disagree_are_counted(tmp_path: Path) -> None:
    licences = ["CC0-1.0", "CC0-1.0", "CC-BY-4.0", None, None, "CC0-1.0"]
    found = Ingested(tmp_path, captions(tmp_path / "coco", license=licences))
    assert found.column("license") == {"a": "CC0-1.0", "b": None}
    assert "2 of them state another licence, author, group or rotation" in found.notes


def test_two_metadata_files_that_name_one_picture(tmp_path: Path) -> None:
    source = put(tmp_path / "photos", "sub/a.jpg", "sub/b.jpg")
    for folder, prefix, licence in ((source, "sub/", "CC0-1.0"), (source / "sub", "", "CC-BY-4.0")):
        with (folder / "metadata.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file_name", "license"), *((f"{prefix}{name}.jpg", licence) for name in "ab")])
    found = Ingested(tmp_path, source)
    assert found.column("license") == {"a": "CC0-1.0", "b": "CC0-1.0"}
    assert "2 of them state another licence" in found.notes


def test_an_added_source_that_has_the_files_under_other_ids_is_refused(tmp_path: Path) -> None:
    source = put(tmp_path / "photos", "one/a.jpg", "two/a.jpg")
    before = Ingested(tmp_path, source / "one").rows
    with pytest.raises(
        NdecError, match=r"1 file would be in the role pool twice, .*one/a\.jpg is 'a' there and 'one/a'"
    ):
        Ingested(tmp_path, source, add=True)
    assert Ingested(tmp_path, source / "one", add=True).rows == before
    assert Ingested(tmp_path, source).ids == ["one/a", "two/a"]


def test_files_that_get_another_id_are_not_called_missing(tmp_path: Path) -> None:
    source = put(tmp_path / "photos", "one/a.jpg", "one/b.jpg", "one/c.jpg")
    Ingested(tmp_path, source)
    (source / "one" / "c.jpg").unlink()
    notes = Ingested(tmp_path, put(source, "two/a.jpg")).notes
    assert "2 files have another id than before, e.g. 'a' is 'one/a' now" in notes
    assert "1 image is no longer in the role" in notes
