"""Columns of images in every type in which Arrow stores bytes, text and lists; in parquet and in Arrow files."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.sources.readers import parquet as reader
from support.ingesting import Ingested, picture
from support.pictures import write_scenes

PICTURES = [picture(1, "PNG"), picture(2, "PNG"), picture(3, "PNG")]
SIZE = max(map(len, PICTURES))
PADDED = [data + bytes(SIZE - len(data)) for data in PICTURES]  # a PNG may be followed by anything
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

COLUMNS: dict[str, pa.Array] = {
    "binary": pa.array(PICTURES, pa.binary()),
    "large_binary": pa.array(PICTURES, pa.large_binary()),
    "binary_view": pa.array(PICTURES, pa.binary_view()),
    "fixed_size_binary": pa.array(PADDED, pa.binary(SIZE)),
    "dictionary": pa.array(PICTURES, pa.binary()).dictionary_encode(),
    "list of uint8": pa.array([list(data) for data in PICTURES], pa.list_(pa.uint8())),
    "list of int64": pa.array([list(data) for data in PICTURES], pa.list_(pa.int64())),
    "list of int8": pa.array([[(b + 128) % 256 - 128 for b in data] for data in PICTURES], pa.list_(pa.int8())),
    "large_list": pa.array([list(data) for data in PICTURES], pa.large_list(pa.uint8())),
    "struct": pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(PICTURES)], STRUCT),
    "struct of large_binary": pa.array([{"bytes": d} for d in PICTURES], pa.struct([("bytes", pa.large_binary())])),
    "struct of binary_view": pa.array([{"bytes": data} for data in PICTURES], pa.struct([("bytes", pa.binary_view())])),
    "struct of ints": pa.array(
        [{"bytes": list(data)} for data in PICTURES], pa.struct([("bytes", pa.list_(pa.uint8()))])
    ),
}  # fmt: skip


def contents(found: Ingested) -> list[bytes]:
    return sorted(found.data(image_id).rstrip(b"\0") for image_id in found.ids)


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("stored_schema", [True, False], ids=["Arrow's schema", "parquet's types"])
def test_bytes_in_parquet(tmp_path: Path, kind: str, stored_schema: bool) -> None:
    table = pa.table({"image": COLUMNS[kind], "author": ["a", "b", "c"]})
    rows = None if "struct of binary_view" in kind else 2  # pyarrow 24 cannot write a part of these
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows, store_schema=stored_schema)
    found = Ingested(tmp_path, tmp_path / "a.parquet")
    assert contents(found) == sorted(data.rstrip(b"\0") for data in PICTURES)
    assert sorted(found.column("author").values()) == ["a", "b", "c"] and found.rejects == {}


def write_saved(folder: Path, table: pa.Table) -> Path:
    """The layout of `save_to_disk`, around an Arrow file of any schema."""
    folder.mkdir()
    with pa.OSFile(str(folder / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    return folder


@pytest.mark.parametrize("kind", [kind for kind in COLUMNS if kind != "list of int64"])
def test_bytes_in_an_arrow_file(tmp_path: Path, kind: str) -> None:
    found = Ingested(tmp_path, write_saved(tmp_path / "saved", pa.table({"image": COLUMNS[kind]})))
    assert contents(found) == sorted(data.rstrip(b"\0") for data in PICTURES)


def test_bytes_that_are_not_in_one_piece_are_rejects(tmp_path: Path) -> None:
    table = pa.table({"image": pa.concat_arrays([COLUMNS["list of int64"]]), "id": ["x", "y", "z"]})
    with pytest.raises(UsageError, match=r"3 × its bytes are not stored in one piece .* write it as parquet"):
        Ingested(tmp_path, write_saved(tmp_path / "saved", table))


LISTS: dict[str, pa.Array] = {
    "list of structs": pa.array(
        [[{"bytes": PICTURES[0], "path": "a.png"}, {"bytes": PICTURES[1], "path": "b.png"}], [{"bytes": PICTURES[2]}]],
        pa.list_(STRUCT),
    ),
    "large_list of binary": pa.array([PICTURES[:2], PICTURES[2:]], pa.large_list(pa.binary())),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_lists_of_images(tmp_path: Path, kind: str, form: str) -> None:
    table = pa.table({"images": LISTS[kind], "id": ["x", "y"], "author": ["A", "B"]})
    if form == "parquet":
        pq.write_table(table, source := tmp_path / "a.parquet")
    else:
        source = write_saved(tmp_path / "saved", table)
    found = Ingested(tmp_path, source)
    assert found.column("author") == {"x-0": "A", "x-1": "A", "y-0": "B"}
    assert [found.data(name) for name in ("x-0", "x-1", "y-0")] == PICTURES


def test_lists_of_images_as_datasets_writes_them(tmp_path: Path) -> None:
    paths = [str(path) for path in write_scenes(tmp_path / "raw", 3)]
    features = datasets.Features({"images": datasets.List(datasets.Image()), "id": datasets.Value("string")})
    loaded = datasets.Dataset.from_dict({"images": [paths[:2], paths[2:]], "id": ["x", "y"]}, features=features)
    loaded.map(lambda row: row, features=features).to_parquet(tmp_path / "set" / "a.parquet")
    found = Ingested(tmp_path, tmp_path / "set", follow_links=tmp_path / "raw")
    assert [found.data(name) for name in ("x-0", "x-1", "y-0")] == [Path(path).read_bytes() for path in paths]


PATH_TYPES: dict[str, Any] = {
    "string": pa.string(), "large_string": pa.large_string(), "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}  # fmt: skip


@pytest.mark.parametrize("kind", PATH_TYPES)
def test_paths(tmp_path: Path, kind: str) -> None:
    write_scenes(tmp_path / "in", 2)
    paths = pa.array(["in/scene-0000.png", "in/scene-0001.png"]).cast(PATH_TYPES[kind])
    pq.write_table(pa.table({"path": paths}), tmp_path / "a.parquet")
    assert Ingested(tmp_path, tmp_path / "a.parquet").ids == ["scene-0000", "scene-0001"]


def test_a_categorical_column_of_pandas(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 2)
    frame = pd.DataFrame({"file_name": pd.Categorical(["in/scene-0000.png", "in/scene-0001.png"]), "n": [1, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert Ingested(tmp_path, tmp_path / "a.parquet").ids == ["scene-0000", "scene-0001"]


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
@pytest.mark.parametrize("nested", [False, True], ids=["text", "struct"])
def test_base64_text_is_read(tmp_path: Path, prefix: str, nested: bool) -> None:
    texts = [prefix + base64.b64encode(data).decode() for data in PICTURES]
    column = pa.array([{"bytes": text} for text in texts]) if nested else pa.array(texts)
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet")
    assert contents(Ingested(tmp_path, tmp_path / "a.parquet")) == sorted(data.rstrip(b"\0") for data in PICTURES)


@pytest.mark.parametrize("name", ["img", "jpg", "content"])
def test_base64_text_under_a_name_of_bytes(tmp_path: Path, name: str) -> None:
    texts = [base64.urlsafe_b64encode(picture(i)).decode() for i in range(2)]
    pq.write_table(pa.table({name: texts}), tmp_path / "a.parquet")
    assert contents(Ingested(tmp_path, tmp_path / "a.parquet")) == sorted(picture(i) for i in range(2))


def test_base64_text_in_an_arrow_file_is_a_reject(tmp_path: Path) -> None:
    texts = [base64.b64encode(data).decode() for data in PICTURES]
    with pytest.raises(UsageError, match=r"3 × its bytes are not stored in one piece .* write it as parquet"):
        Ingested(tmp_path, write_saved(tmp_path / "saved", pa.table({"image": texts})))


def test_an_error_of_ours_does_not_blame_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": PICTURES}), tmp_path / "a.parquet")

    def fails(*given: object) -> None:
        raise pa.ArrowNotImplementedError("no kernel for this type")

    monkeypatch.setattr(reader, "_entries", fails)
    with pytest.raises(NdecError, match=r"ndec cannot read the column 'image' of .*type binary .*The file may"):
        Ingested(tmp_path, tmp_path / "a.parquet")
