"""A version is written once: what exists is kept, whatever a second export does or whenever it dies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_json
from ndec_builder.manifests import export as export_module
from ndec_builder.manifests.diff import next_version
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from support.decided_world import World

pytestmark = pytest.mark.slow


def content(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(directory).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_other_content_under_an_existing_version_is_refused(world: World) -> None:
    directory = run(ExportConfig(world.workspace.root))
    before = content(directory)
    with pytest.raises(
        NdecError, match=r"queries: 2 added, 0 removed.*is major: .*--version 2\.0\.0 .*or with another"
    ):
        run(ExportConfig(world.workspace.root, distractors=2))
    assert content(directory) == before
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


@pytest.mark.parametrize(
    ("change", "version"),
    [
        (lambda world: world.images("basic", {"b1": (90, "bb"), "b2": (91, None), "b3": (97, None)}), "1.1.0"),
        (lambda world: write_json(world.workspace.annotation("test") / "agreement.json", {"kappa": 0.5}), "1.0.1"),
    ],
    ids=["another training image", "another figure of the lineage"],
)
def test_the_refusal_recommends_what_diff_recommends(world: World, change: object, version: str) -> None:
    run(ExportConfig(world.workspace.root))
    change(world)  # type: ignore[operator]
    with pytest.raises(NdecError, match=re.escape(f"--version {version} ")):
        run(ExportConfig(world.workspace.root))
    assert run(ExportConfig(world.workspace.root, version=version)).name.endswith(version)


@pytest.mark.parametrize("form", ["none", "folder", "tar"])
def test_the_same_content_again_changes_nothing_and_says_so(
    world: World, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ExportConfig(world.workspace.root, materialize=form)
    before = content(run(config))
    capsys.readouterr()
    assert content(run(config)) == before
    assert "already has exactly this content; nothing was written" in said(capsys)


def test_a_damaged_file_is_written_again(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    config = ExportConfig(world.workspace.root, materialize="folder")
    directory = run(config)
    image = next((directory / "images").rglob("*.png"))
    whole = image.read_bytes()
    image.write_bytes(b"damaged")
    (directory / "README.md").unlink()
    run(config)
    assert image.read_bytes() == whole and "2 damaged or missing files were written again" in said(capsys)
    assert not [finding for finding in validate(directory) if finding.is_error]


def test_a_dataset_is_whole_or_absent_when_the_export_dies(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written = export_module.write_dataset

    def dies(*args: object, **kwargs: object) -> None:
        written(*args, **kwargs)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    directory = world.workspace.manifest("benchmark-1.0.0")
    with monkeypatch.context() as patch:
        patch.setattr(export_module, "write_dataset", dies)
        with pytest.raises(KeyboardInterrupt):
            run(ExportConfig(world.workspace.root))
        assert not directory.exists()
    before = content(run(ExportConfig(world.workspace.root)))
    with monkeypatch.context() as patch:
        patch.setattr(export_module, "write_dataset", dies)
        with pytest.raises(KeyboardInterrupt):
            run(ExportConfig(world.workspace.root, distractors=3))
    assert content(directory) == before


def test_what_a_killed_export_left_is_removed(world: World) -> None:
    left = world.workspace.root / "manifests" / ".benchmark-1.0.0.building" / "data"
    left.mkdir(parents=True)
    (left / "half.parquet").write_bytes(b"PAR1")
    directory = run(ExportConfig(world.workspace.root))
    assert [path.name for path in directory.parent.iterdir()] == ["benchmark-1.0.0"]
    assert not [finding for finding in validate(directory) if finding.is_error]


def test_a_folder_of_somebody_else_is_not_replaced(world: World) -> None:
    mine = world.workspace.manifest("benchmark-1.0.0")
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("keep me")
    with pytest.raises(NdecError, match=r"no manifest\.json.*notes\.txt.*move the folder away"):
        run(ExportConfig(world.workspace.root))
    assert (mine / "notes.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("version", "needed", "following"),
    [
        ("1.2.3", "major", "2.0.0"), ("1.2.3", "minor", "1.3.0"), ("1.2.3", "patch", "1.2.4"),
        ("0.2.1", "major", "0.3.0"), ("0.2.1", "minor", "0.3.0"), ("1.0.0-rc1", "major", "1.0.0"),
    ],
)  # fmt: skip
def test_next_versions(version: str, needed: str, following: str) -> None:
    assert next_version(version, needed) == following


@pytest.mark.parametrize(
    ("version", "expected"), [("1.0.1", "2.0.0"), ("1.4.0", "2.0.0"), ("2.0.0", None), ("2.0.0-rc1", None)]
)
def test_a_version_that_is_too_low_is_exported_and_said(
    world: World, version: str, expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two more queries: numbers on the test set differ, which is major."""
    first = run(ExportConfig(world.workspace.root))
    run(ExportConfig(world.workspace.root, name="benchmark-2", distractors=1))  # another dataset
    assert "too low" not in said(capsys)
    directory = run(ExportConfig(world.workspace.root, version=version, distractors=2))
    text = said(capsys)
    assert directory.is_dir() and ("too low" in text) == (expected is not None)
    if expected:
        assert f"note: version {version} is too low for what changed since 1.0.0: queries: 2 added" in text
        assert f"The change is major: before anybody uses {directory}, delete it and export again" in text
        assert f"--version {expected} (`ndec diff {first} {directory}`" in text


def test_the_highest_earlier_version_decides(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """1.0.1 may follow 2.0.0: it is a correction of 1.0.0."""
    root = world.workspace.root
    run(ExportConfig(root))
    run(ExportConfig(root, version="2.0.0", distractors=1))
    run(ExportConfig(root, version="1.0.1", authors="A. Author"))
    assert "too low" not in said(capsys)
    run(ExportConfig(root, version="2.0.1", distractors=2))
    assert "version 2.0.1 is too low for what changed since 2.0.0: queries: 1 added" in said(capsys)


def test_an_earlier_version_that_cannot_be_read_is_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(ExportConfig(world.workspace.root))
    next((first / "data/queries").iterdir()).unlink()
    run(ExportConfig(world.workspace.root, version="1.0.1"))
    text = said(capsys)
    assert "since benchmark-1.0.0 is unknown" in text and "lacks data/queries" in text
