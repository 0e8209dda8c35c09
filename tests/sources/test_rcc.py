"""Qt resource files, written here from the format's description and read back."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.core.errors import NdecError
from ndec_builder.demo.corpus.qt_resources import read_rcc

FOLDER = {"gcompris": {"a.webp": b"raw bytes", "deep": {"ü.png": b"z" * 500}}, "b.jpg": b""}


def build(tree: dict, version: int = 3, compress: int = 100) -> bytes:
    """Lay out a resource file breadth first; entries longer than `compress` bytes become zlib streams."""
    names, data, nodes = b"", b"", []
    queue: list[tuple[str, object]] = [("", tree)]
    placed = 1
    for name, value in queue:
        name_at = len(names)
        encoded = name.encode("utf-16-be")
        names += struct.pack(">HI", len(encoded) // 2, 0) + encoded
        if isinstance(value, dict):
            nodes.append((name_at, 2, len(value), placed))
            placed += len(value)
            queue += list(value.items())
        else:
            assert isinstance(value, bytes)
            packed = struct.pack(">I", len(value)) + zlib.compress(value) if len(value) > compress else value
            nodes.append((name_at, int(len(value) > compress), 0, len(data)))
            data += struct.pack(">I", len(packed)) + packed
    stamp = b"" if version == 1 else bytes(8)
    head = 24 if version == 3 else 20
    body = b"".join(struct.pack(">IHII", *node) + stamp for node in nodes)
    offsets = struct.pack(">IIII", version, head + len(data) + len(names), head, head + len(data))
    return b"qres" + offsets + bytes(head - 20) + data + names + body


def read(tmp_path: Path, blob: bytes) -> dict[str, bytes]:
    path = tmp_path / "x.rcc"
    path.write_bytes(blob)
    return {entry.path: entry.data for entry in read_rcc(path)}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_round_trip(tmp_path: Path, version: int) -> None:
    expected = {"gcompris/a.webp": b"raw bytes", "gcompris/deep/ü.png": b"z" * 500, "b.jpg": b""}
    assert read(tmp_path, build(FOLDER, version)) == expected


def test_zstd_entries_are_left_out(tmp_path: Path) -> None:
    blob = bytearray(build({"a.png": b"1", "b.png": b"2"}))
    tree = struct.unpack_from(">I", blob, 8)[0]
    struct.pack_into(">H", blob, tree + 22 + 4, 4)
    assert read(tmp_path, bytes(blob)) == {"b.png": b"2"}


def damaged(kind: str) -> bytes:
    blob = bytearray(build(FOLDER))
    tree, data, _ = struct.unpack_from(">III", blob, 8)
    if kind == "magic":
        blob[:4] = b"rcc!"
    elif kind == "version":
        struct.pack_into(">I", blob, 4, 9)
    elif kind == "cut":
        del blob[tree + 30 :]
    elif kind == "loop":
        struct.pack_into(">I", blob, tree + 10, 0)
    elif kind == "children":
        struct.pack_into(">I", blob, tree + 6, 2**31)
    elif kind == "data beyond":
        struct.pack_into(">I", blob, data, 2**31)
    elif kind == "name beyond":
        struct.pack_into(">I", blob, tree + 22, 2**31)
    return bytes(blob)


@pytest.mark.parametrize("kind", ["magic", "version", "cut", "loop", "children", "data beyond", "name beyond"])
def test_damage_is_an_error_with_the_file_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(NdecError, match=r"x\.rcc is not a valid Qt resource file"):
        read(tmp_path, damaged(kind))


@pytest.mark.parametrize("announced", [2**31, 499])
def test_a_bomb_and_a_wrong_size_are_refused(tmp_path: Path, announced: int) -> None:
    blob = build({"a.png": b"z" * 500})
    assert blob.count(struct.pack(">I", 500)) == 1
    with pytest.raises(NdecError, match="not a valid"):
        read(tmp_path, blob.replace(struct.pack(">I", 500), struct.pack(">I", announced)))


@pytest.mark.parametrize("name", ["..", "a/b", "."])
def test_names_cannot_leave_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(NdecError, match="entry name"):
        read(tmp_path, build({name: b"x"}))


@pytest.mark.slow
@given(st.integers(0, 400), st.integers(0, 255))
def test_any_changed_byte_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, at: int, value: int) -> None:
    blob = bytearray(build(FOLDER))
    blob[at % len(blob)] = value
    with contextlib.suppress(NdecError):
        read(tmp_path_factory.mktemp("rcc"), bytes(blob))
