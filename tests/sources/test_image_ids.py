"""Image ids: file names, or paths where names repeat, or what `--id` chooses."""

from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import GapsError, UsageError
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig
from support.ingesting import Ingested, picture, write_tar
from support.pictures import write_scenes


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two class folders whose files have the same names, as cameras and exporters make them."""
    for number, name in enumerate(("cats", "dogs")):
        write_scenes(tmp_path / "in" / name, 2, suffix=".png")
        (tmp_path / "in" / name / "scene-0000.png").write_bytes(picture(10 + number, "PNG"))
    return tmp_path / "in"


def test_paths_where_names_repeat(tmp_path: Path, classes: Path) -> None:
    found = Ingested(tmp_path, classes)
    assert found.ids == ["cats/scene-0000", "cats/scene-0001", "dogs/scene-0000", "dogs/scene-0001"]
    assert found.data("dogs/scene-0000") == picture(11, "PNG")
    assert len(set(found.column("group").values())) == 4
    assert "2 of 4 names repeat" in found.notes and "'cats/scene-0000' instead of 'scene-0000'" in found.notes


def test_a_ground_truth_names_paths(tmp_path: Path, classes: Path) -> None:
    (tmp_path / "gt.csv").write_text("cats/scene-0000.png,dogs/scene-0001.png\ndogs/scene-0000,\n")
    run(IngestConfig(tmp_path / "ws", "reference", classes))
    run(IngestConfig(tmp_path / "ws", "query", classes, ground_truth=tmp_path / "gt.csv"))
    truth = read_table(Workspace(tmp_path / "ws").ground_truth).to_pylist()
    assert [tuple(row.values()) for row in truth] == [
        ("cats/scene-0000", "dogs/scene-0001"), ("dogs/scene-0000", None),
    ]  # fmt: skip


def test_names_where_none_repeats(tmp_path: Path, classes: Path) -> None:
    (classes / "dogs" / "scene-0000.png").rename(classes / "dogs" / "a.png")
    (classes / "dogs" / "scene-0001.png").rename(classes / "dogs" / "b.png")
    assert Ingested(tmp_path, classes).ids == ["a", "b", "scene-0000", "scene-0001"]
    assert Ingested(tmp_path, classes, id="path").ids == ["cats/scene-0000", "cats/scene-0001", "dogs/a", "dogs/b"]


def test_one_name_with_two_endings(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 1, suffix=".png")
    write_scenes(tmp_path / "in", 1, suffix=".jpg")
    assert Ingested(tmp_path, tmp_path / "in").ids == ["scene-0000.jpg", "scene-0000.png"]


def test_a_reject_with_a_repeated_name_has_its_path_too(tmp_path: Path, classes: Path) -> None:
    (classes / "dogs" / "scene-0000.png").write_bytes(b"")
    (classes / "birds").mkdir()
    (classes / "birds" / "scene-0000.png").symlink_to("/etc/hostname")
    found = Ingested(tmp_path, classes, max_reject_share=1.0)
    assert set(found.rejects) == {"dogs/scene-0000", "birds/scene-0000"}


def test_shards_that_start_numbering_again(tmp_path: Path) -> None:
    for shard in range(2):
        write_tar(tmp_path / "shards" / f"{shard:05d}.tar", {f"{i:03d}.jpg": picture(10 * shard + i) for i in range(2)})
    found = Ingested(tmp_path, tmp_path / "shards")
    assert found.ids == ["00000/000", "00000/001", "00001/000", "00001/001"]
    assert found.data("00001/001") == picture(11)
    with pytest.raises(UsageError, match="2 ids appear more than once: give --id path"):
        Ingested(tmp_path, tmp_path / "shards", id="stem")


def test_one_shard_with_folders(tmp_path: Path) -> None:
    files = {"x/0001.jpg": picture(1), "y/0001.jpg": picture(2)}
    assert Ingested(tmp_path, write_tar(tmp_path / "a.tar", files)).ids == ["x/0001", "y/0001"]
    assert Ingested(tmp_path, tmp_path / "a.tar", id="path").ids == ["x/0001", "y/0001"]


def test_a_list_of_paths(tmp_path: Path, classes: Path) -> None:
    (tmp_path / "list.txt").write_text("in/cats/scene-0000.png\nin/dogs/scene-0000.png\nhttps://example.org/a/b.png\n")
    assert Ingested(tmp_path, tmp_path / "list.txt").ids == [
        "https://example.org/a/b", "in/cats/scene-0000", "in/dogs/scene-0000",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["parquet", "save_to_disk"])
def test_what_datasets_writes_of_class_folders(tmp_path: Path, classes: Path, form: str) -> None:
    """datasets 5.2 keeps only the base names of files, so that they repeat."""
    loaded = datasets.load_dataset("imagefolder", data_dir=str(classes), split="train")
    if form == "parquet":
        loaded.to_parquet(tmp_path / "set" / "train.parquet")
        with pytest.raises(GapsError, match="absolute path outside of the source's folder; --follow-links DIR"):
            Ingested(tmp_path, tmp_path / "set")
    else:
        loaded.save_to_disk(tmp_path / "set")
    found = Ingested(tmp_path, tmp_path / "set", follow_links=classes)
    assert not any(name.startswith("/") for name in found.ids)  # no path of this machine
    assert len(found.ids) == 4 and len({found.data(name) for name in found.ids}) == 3
    assert found.data(found.ids[0]) == (classes / "cats" / "scene-0000.png").read_bytes()
    assert found.data(found.ids[2]) == (classes / "dogs" / "scene-0000.png").read_bytes()


def test_the_column_with_the_id(tmp_path: Path) -> None:
    table = pa.table({"key": ["k1", "k1"], "photo": [7, 8], "jpg": [picture(1), picture(2)]})
    (tmp_path / "p").mkdir()
    pq.write_table(table, tmp_path / "p" / "a.parquet")
    with pytest.raises(UsageError, match=r"would both be image 'k1'; .*--id path, or --id column:NAME"):
        Ingested(tmp_path, tmp_path / "p")
    assert Ingested(tmp_path, tmp_path / "p", id="column:photo").ids == ["7", "8"]
    assert Ingested(tmp_path, tmp_path / "p", id="column photo").ids == ["7", "8"]
    assert Ingested(tmp_path, tmp_path / "p", id="path").ids == ["a/0000000", "a/0000001"]


def test_a_row_without_the_id_is_a_reject(tmp_path: Path) -> None:
    files = {"a.jpg": picture(1), "a.json": b'{"photo": "p1"}', "b.jpg": picture(2), "b.json": b"{}"}
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files), id="column:photo", max_reject_share=1.0)
    assert found.ids == ["p1"] and found.rejects == {"b": "no value in 'photo', which --id names"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id": "name"}, "id 'name' is unknown; it is stem, path, or column:NAME"),
        ({"id": "column:"}, "id 'column:' is unknown"),
        ({"id": "path", "kind": "disc21"}, "--id does not apply to kind 'disc21'"),
        ({"id": "column:photo"}, "--id column:photo names a column of a table, and .* is read as 'folder'"),
    ],
)
def test_rules_that_make_no_sense(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    write_scenes(tmp_path / "in", 1)
    with pytest.raises(UsageError, match=message):
        Ingested(tmp_path, tmp_path / "in", **settings)
