"""Images inside larger files: the uri says where, one seek reads them."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core import addresses
from ndec_builder.core.addresses import Cell, Slice, container, inflate, parse_address
from ndec_builder.core.parquet_cells import CellReader
from ndec_builder.core.storage import read_uri
from ndec_builder.core.workspace import Workspace

paths = st.text(st.characters(blacklist_characters="\x00", blacklist_categories=("Cs",)), min_size=1, max_size=20)


@given(paths, st.integers(0, 1 << 40), st.integers(1, 1 << 30), st.booleans())
def test_slices_survive_the_way_through_a_uri(path: str, start: int, length: int, deflate: bool) -> None:
    address = Slice(path, start, start + length, deflate)
    assert parse_address(address.uri) == address
    assert container(address.uri) == path


@given(paths, st.integers(0, 9999), st.integers(0, 9999), paths.filter(lambda text: "#" not in text))
def test_cells_survive_the_way_through_a_uri(path: str, row_group: int, row: int, column: str) -> None:
    address = Cell(path, row_group, row, column)
    assert parse_address(address.uri) == address


@pytest.mark.parametrize("uri", ["a.jpg", "we#1.jpg", "a#bytes=3.jpg", "s3://b/x#cell=1/2", "a#bytes=4-"])
def test_other_uris_mean_whole_files(uri: str) -> None:
    assert parse_address(uri) is None
    assert container(uri) == uri


def test_a_tar_member_is_read_by_its_place_locally_and_remotely(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (("x.jpg", b"first"), ("y.jpg", b"second, longer")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with tarfile.open(tmp_path / "a.tar") as tar:
        place = tar.getmember("y.jpg")
    uri = Slice("a.tar", place.offset_data, place.offset_data + place.size).uri
    assert read_uri(Workspace(tmp_path).resolve(uri)) == b"second, longer"
    assert read_uri(f"file://{tmp_path}/{uri}") == b"second, longer"
    with pytest.raises(OSError, match="ends at or before byte"):
        read_uri(Slice(f"{tmp_path}/a.tar", 10_000, 20_000).uri)
    with pytest.raises(OSError, match="ends at or before byte"):
        read_uri(Slice(f"file://{tmp_path}/a.tar", 10_000, 20_000).uri)
    for name in ("a\0.tar", "a\0.tar#bytes=0-4", "file://a\0.tar"):
        with pytest.raises(OSError, match="cannot be a file name"):
            read_uri(name)


def test_a_compressed_zip_member_is_unpacked_and_a_bomb_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"abc" * 10_000
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(data) + packer.flush()
    assert inflate(packed) == data
    with pytest.raises(OSError, match="cut"):
        inflate(packed[:-5])
    with pytest.raises(OSError, match="damaged"):
        inflate(b"\xff" * 50)
    monkeypatch.setattr(addresses, "MAX_INFLATED", 100)
    with pytest.raises(OSError, match="more than"):
        inflate(packed)


def test_the_member_of_a_zip_file_on_disk(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("q.jpg", b"0123456789" * 100)
        info = archive.getinfo("q.jpg")
    start = info.header_offset + 30 + len("q.jpg")  # the local header of a file without extra fields
    uri = Slice(str(tmp_path / "a.zip"), start, start + info.compress_size, deflate=True).uri
    assert read_uri(uri) == b"0123456789" * 100


def test_parquet_cells_flat_and_in_a_struct(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    values = [f"v{i}".encode() for i in range(10)]
    table = pa.table({"image": [{"bytes": v, "path": "p"} for v in values], "jpg": values, "n": list(range(10))})
    pq.write_table(table, path, row_group_size=4)
    for i, value in enumerate(values):
        for column in ("image.bytes", "jpg"):
            assert read_uri(Cell(str(path), i // 4, i % 4, column).uri) == value
            assert read_uri(Cell(f"file://{path}", i // 4, i % 4, column).uri) == value
    for cell, message in (
        (Cell(str(path), 9, 0, "jpg"), "3 row groups"),
        (Cell(str(path), 2, 2, "jpg"), "2 rows"),
        (Cell(str(path), 0, 0, "png"), "no column 'png'"),
        (Cell(str(path), 0, 0, "n"), "not a binary value"),
        (Cell(str(tmp_path / "none"), 0, 0, "jpg"), "none"),
    ):
        with pytest.raises(OSError, match=message):
            read_uri(cell.uri)


def test_row_groups_are_read_once_while_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "p.parquet")
    pq.write_table(pa.table({"jpg": [bytes(1000)] * 40}), path, row_group_size=10)
    reads: list[int] = []
    real = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, index: int, columns: list[str]) -> pa.Table:
        reads.append(index)
        return real(self, index, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    large, small = CellReader(1 << 20), CellReader(25_000)
    for _ in range(2):
        for row in range(40):
            large.read(Cell(path, row // 10, row % 10, "jpg"))
    assert reads == [0, 1, 2, 3]
    for row in (0, 10, 1, 11, 20, 12, 2):  # two groups fit: 0 and 1 stay, 20 pushes out 0, 2 brings it back
        small.read(Cell(path, row // 10, row % 10, "jpg"))
    assert reads[4:] == [0, 1, 2, 0]


@pytest.mark.parametrize("form", ["replaced", "rewritten"])
def test_a_local_file_that_changes_while_the_process_runs_is_read_again(tmp_path: Path, form: str) -> None:
    path, sizes = tmp_path / "a.parquet", set()
    for value in (b"one", b"two"):
        other = tmp_path / "new.parquet"
        pq.write_table(pa.table({"jpg": pa.array([value], pa.binary())}), other, compression="none")
        if form == "replaced":  # as a copy that keeps time and size
            os.utime(other, ns=(10**9, 10**9))
            other.replace(path)
        else:
            path.write_bytes(other.read_bytes())
            os.utime(path, ns=(len(sizes), len(sizes)))
        sizes.add(path.stat().st_size)
        assert read_uri(Cell(str(path), 0, 0, "jpg").uri) == value
    assert len(sizes) == 1
