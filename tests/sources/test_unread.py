"""What is next to pictures: companions of systems, other endings, links. Nothing is skipped without a count."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ndec_builder.core.errors import GapsError, UsageError
from support.ingesting import Ingested, picture, write_tar
from support.pictures import write_scenes

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(40)


def test_companions_of_macos_and_synology(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 2)
    (tmp_path / "in" / "._scene-0000.png").write_bytes(APPLE_DOUBLE)
    (tmp_path / "in" / "._mine.jpg").write_bytes(picture(3))  # a person may name a picture like that
    thumbnails = tmp_path / "in" / "@eaDir" / "scene-0001.png"
    thumbnails.mkdir(parents=True)
    (thumbnails / "SYNOPHOTO_THUMB_XL.jpg").write_bytes(picture(1))
    found = Ingested(tmp_path, tmp_path / "in")
    assert found.ids == ["._mine", "scene-0000", "scene-0001"] and found.rejects == {}
    assert "1 in @eaDir, 1 named ._* are skipped" in found.notes


def test_companions_in_a_tar_and_a_zip(tmp_path: Path) -> None:
    files = {"R000001.jpg": picture(1), "._R000001.jpg": APPLE_DOUBLE, "__MACOSX/._R000001.jpg": APPLE_DOUBLE}
    found = Ingested(tmp_path, write_tar(tmp_path / "a.tar", files | {"a.psd": b"x", "b.cls": b"1"}))
    assert found.ids == ["R000001"] and "1 .cls, 1 .psd are not read" in found.notes
    assert "1 in __MACOSX, 1 named ._*" in found.notes
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("notes.docx", b"x")
    from ndec_builder.sources.ingest import run
    from ndec_builder.sources.settings import IngestConfig

    run(IngestConfig(tmp_path / "ws", "reference", tmp_path / "a.zip"))
    record = (tmp_path / "ws" / "images" / "reference.run.json").read_text()
    assert "1 .docx is not read" in record and "in __MACOSX" in record


def test_files_next_to_shards_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "0.tar", {"a.jpg": picture(1)})
    (tmp_path / "in" / "0_stats.json").write_text("{}")
    (tmp_path / "in" / "sub").mkdir()
    (tmp_path / "in" / "sub" / "late.tar.part").write_bytes(b"x")
    found = Ingested(tmp_path, tmp_path / "in")
    assert found.ids == ["a"] and "1 .json, 1 .part are not read" in found.notes


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".JFIF", ".apng", ".mpo"])
def test_further_endings_of_formats_that_are_read(tmp_path: Path, ending: str) -> None:
    (tmp_path / "in").mkdir()
    data = picture(1, "PNG") if ending == ".apng" else picture(1)
    (tmp_path / "in" / f"a{ending}").write_bytes(data)
    found = Ingested(tmp_path, tmp_path / "in")
    assert found.ids == ["a"] and found.rows["a"]["format"] == ("PNG" if ending == ".apng" else "JPEG")
    assert Ingested(tmp_path, write_tar(tmp_path / "a.tar", {f"a{ending}": data})).ids == ["a"]


@pytest.fixture
def annexed(tmp_path: Path) -> Path:
    """Links into a store next to the folder, as git-annex and the hub's cache keep files."""
    (tmp_path / "store").mkdir()
    (tmp_path / "in").mkdir()
    for number, path in enumerate(write_scenes(tmp_path / "raw", 3)):
        path.rename(tmp_path / "store" / f"blob{number}")
        (tmp_path / "in" / f"{number}.png").symlink_to(Path("..") / "store" / f"blob{number}")
    return tmp_path / "in"


def test_links_out_of_the_folder_say_why_they_are_not_read(tmp_path: Path, annexed: Path) -> None:
    with pytest.raises(UsageError, match=r"no image in .*: 3 × a symbolic link .*for safety; --follow-links"):
        Ingested(tmp_path, annexed)
    write_scenes(annexed, 1)
    with pytest.raises(GapsError, match=r"3 of 4 images .* 3 × a symbolic link that leads out"):
        Ingested(tmp_path, annexed)


def test_links_into_a_named_folder_are_followed(tmp_path: Path, annexed: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(9, "PNG"))
    (annexed / "evil.png").symlink_to(secret)
    (annexed / "broken.png").symlink_to(tmp_path / "store" / "none")
    found = Ingested(tmp_path, annexed, follow_links=tmp_path / "store", max_reject_share=1.0)
    assert found.ids == ["0", "1", "2"]
    assert "leads out of the folder" in found.rejects["evil"] and "broken link" in found.rejects["broken"]


def test_a_folder_of_git_annex_lists_each_picture_once(tmp_path: Path) -> None:
    """The links are in the folder, and so is the store that they point into."""
    store = tmp_path / "in" / ".git" / "annex" / "objects"
    store.mkdir(parents=True)
    (store / "SHA256E-1.jpg").write_bytes(picture(1))
    (tmp_path / "in" / "a.jpg").symlink_to(".git/annex/objects/SHA256E-1.jpg")
    found = Ingested(tmp_path, tmp_path / "in")
    assert found.ids == ["a"] and "1 in .git is skipped" in found.notes


def test_linked_folders_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    write_scenes(tmp_path / "store" / "a", 2)
    (tmp_path / "store" / "a" / "loop").symlink_to(tmp_path / "store")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "store" / "a")
    found = Ingested(tmp_path, tmp_path / "in", follow_links=tmp_path / "store", id="path", max_reject_share=1.0)
    assert {"linked/scene-0000", "linked/scene-0001"} <= set(found.ids) and len(found.ids) <= 4
    with pytest.raises(UsageError, match=r"1 × a symbolic link that leads out"):
        Ingested(tmp_path, tmp_path / "in")


def test_a_snapshot_of_the_hub_cache(tmp_path: Path) -> None:
    """huggingface_hub keeps files as links from snapshots/<commit>/ to blobs/<hash>."""
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "abc", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(write_scenes(tmp_path / "raw", 2)):
        path.rename(blobs / f"b{number}")
        (snapshot / f"{number}.png").symlink_to(Path("../../blobs") / f"b{number}")
    (blobs / "m").write_text("file_name,author\n0.png,A\n1.png,B\n")
    (snapshot / "metadata.csv").symlink_to("../../blobs/m")
    with pytest.raises(UsageError, match=r"no image in .*: 2 × a symbolic link that leads out .*--follow-links"):
        Ingested(tmp_path, snapshot)
    assert Ingested(tmp_path, snapshot, follow_links=tmp_path / "cache").column("author") == {"0": "A", "1": "B"}
