"""`ndec edit` that is killed, and images that are ingested again while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits import make
from ndec_builder.edits.make import run
from ndec_builder.edits.settings import EditConfig
from support.edit_bench import ingest
from support.pictures import scene, write_scenes


def kill_in_the_second_shard(config: EditConfig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run until copy 4, with three copies per shard; returns the numbers of the copies that are made from then on."""
    made, true = [], make._make
    monkeypatch.setattr(make, "COPIES_PER_SHARD", 3)

    def counting(config, workspace, backgrounds, index, source):  # type: ignore[no-untyped-def]
        if index == 4 and not made:
            raise KeyboardInterrupt
        return true(config, workspace, backgrounds, index, source)

    monkeypatch.setattr(make, "_make", counting)
    with pytest.raises(KeyboardInterrupt):
        run(config)

    def noting(config, workspace, backgrounds, index, source):  # type: ignore[no-untyped-def]
        made.append(index)
        return true(config, workspace, backgrounds, index, source)

    monkeypatch.setattr(make, "_make", noting)
    return made


@pytest.mark.slow
def test_a_killed_run_makes_only_the_copies_of_unfinished_shards(
    config: EditConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    ingest(whole, "reference", write_scenes(tmp_path / "in", 6))
    run(replace(config, workspace=whole))
    made = kill_in_the_second_shard(config, monkeypatch)
    run(config)
    assert sorted(made) == [3, 4, 5, 6, 7]
    files = [path.relative_to(whole) for path in (whole / "files" / "query").glob("*.jpg")]
    assert len(files) == 8
    assert [(whole / name).read_bytes() for name in files] == [(tmp_path / name).read_bytes() for name in files]
    assert not (tmp_path / "cache" / "edit-copy").exists()


def test_copies_of_a_finished_shard_that_somebody_removed_are_made_again(
    config: EditConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kill_in_the_second_shard(config, monkeypatch)
    next(config.workspace.rglob("copy-000001.jpg")).unlink()
    run(config)
    assert sorted(made) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert (config.workspace / "files" / "query" / "copy-000001.jpg").is_file()


def test_a_killed_run_leaves_the_files_of_earlier_copies(config: EditConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run(config)
    kill_in_the_second_shard(replace(config, seed=4), monkeypatch)
    workspace = Workspace(config.workspace)
    for row in workspace.read_images("query").to_pylist():
        assert sha256_file(Path(workspace.resolve(row["uri"]))) == row["sha256"]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Does something after the copies are made, before the tables are written; once."""
    real = make._make_in_shards

    def set_work(work: Callable[[], object]) -> None:
        def made(*values: Any) -> Any:
            found = real(*values)
            monkeypatch.setattr(make, "_make_in_shards", real)
            work()
            return found

        monkeypatch.setattr(make, "_make_in_shards", made)

    return set_work


@pytest.mark.slow
@pytest.mark.parametrize("seed", [50, 0], ids=["removed", "replaced"])
def test_copies_of_sources_that_are_ingested_again_meanwhile_are_not_written(
    config: EditConfig, meanwhile: Callable[[Callable[[], object]], None], seed: int
) -> None:
    root = config.workspace
    others = write_scenes(root / "other", 6, seed)
    scene(99).save(others[0])
    meanwhile(lambda: ingest(root, "reference", others))
    with pytest.raises(NdecError, match="'scene-0000' first, changed while the copies were made"):
        run(config)
    assert not Workspace(root).images("query").exists() and not Workspace(root).edits.exists()
    assert len(read_table(run(config))) == 8


def test_edit_records_that_an_ingest_removes_meanwhile_stay_removed(
    config: EditConfig, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    run(config)
    path = Workspace(config.workspace).edits
    before = read_table(path)
    meanwhile(lambda: write_table(path, before.slice(1)))
    run(replace(config, prefix="more"))
    left = read_table(path)["image_id"].to_pylist()
    assert len(left) == 7 + 8 and before["image_id"][0].as_py() not in left
