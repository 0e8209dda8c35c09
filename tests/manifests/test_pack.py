"""Datasets that carry their images: bytes, tar headers, shard sizes, and that they can be moved alone."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ndec_builder.core.decode import decode, read_header
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import read_uri, sha256_bytes, sha256_file, write_table
from ndec_builder.manifests.csv_tables import IMAGE_TABLES
from ndec_builder.manifests.export import run
from ndec_builder.manifests.image_paths import escapes_root, file_key, image_place
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.manifests.writing.pack import _Tar, encoded
from support.decided_world import World
from support.pictures import scene


def export(world: World, **options: object) -> Path:
    return run(ExportConfig(world.workspace.root, **options))  # type: ignore[arg-type]


def all_images(directory: Path) -> dict[tuple[str, str], tuple[str, bytes]]:
    """(table, id) → (sha256 of the table, bytes that its uri gives)."""
    manifest = open_manifest(directory)
    return {
        (name, row[key]): (row["sha256"], read_uri(manifest.resolve(row["uri"])))
        for name, key in IMAGE_TABLES.items()
        for row in manifest.table(name).to_pylist()
    }


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tar", "folder"])
def test_packed_images_have_their_bytes_and_move_alone(world: World, tmp_path: Path, form: str) -> None:
    linked = all_images(export(world, name="linked"))
    packed = export(world, name="packed", materialize=form)
    moved = tmp_path / "alone"
    shutil.move(packed, moved)
    shutil.rmtree(world.workspace.root)
    assert all_images(moved) == linked
    assert {finding.code for finding in validate(moved)} == {"M401", "M403"}
    info = json.loads((moved / "manifest.json").read_text())
    assert info["images"]["form"] == form and info["images"]["encoded_anew"] == 0 and info["images_root"] == "."


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tar", "folder"])
def test_the_same_bytes_twice_over_leftovers(world: World, form: str) -> None:
    def digest(directory: Path) -> dict[str, bytes]:
        files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "run.json")
        return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}

    directory = export(world, materialize=form)
    first = digest(directory)
    shutil.rmtree(directory)
    left = directory.with_name(f".{directory.name}.building") / "images" / "references-00099.tar"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left over")
    assert digest(export(world, materialize=form)) == first


def test_shards_are_webdataset_without_times_and_owners(world: World) -> None:
    directory = export(world, materialize="tar")
    for path in (directory / "images").glob("*.tar"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        keys = [member.name.split(".")[0] for member in members]
        assert keys[::2] == keys[1::2] and [member.name.split(".", 1)[1] for member in members[1::2]] == ["json"] * (
            len(members) // 2
        )
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    with tarfile.open(directory / "images" / "references-00000.tar") as tar:
        sidecar = json.loads(tar.extractfile("r1.json").read())  # type: ignore[union-attr]
        picture = tar.extractfile("r1.png").read()  # type: ignore[union-attr]
    assert sidecar["image_id"] == "r1" and sidecar["license"] == "CC-BY-4.0"
    assert sidecar["sha256"] == sha256_bytes(picture)
    files = json.loads((directory / "manifest.json").read_text())["files"]
    assert files["images/references-00000.tar"]["sha256"] == sha256_file(directory / "images" / "references-00000.tar")


@settings(max_examples=25, deadline=None)
@example(sizes=[1, 1, 1, 1537], limit=19_968)  # members + two blocks just above a record
@given(sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=20), limit=st.integers(15_000, 60_000))
def test_shards_keep_their_size_and_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    parts = [bytes([place % 251]) * size for place, size in enumerate(sizes)]
    with _Tar(folder, "queries", limit) as writer:
        uris = [writer.add(f"k{place}", ".jpg", part, b"{}") for place, part in enumerate(parts)]
    found = []
    for path in writer.paths:
        with tarfile.open(path) as tar:
            names = [name for name in tar.getnames() if name.endswith(".jpg")]
            found += [tar.extractfile(name).read() for name in names]  # type: ignore[union-attr]
        assert path.stat().st_size <= limit or len(names) == 1
    assert found == parts
    assert [read_uri(str(folder / uri)) for uri, part in zip(uris, parts, strict=True) if part] == [
        p for p in parts if p
    ]


def test_an_error_takes_the_unfinished_shard_with_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), _Tar(tmp_path, "queries", 10**6) as writer:
        writer.add("k", ".jpg", b"x", b"{}")
        raise KeyboardInterrupt
    assert not list((tmp_path / "images").iterdir())


@pytest.mark.slow
def test_resize_and_format_are_done_and_recorded(world: World) -> None:
    linked = all_images(export(world, name="linked"))
    packed = export(world, name="packed", materialize="tar", resize=24, image_format="jpeg")
    images = all_images(packed)
    for key, (sha256, data) in images.items():
        header = read_header(data)
        assert sha256 == sha256_bytes(data) and header.format == "JPEG" and max(header.width, header.height) == 24
        own = decode(linked[key][1]).resize((24, 16))
        difference = sum(abs(a - b) for a, b in zip(own.tobytes(), decode(data).tobytes(), strict=True))
        assert difference / (24 * 16 * 3) < 24  # the same picture, if smaller
    info = json.loads((packed / "manifest.json").read_text())["images"]
    assert (info["resize"], info["image_format"], info["encoded_anew"]) == (24, "jpeg", len(images))
    assert f"{len(images)} images were re-encoded" in (packed / "README.md").read_text()
    assert {finding.code for finding in validate(packed)} == {"M401", "M403"}


def test_small_images_keep_their_bytes_when_others_are_resized() -> None:
    config = ExportConfig(Path(), materialize="tar", resize=40)
    small, large = io.BytesIO(), io.BytesIO()
    scene(1, (40, 30)).save(small, "PNG")
    scene(1, (30, 60)).save(large, "GIF")
    assert encoded(small.getvalue(), 0, config) == (small.getvalue(), ".png")
    data, ending = encoded(large.getvalue(), 0, config)
    assert Image.open(io.BytesIO(data)).size == (20, 40) and ending == ".png"


@pytest.mark.slow
def test_a_turned_image_is_packed_upright(world: World) -> None:
    rows = world.workspace.read_images("reference").to_pylist()
    rows[0]["rotation"] = 90
    before = read_uri(world.workspace.resolve(rows[0]["uri"]))
    write_table(world.workspace.images("reference"), table_of(IMAGES, rows))
    data = all_images(export(world, materialize="folder"))["references", "r1"][1]
    assert decode(data).tobytes() == decode(before, 90).tobytes()


def test_images_that_are_gone_or_changed_stop_the_export(world: World) -> None:
    (world.workspace.files("reference") / "r2.png").unlink()
    (world.workspace.files("reference") / "r3.png").write_bytes(b"other")
    with pytest.raises(NdecError, match=r"2 images cannot be packed: r2 \(.*No such file.*r3 \(its bytes have changed"):
        export(world, materialize="tar")
    assert not (world.workspace.manifest("benchmark-1.0.0") / "manifest.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"materialize": "zip"}, "materialize is 'zip'; it must be none, folder or tar"),
        (
            {"materialize": "tar", "image_format": "jpg"},
            "image_format is 'jpg'; it must be keep, jpeg, png or webp; did you mean 'jpeg'",
        ),
        ({"resize": 10}, "add --materialize"),
        ({"materialize": "tar", "attribution_only": True}, "give one of the two"),
        ({"materialize": "tar", "quality": 0}, "quality is 0; it must be at least 1 and at most 100"),
        ({"materialize": "tar", "shard_megabytes": 0}, "shard_megabytes is 0; it must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together(world: World, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export(world, **options)


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_file_keys_are_plain_and_differ(first: str, second: str) -> None:
    for name in (first, second):
        key = file_key(name)
        assert key.isascii() and not set(key) & set("./\\: ") and len(key) <= 80 and not escapes_root(key)
    assert (file_key(first) == file_key(second)) == (first == second)


def test_places_and_climbing_names() -> None:
    assert image_place("queries", "a/../b.c", "ff00") == "images/queries/ff/a%2F%2E%2E%2Fb%2Ec"
    assert [escapes_root(name) for name in ("a/b", "../a", "/a", "a/../../b", "C:\\a", "a\\..\\..\\b")] == [False] + [
        True
    ] * 5


def as_bytes(name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    scene(7, (48, 32)).save(buffer, name, **options)
    return buffer.getvalue()


KINDS = {
    "MPO": (as_bytes("MPO", save_all=True, append_images=[scene(8, (48, 32))]), ".jpg", "JPEG"),
    "JPEG": (as_bytes("JPEG"), ".jpg", "JPEG"),
    "WEBP": (as_bytes("WEBP"), ".webp", "WEBP"),
    "GIF": (as_bytes("GIF", save_all=True, append_images=[scene(8, (48, 32))]), ".gif", "PNG"),
    "TIFF": (as_bytes("TIFF"), ".tif", "PNG"),
    "BMP": (as_bytes("BMP"), ".bmp", "PNG"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_each_format_that_pillow_opens_is_packed(world: World, tmp_path: Path, kind: str, form: str) -> None:
    data, ending, resized = KINDS[kind]
    path = world.workspace.files("reference") / "r1.png"
    path.write_bytes(data)
    rows = world.workspace.read_images("reference").to_pylist()
    changed = [row | ({"sha256": sha256_bytes(data)} if row["image_id"] == "r1" else {}) for row in rows]
    write_table(world.workspace.images("reference"), table_of(IMAGES, changed))
    directory = export(world, materialize=form)
    key = ("references", "r1")
    assert all_images(directory)[key] == (sha256_bytes(data), data)
    if form == "folder":
        assert open_manifest(directory).table("references")["uri"][0].as_py().endswith(ending)
    small = all_images(export(world, name="small", materialize=form, resize=24))[key][1]
    assert Image.open(io.BytesIO(small)).format == resized
    assert not [finding for finding in validate(directory) if finding.is_error]
