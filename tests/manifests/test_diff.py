"""What `ndec diff` says of one change at a time, and which version it asks for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ndec_builder.manifests.diff import Changes, run, version_key
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.read import Manifest
from ndec_builder.manifests.settings import DiffConfig, ExportConfig
from support.damage import adder, every, info, remover, setter
from support.decided_world import World

pytestmark = pytest.mark.slow


@pytest.fixture
def before(world: World) -> Path:
    return export(ExportConfig(world.workspace.root))


def after(before: Path, *changes: object, version: str = "1.0.0") -> Changes:
    copy = before.parent / "after"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(before, copy)
    for change in (*changes, info(version=version)):
        change(copy)  # type: ignore[operator]
    return run(DiffConfig(before, copy))


def test_nothing_changed(before: Path) -> None:
    changes = after(before)
    assert changes.needed == "none" and changes.adequate and "nothing changed" in changes.as_text()
    assert not after(before, version="0.9.0").adequate


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        (remover("queries", "query_id", "p-hard"), "major"),
        (adder("references", image_id="r9"), "major"),
        (setter("ground_truth", "query_id", "mine", reference_id="r1"), "major"),
        (setter("queries", "query_id", "p-hard", hard_kind="reverse_crop"), "major"),
        (remover("train_pairs", "former_id", "b1"), "minor"),
        (setter("train_basic", "image_id", "b1", group="other"), "minor"),
        (setter("references", "image_id", "r1", license="CC0-1.0"), "patch"),
        (every("train_pairs", lambda row: {"score": 0.25}), "patch"),
        (info(description="better words"), "patch"),
    ],
)
def test_the_version_that_a_change_asks_for(before: Path, change: object, needed: str) -> None:
    assert after(before, change).needed == needed
    order = ["patch", "minor", "major"]
    for raised, version in zip(order, ("1.0.1", "1.1.0", "2.0.0"), strict=True):
        assert after(before, change, version=version).adequate == (order.index(raised) >= order.index(needed)), version
    assert not after(before, change, version="1.0.0").adequate
    assert not after(before, change, version="one").adequate


@pytest.mark.parametrize(
    ("old", "new", "adequate"),
    [("0.1.0", "0.2.0", True), ("0.1.0", "0.1.1", False), ("2.0.0-rc1", "2.0.0", True), ("1.0.0-a", "1.0.0-b", True)],
)
def test_early_versions_promise_less(before: Path, old: str, new: str, adequate: bool) -> None:
    info(version=old)(before)
    assert after(before, remover("queries", "query_id", "p-hard"), version=new).adequate == adequate


def test_pre_releases_are_in_the_order_of_their_numbers() -> None:
    order = [
        "1.0.0-1",
        "1.0.0-2.rc1",
        "1.0.0-a",
        "1.0.0-rc",
        "1.0.0-rc2",
        "1.0.0-rc2.1",
        "1.0.0-rc10",
        "1.0.0",
        "1.0.1-a",
    ]
    versions = [version_key(text) for text in order]
    assert versions == sorted(versions)  # type: ignore[type-var]
    assert len(set(versions)) == len(order)


@pytest.mark.parametrize(
    ("old", "new", "adequate"),
    [("1.0.0-rc2", "1.0.0-rc10", True), ("1.0.0-rc10", "1.0.0-rc2", False), ("1.0.0", "1.0.0-rc1", False)],
)
def test_a_pre_release_is_only_raised_upwards(old: str, new: str, adequate: bool) -> None:
    before, after_ = (Manifest(Path(), {"version": version}) for version in (old, new))
    assert Changes(before, after_, [], {"description": ("a", "b")}).adequate == adequate


def test_rows_columns_and_counts_are_named(before: Path, world: World) -> None:
    changes = after(
        before,
        remover("references", "image_id", "r1"),
        setter("references", "image_id", "r2", author=None, title="new"),
        adder("references", image_id="r9"),
        info(labels_by="nobody"),
    )
    references = next(change for change in changes.tables if change.table == "references")
    assert (references.added, references.removed, references.changed) == (1, 1, 1)
    assert references.columns == {"author": 1, "title": 1}
    assert references.examples == {"added": ["r9"], "removed": ["r1"], "changed": ["r2"]}
    text = changes.as_text()
    assert "references: 1 added, 1 removed, 1 changed" in text and "labels_by: people → nobody" in text
    assert "these changes need major; it is NOT raised enough" in text
    assert json.loads(json.dumps(changes.as_dict()))["manifest"]["labels_by"] == {"before": "people", "after": "nobody"}


def test_lineage_and_settings_are_compared(world: World, before: Path) -> None:
    other = export(ExportConfig(world.workspace.root, version="1.1.0", distractors=2))
    changes = run(DiffConfig(before, other))
    assert changes.info["settings.distractors"] == (0, 2) and changes.info["counts.rows.queries"] == (8, 10)
    assert changes.needed == "major" and not changes.adequate
