"""Sources whose tables, lists and folders are unusual: nothing is lost, merged or renamed without a word."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_json
from ndec_builder.sources.detect_kind import guess_kind
from ndec_builder.sources.ground_truth import read_ground_truth
from ndec_builder.sources.metadata import metadata_rotation
from support.ingesting import Ingested, picture


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """q/q0.jpg, q/q1.jpg, r/r0.jpg."""
    for number, name in enumerate(("q/q0", "q/q1", "r/r0")):
        path = tmp_path / "in" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return tmp_path / "in"


def groups(found: Ingested) -> list[set[str]]:
    by_group: dict[str, set[str]] = {}
    for image_id, group in found.column("group").items():
        by_group.setdefault(group, set()).add(image_id)
    return sorted(by_group.values(), key=sorted)


def test_paths_of_find_are_grouped_by_their_first_folder(tmp_path: Path, folders: Path) -> None:
    (folders / "a.txt").write_text("./q/q0.jpg\n./q/q1.jpg\n./r/r0.jpg\n")
    assert groups(Ingested(tmp_path, folders / "a.txt", group_by="path")) == [{"q0", "q1"}, {"r0"}]


def test_metadata_at_the_top_is_grouped_by_the_first_folder(tmp_path: Path, folders: Path) -> None:
    (folders / "metadata.csv").write_text("file_name\nq/q0.jpg\nq/q1.jpg\nr/r0.jpg\n")
    assert groups(Ingested(tmp_path, folders, group_by="path")) == [{"q0", "q1"}, {"r0"}]


def test_lines_that_name_one_file_are_one_image(tmp_path: Path, folders: Path) -> None:
    (folders / "a.txt").write_text("q/q0.jpg\n./q/q0.jpg\nq//q1.jpg\nq/q0.jpg\n")
    found = Ingested(tmp_path, folders / "a.txt")
    assert found.ids == ["q0", "q1"]
    assert "2 lines of the list repeat an earlier one" in found.notes


@pytest.mark.slow
def test_the_kind_of_a_large_folder_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metadata.parquet").touch()
    for number in range(1_100):
        (tmp_path / f"{number}.png").touch()
    ascending = sorted(tmp_path.iterdir())  # the metadata is last
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(ascending))
    assert guess_kind(tmp_path) == "hf"


def test_pictures_that_no_row_names_are_counted(tmp_path: Path, folders: Path) -> None:
    pq.write_table(pa.table({"path": ["q/q0.jpg", "r/r0.jpg"]}), folders / "a.parquet")
    found = Ingested(tmp_path, folders, kind="parquet")
    assert found.ids == ["q0", "r0"]
    assert "1 image is left out, in no row of the tables, e.g. " in found.notes and "q1.jpg" in found.notes


def test_a_row_whose_id_is_zero_keeps_it(tmp_path: Path) -> None:
    images = [[picture(0), picture(1)], [picture(2)]]
    pq.write_table(pa.table({"id": [0, 1], "images": images}), tmp_path / "a.parquet")
    found = Ingested(tmp_path, tmp_path / "a.parquet")
    assert found.column("sha256") == {
        name: hashlib.sha256(picture(seed)).hexdigest() for seed, name in enumerate(("0-0", "0-1", "1-0"))
    }


def test_nan_is_no_group_and_no_id(tmp_path: Path, folders: Path) -> None:
    rows = [{"file_name": f"q/q{n}.jpg", "group": float("nan"), "name": float("nan")} for n in range(2)]
    (folders / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert len(groups(Ingested(tmp_path, folders))) == 2
    with pytest.raises(UsageError, match="2 × no value in 'name', which --id names"):
        Ingested(tmp_path, folders, id="column:name")


@pytest.mark.parametrize("value", ["inf", "90.7", -45, "left"])
def test_odd_rotations_are_refused(value: object) -> None:
    with pytest.raises(NdecError, match=r"is not one of \(0, 90, 180, 270\)"):
        metadata_rotation({"rotation": value})


@pytest.mark.parametrize(("value", "degrees"), [(float("nan"), 0), (-90, 270), ("450.0", 90), (None, 0)])
def test_rotations(value: object, degrees: int) -> None:
    assert metadata_rotation({"rotation": value}) == degrees


def test_each_metadata_file_is_in_the_record(tmp_path: Path, folders: Path) -> None:
    for folder in "qr":
        (folders / folder / "metadata.csv").write_text(f"file_name\n{folder}0.jpg\n")
    found = Ingested(tmp_path, folders, kind="hf")
    record = read_json(found.workspace.images("pool").with_name("pool.run.json"))
    assert record["inputs"] == {
        f"{folder}/metadata.csv": hashlib.sha256((folders / folder / "metadata.csv").read_bytes()).hexdigest()
        for folder in "qr"
    }


@pytest.mark.parametrize("ending", ["jpg", "DNG", "jxl"])
def test_endings_are_removed_whatever_is_installed(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ndec_builder.sources.ground_truth.SUFFIXES", {".jpg"}, raising=False)  # without the extra
    (tmp_path / "gt.csv").write_text(f"q.1.{ending},r.{ending}\n")
    assert read_ground_truth(tmp_path / "gt.csv") == [("q.1", "r")]


def test_an_empty_cell_does_not_hide_another_name_of_the_same_thing(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture(1))
    (folder / "metadata.csv").write_text("file_name,license,License,title,caption\na.jpg,,CC-BY-4.0,,A cat\n")
    row = Ingested(tmp_path, folder).rows["a"]
    assert (row["license"], row["title"]) == ("CC-BY-4.0", "A cat")
