"""Parquet with image bytes or paths, and the directories of the `datasets` library, written by that library."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.storage import read_table, read_uri
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig
from support.ingesting import write_tar
from support.pictures import scene, write_scenes


def png(seed: int) -> bytes:
    out = io.BytesIO()
    scene(seed, (48, 36)).save(out, "PNG")
    return out.getvalue()


def ingest(tmp_path: Path, source: str | Path, **more: Any) -> dict[str, dict[str, Any]]:
    run(IngestConfig(tmp_path / "ws", "pool", source, **more))
    return {row["image_id"]: row for row in Workspace(tmp_path / "ws").read_images("pool").to_pylist()}


def data_of(tmp_path: Path, row: dict[str, Any]) -> bytes:
    return read_uri(Workspace(tmp_path / "ws").resolve(row["uri"]))


def test_bytes_are_addressed_by_row(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for part in range(2):
        ids = [f"img{part}{i}" for i in range(5)]
        table = pa.table({"id": ids, "jpg": [png(10 * part + i) for i in range(5)], "license": ["CC0-1.0"] * 5})
        pq.write_table(table, tmp_path / "p" / f"train-{part}.parquet", row_group_size=2)
    rows = ingest(tmp_path, tmp_path / "p")
    assert list(rows) == [f"img{part}{i}" for part in range(2) for i in range(5)]
    assert data_of(tmp_path, rows["img13"]) == png(13)
    assert (rows["img13"]["width"], rows["img13"]["format"], rows["img13"]["license"]) == (48, "PNG", "CC0-1.0")
    remote = ingest(tmp_path, f"file://{tmp_path}/p/train-*.parquet", kind="parquet")
    assert list(remote) == list(rows) and remote["img13"]["sha256"] is None
    assert read_uri(remote["img13"]["uri"]) == png(13)


def test_structs_fall_back_to_their_path_and_rows_without_either_are_rejects(tmp_path: Path) -> None:
    paths = write_scenes(tmp_path / "p" / "pics", 1)
    values = [{"bytes": png(1), "path": "x/one.png"}, {"bytes": None, "path": f"pics/{paths[0].name}"}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(values, kind), "label": [0, 1, 2]}), tmp_path / "p" / "a.parquet")
    rows = ingest(tmp_path, tmp_path / "p" / "a.parquet", max_reject_share=1.0)
    assert list(rows) == ["one", "scene-0000"]
    assert data_of(tmp_path, rows["one"]) == png(1)
    assert data_of(tmp_path, rows["scene-0000"]) == paths[0].read_bytes()
    (reject,) = read_table(tmp_path / "ws" / "images" / "pool-rejects.parquet").to_pylist()
    assert (reject["image_id"], reject["reason"]) == ("a-0000002", "no image in this row")


def test_paths_and_the_images_table_of_another_workspace(tmp_path: Path) -> None:
    write_scenes(tmp_path / "other" / "pics", 3)
    run(IngestConfig(tmp_path / "other", "basic", tmp_path / "other" / "pics"))
    pq.write_table(pa.table({"path": ["pics/scene-0001.png"], "group": ["g"]}), tmp_path / "other" / "list.parquet")
    rows = ingest(tmp_path, tmp_path / "other" / "list.parquet")
    assert rows["scene-0001"]["group"] == "g" and len(rows["scene-0001"]["sha256"]) == 64


def test_a_path_out_of_the_folder_is_a_reject(tmp_path: Path) -> None:
    write_scenes(tmp_path / "p" / "pics", 1)
    write_scenes(tmp_path / "private", 1, first_seed=7)
    paths = ["pics/scene-0000.png", "../private/scene-0007.png", "pics/../../private/scene-0007.png"]
    pq.write_table(pa.table({"id": ["a", "b", "c"], "path": paths}), tmp_path / "p" / "a.parquet")
    assert list(ingest(tmp_path, tmp_path / "p" / "a.parquet", max_reject_share=1.0)) == ["a"]
    rejects = read_table(tmp_path / "ws" / "images" / "pool-rejects.parquet").to_pylist()
    assert [(row["image_id"], "leads out" in row["reason"]) for row in rejects] == [("b", True), ("c", True)]


def test_the_column_can_be_named_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"left": [png(1)], "right": [png(2)], "n": [1]}), path)
    assert data_of(tmp_path, ingest(tmp_path, path, column="right")["a-0000000"]) == png(2)
    with pytest.raises(UsageError, match=r"no column of .* looks like images: its columns are left, right, n"):
        ingest(tmp_path, path)
    with pytest.raises(UsageError, match=r"no column 'rigth' with images; .*did you mean 'right'"):
        ingest(tmp_path, path, column="rigth")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(NdecError, match=r"a\.parquet cannot be read as parquet"):
        ingest(tmp_path, path)
    pq.write_table(pa.table({"jpg": pa.array([], pa.binary())}), path)
    with pytest.raises(UsageError, match="no row in"):
        ingest(tmp_path, path)


@pytest.fixture
def dataset(tmp_path: Path) -> datasets.Dataset:
    paths = write_scenes(tmp_path / "raw", 7)
    columns = {"image": [str(path) for path in paths], "author": [f"a{i}" for i in range(7)]}
    features = datasets.Features({"image": datasets.Image(), "author": datasets.Value("string")})
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("form", ["parquet", "save_to_disk", "dataset_dict"])
def test_what_the_datasets_library_writes(tmp_path: Path, dataset: datasets.Dataset, form: str) -> None:
    root = tmp_path / "hf"
    embedded = dataset.map(lambda row: row, features=dataset.features)
    if form == "parquet":
        (root / "data").mkdir(parents=True)
        embedded.to_parquet(root / "data" / "train-00000-of-00001.parquet")
    elif form == "save_to_disk":
        embedded.save_to_disk(root, num_shards=2)
    else:
        datasets.DatasetDict({"train": embedded.select(range(4)), "test": embedded.select(range(4, 7))}).save_to_disk(
            root
        )
    if form == "parquet":  # `to_parquet` keeps absolute paths, which may point anywhere
        with pytest.raises(GapsError, match=r"7 × an absolute path outside of the source's folder; --follow-links DIR"):
            ingest(tmp_path, root)
    rows = ingest(tmp_path, root, follow_links=tmp_path / "raw" if form == "parquet" else None)
    assert len(rows) == 7 and [row["author"] for row in rows.values()] == [f"a{i}" for i in range(7)]
    for i, row in enumerate(rows.values()):
        assert data_of(tmp_path, row) == (tmp_path / "raw" / f"scene-{i:04d}.png").read_bytes()


def test_images_with_metadata(tmp_path: Path) -> None:
    root = tmp_path / "hf"
    for split, count in (("train", 2), ("test", 1)):
        write_scenes(root / split, count, first_seed=10 * count)
    with (root / "train" / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["file_name", "license", "title"], ["scene-0020.png", "CC0-1.0", 'a "b", c']])
    (root / "test" / "metadata.jsonl").write_text(json.dumps({"file_name": "scene-0010.png", "rotation": 90}) + "\n")
    rows = ingest(tmp_path, root, kind="hf")
    assert list(rows) == ["scene-0010", "scene-0020"]  # as the library: what the metadata does not name is left out
    assert (rows["scene-0020"]["license"], rows["scene-0020"]["title"]) == ("CC0-1.0", 'a "b", c')
    assert rows["scene-0010"]["rotation"] == 90
    assert datasets.load_dataset("imagefolder", data_dir=str(root / "train"), split="train").num_rows == 1
    (root / "train" / "metadata.csv").write_text("file_name\nscene-0020.png\nnone.png\n../test/scene-0010.png\n")
    with pytest.raises(
        GapsError, match=r"1 file that the metadata names is missing: none.png.*1 × its path leads out of the folder"
    ):
        ingest(tmp_path, root, kind="hf")


@pytest.mark.parametrize("line", ["9", "[]", '"a.png"', "[" * 100_000])
def test_metadata_lines_that_are_not_objects(tmp_path: Path, line: str) -> None:
    write_scenes(tmp_path / "p", 1)
    (tmp_path / "p" / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(NdecError, match=r"metadata\.jsonl cannot be read"):
        ingest(tmp_path, tmp_path / "p", kind="hf")


def test_metadata_with_impossible_file_names(tmp_path: Path) -> None:
    write_scenes(tmp_path / "p", 1)
    names = ["scene-0000.png", "a\0b.png", "x" * 5_000]
    lines = [json.dumps({"file_name": name}) for name in names]
    (tmp_path / "p" / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.raises(GapsError, match="2 × a name that no file and no address can have"):
        ingest(tmp_path, tmp_path / "p", kind="hf")


def test_files_that_the_names_of_the_others_count_are_missed(tmp_path: Path) -> None:
    """A download that stopped after two of three files; one file of it, or names in braces, are what was asked for."""
    folder = tmp_path / "data"
    folder.mkdir()
    for part in (0, 2):
        pq.write_table(pa.table({"jpg": [png(part)]}), folder / f"train-{part:05d}-of-00003-0a1b.parquet")
        write_tar(folder / f"shard-{part + 1}-of-3.tar", {f"{part}.png": png(part)})
    for kind, missing in (("parquet", r"train-…-of-00003 .*: number 00001"), ("tar", r"shard-…-of-3 .*: number 2")):
        with pytest.raises(GapsError, match=f"1 of 3 files .*{missing}"):
            ingest(tmp_path, folder, kind=kind)
        assert len(Workspace(tmp_path / "ws").read_images("pool")) == 2
    assert len(ingest(tmp_path, folder / "shard-1-of-3.tar")) == 1
    assert len(ingest(tmp_path, f"{folder}/shard-{{1,3}}-of-3.tar")) == 2
    pq.write_table(pa.table({"jpg": [png(1)]}), folder / "train-00001-of-00003-2c3d.parquet")
    assert len(ingest(tmp_path, f"{folder}/train-*.parquet")) == 3


def test_broken_directories(tmp_path: Path, dataset: datasets.Dataset) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="not a directory of the datasets library"):
        ingest(tmp_path, tmp_path / "empty", kind="hf")
    root = tmp_path / "saved"
    dataset.map(lambda row: row, features=dataset.features).save_to_disk(root, num_shards=2)
    (root / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(GapsError, match=r"1 arrow file is missing: data-00001-of-00002\.arrow"):
        ingest(tmp_path, root)
    (root / "data-00000-of-00002.arrow").write_bytes(b"nothing")
    with pytest.raises(NdecError, match="cannot be read as an arrow file"):
        ingest(tmp_path, root)
    (root / "state.json").write_text("{}")
    with pytest.raises(NdecError, match="not a state of save_to_disk"):
        ingest(tmp_path, root)


def test_a_column_whose_name_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"image": [png(0)]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"image", b"\xf0mage"))
    with pytest.raises(NdecError, match="cannot be read as parquet"):
        ingest(tmp_path, path, kind="parquet")
