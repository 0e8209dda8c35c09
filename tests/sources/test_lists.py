"""Image lists, class folders, remote folders, and CopyDays."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest

from ndec_builder.core.errors import GapsError, UsageError
from ndec_builder.core.schemas import IMAGES
from ndec_builder.core.storage import read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources import inspect_images
from ndec_builder.sources.detect_kind import guess_kind
from ndec_builder.sources.grouping import own_group
from ndec_builder.sources.ingest import run
from ndec_builder.sources.listing import Lister
from ndec_builder.sources.settings import IngestConfig
from support.pictures import scene, write_scenes


def ingest(tmp_path: Path, source: str | Path, role: str = "pool", **more: Any) -> dict[str, dict[str, Any]]:
    run(IngestConfig(tmp_path / "ws", role, source, **more))
    name = role if role != "all" else "query"
    return {row["image_id"]: row for row in Workspace(tmp_path / "ws").read_images(name).to_pylist()}


def test_a_list_of_paths_and_uris(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", 2)
    write_scenes(tmp_path / "b", 1, first_seed=7)
    (tmp_path / "l.txt").write_bytes(
        b"\xef\xbb\xbfa/scene-0001.png\r\n\r\n" + f"{tmp_path}/b/scene-0007.png\r\n".encode()
    )
    rows = ingest(tmp_path, tmp_path / "l.txt")
    assert list(rows) == ["scene-0001", "scene-0007"]
    assert rows["scene-0007"]["sha256"] == sha256_file(tmp_path / "b" / "scene-0007.png")
    (tmp_path / "l.txt").write_text(f"a/scene-0001.png\nfile://{tmp_path}/b/scene-0007.png\n")
    assert ingest(tmp_path, tmp_path / "l.txt") == rows  # file:// is a path
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/lists/scene-0007.png", (tmp_path / "b" / "scene-0007.png").read_bytes())
    (tmp_path / "l.txt").write_text("a/scene-0001.png\nmemory://lists/scene-0007.png\n")
    mixed = ingest(tmp_path, tmp_path / "l.txt").values()  # what is on another machine is not downloaded
    assert [row["sha256"] for row in mixed] == [rows["scene-0001"]["sha256"], None]
    assert ingest(tmp_path, tmp_path / "l.txt", look="decode") == {
        **rows,
        "scene-0007": {
            **rows["scene-0007"], "uri": "memory://lists/scene-0007.png",
            "group": own_group("scene-0007", "memory://lists/scene-0007.png"),
        },
    }  # fmt: skip


def test_missing_files_of_a_list_are_all_named(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", 1)
    (tmp_path / "l.txt").write_text("a/scene-0000.png\na/x.png\nnone/y.png\na/z.png\n")
    with pytest.raises(GapsError, match=r"3 files of the list are missing: a/x.png, a/z.png, none/y.png"):
        ingest(tmp_path, tmp_path / "l.txt", max_reject_share=1.0)
    assert read_table(tmp_path / "ws" / "images" / "pool.parquet")["image_id"].to_pylist() == ["scene-0000"]
    assert read_table(tmp_path / "ws" / "images" / "pool-rejects.parquet")["reason"].to_pylist() == ["no such file"] * 3
    (tmp_path / "l.txt").write_text("a/x.png\na/y.png\n")
    with pytest.raises(UsageError, match=r"of 2 files .* none exists; .* a/x.png, a/y.png"):
        ingest(tmp_path, tmp_path / "l.txt")


@pytest.mark.parametrize(
    ("data", "message"), [(b"\n \n", "is empty"), (b"\xff\xfe\x00", "is not UTF-8"), (None, "is not a")]
)
def test_invalid_lists(tmp_path: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / "l.txt").write_bytes(data)
    with pytest.raises(UsageError, match=message):
        ingest(tmp_path, tmp_path / "l.txt")


def test_class_folders_become_groups(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_scenes(tmp_path / "in" / name, 2)  # one name in two classes
    rows = ingest(tmp_path, tmp_path / "in", kind="imagefolder")
    assert {i: row["group"].partition("#")[0] for i, row in rows.items()} == {
        "cat__scene-0000": "folder/cat", "cat__scene-0001": "folder/cat",
        "dog__scene-0000": "folder/dog", "dog__scene-0001": "folder/dog",
    }  # fmt: skip


def test_a_remote_folder_is_listed_but_not_opened(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in" / "deep", 2)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    rows = ingest(tmp_path, f"file://{tmp_path}/in")
    assert list(rows) == ["broken", "scene-0000", "scene-0001"]
    assert {row["sha256"] for row in rows.values()} == {row["width"] for row in rows.values()} == {None}
    assert list(ingest(tmp_path, f"file://{tmp_path}/in", look="header", max_reject_share=1.0)) == [
        "scene-0000",
        "scene-0001",
    ]
    with pytest.raises(UsageError, match="no image in file://"):
        ingest(tmp_path, f"file://{tmp_path}/none")
    with pytest.raises(UsageError, match=r"cannot be reached: .*nosuch"):
        ingest(tmp_path, "nosuch://bucket/folder")


def test_options_of_another_kind_and_an_empty_source(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 1)
    for option, kind in (("ids", "disc21"), ("metadata", "openimages"), ("images", "openimages")):
        with pytest.raises(UsageError, match=f"--{option} belongs to kind '{kind}'; .* is read as 'folder'"):
            ingest(tmp_path, tmp_path / "in", **{option: tmp_path / "x"})
    with pytest.raises(UsageError, match="the source is empty"):
        ingest(tmp_path, "")


@pytest.fixture
def copydays(tmp_path: Path) -> Path:
    root = tmp_path / "cd"
    names = (
        "original/200000",
        "original/200100",
        "crops/10/200000",
        "crops/10/200100",
        "jpeg/3/200001",
        "strong/200102",
    )
    for seed, name in enumerate(names):
        path = root / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(seed, (48, 36)).save(path)
    return root


def test_copydays_names_link_copies_to_originals(tmp_path: Path, copydays: Path) -> None:
    rows = ingest(tmp_path, copydays, "all")
    workspace = Workspace(tmp_path / "ws")
    assert workspace.read_images("reference")["image_id"].to_pylist() == ["200000", "200100"]
    truth = {row["query_id"]: row["reference_id"] for row in read_table(workspace.ground_truth).to_pylist()}
    assert truth == {
        "crops__10__200000": "200000", "crops__10__200100": "200100", "jpeg__3__200001": "200000",
        "strong__200102": "200100",
    }  # fmt: skip
    assert {i: row["group"] for i, row in rows.items()} == truth
    scene(9, (48, 36)).save(copydays / "strong" / "209901.jpg")
    scene(9, (48, 36)).save(copydays / "strong" / "cover.jpg")
    with pytest.raises(GapsError, match=r"1 copy has no original: strong/209901.jpg. 1 file name .*: strong/cover.jpg"):
        ingest(tmp_path, copydays, "all")


def test_folders_that_are_not_copydays(tmp_path: Path, copydays: Path) -> None:
    with pytest.raises(UsageError, match="none for the role 'pool'"):
        ingest(tmp_path, copydays)
    (copydays / "original").rename(copydays / "orig")
    with pytest.raises(UsageError, match=r"needs a folder original .* found: crops, jpeg, orig, strong"):
        ingest(tmp_path, copydays, "all", kind="copydays")


def test_the_kind_is_guessed_when_it_is_clear(tmp_path: Path, copydays: Path) -> None:
    write_scenes(tmp_path / "pics", 1)
    (tmp_path / "tars").mkdir()
    for name in ("tars/a.tar", "l.txt", "a.parquet"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "oi.csv").write_text("ImageID,Subset\n")
    (tmp_path / "other.csv").write_text("a,b\n")
    kinds = {"cd": "copydays", "pics": "folder", "tars": "tar", "l.txt": "list", "a.parquet": "parquet"}
    kinds["oi.csv"] = "openimages"
    assert {name: guess_kind(tmp_path / name) for name in kinds} == kinds
    assert guess_kind("s3://bucket/part-{00..99}.tar") == "tar"
    with pytest.raises(UsageError, match=r"other\.csv is a table.*metadata\.csv .* column file_name.*--kind list"):
        guess_kind(tmp_path / "other.csv")
    (tmp_path / "other.xyz").write_text("a,b\n")
    with pytest.raises(UsageError, match="give --kind"):
        guess_kind(tmp_path / "other.xyz")


SLOW = """
import sys, time; from pathlib import Path
from ndec_builder.sources import inspect_images
from ndec_builder.sources.grouping import own_group
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig
real, inspect_images.IMAGES_PER_SHARD = inspect_images.read_facts, 3
def slow(*given):
    time.sleep(0.05)
    return real(*given)
inspect_images.read_facts = slow
run(IngestConfig(Path(sys.argv[1]), "pool", sys.argv[2], workers=1))
"""


@pytest.mark.slow
def test_a_killed_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path / "in", 30)
    ingest(tmp_path, tmp_path / "in")
    target = tmp_path / "ws" / "images" / "pool.parquet"
    whole = target.read_bytes()
    target.unlink()
    child = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path / "ws"), str(tmp_path / "in")])
    folder = target.with_name(".ingest-pool")
    while len(list(folder.rglob("*.done.json"))) < 3:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = len(list(folder.rglob("*.done.json")))
    assert 3 <= done < 10 and not target.exists()
    opened: list[str] = []
    real = inspect_images.read_facts

    def counted(uri: str, *more: Any) -> Any:
        opened.append(uri)
        return real(uri, *more)

    monkeypatch.setattr(inspect_images, "IMAGES_PER_SHARD", 3)
    monkeypatch.setattr(inspect_images, "read_facts", counted)
    ingest(tmp_path, tmp_path / "in")
    assert len(opened) == 30 - 3 * done  # finished shards are not opened again
    assert target.read_bytes() == whole
    assert not folder.exists()


def test_changed_files_are_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_scenes(tmp_path / "in", 6)
    monkeypatch.setattr(inspect_images, "IMAGES_PER_SHARD", 2)
    real = inspect_images.read_facts

    def broken_off(uri: str, *more: Any) -> Any:
        if uri.endswith("scene-0004.png"):
            raise KeyboardInterrupt
        return real(uri, *more)

    monkeypatch.setattr(inspect_images, "read_facts", broken_off)
    with pytest.raises(KeyboardInterrupt):
        ingest(tmp_path, tmp_path / "in", workers=1)
    monkeypatch.setattr(inspect_images, "read_facts", real)
    scene(99).save(paths[0])
    assert ingest(tmp_path, tmp_path / "in")["scene-0000"]["sha256"] == sha256_file(paths[0])


def test_tables_written_in_pieces_equal_tables_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lister = Lister("pool")
    for number in range(700):
        lister.add(f"i{number:04d}", f"{number}.jpg", title=f"t{number % 7}", group=None)
    table = lister.finish().images
    monkeypatch.setattr(inspect_images, "GROUP_ROWS", 300)
    write_table(tmp_path / "once.parquet", table)
    inspect_images.write_images(tmp_path / "pieces.parquet", (table.slice(start, 90) for start in range(0, 700, 90)))
    assert read_table(tmp_path / "pieces.parquet").equals(table)
    monkeypatch.setattr(inspect_images, "GROUP_ROWS", 131_072)
    inspect_images.write_images(tmp_path / "large.parquet", (table.slice(start, 90) for start in range(0, 700, 90)))
    assert (tmp_path / "large.parquet").read_bytes() == (tmp_path / "once.parquet").read_bytes()
    assert inspect_images.write_images(tmp_path / "none.parquet", iter(())) == 0
    assert read_table(tmp_path / "none.parquet").schema.equals(IMAGES)
