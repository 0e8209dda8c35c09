"""A benchmark of plain folders: ids where names repeat, groups of queries, and what is not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import sha256_file
from ndec_builder.evaluation.dataset import Dataset, from_folders
from ndec_builder.evaluation.settings import BenchmarkConfig
from support.pictures import scene


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for number, name in enumerate(("q/a/1", "q/a/2", "q/b/1", "r/x")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        scene(number, (48, 36)).save(tmp_path / f"{name}.png")
    return tmp_path


def dataset(folders: Path, truth: str, **more: str) -> Dataset:
    (folders / "truth.csv").write_text(truth)
    return from_folders(folders / "q", folders / "r", folders / "truth.csv", **more)


def test_ids_are_paths_where_names_repeat(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = dataset(folders, "a/1.png,x\nb/1,\n")
    assert found.query_ids == ["a/1", "a/2", "b/1"] and found.reference_ids == ["x"]
    assert found.truth.tolist() == [0]
    assert found.queries["sha256"][2].as_py() == sha256_file(folders / "q" / "b" / "1.png")
    assert Path(found.resolve(found.queries["uri"][2].as_py())) == folders / "q" / "b" / "1.png"
    assert "1 of 3 names repeat" in " ".join(capsys.readouterr().err.split())


def test_each_query_is_its_own_group_by_default(folders: Path) -> None:
    assert dataset(folders, "a/1,x\n").query_group.tolist() == [0, 1, 2]


def test_queries_can_be_grouped(folders: Path) -> None:
    assert dataset(folders, "a/1,x\n", group_by="folder").query_group.tolist() == [0, 0, 1]


def test_what_is_not_read_is_counted(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "q" / "phone.psd").touch()
    dataset(folders, "a/1,x\n")
    assert "1 .psd are not read" in " ".join(capsys.readouterr().err.split())


def test_a_link_out_of_the_folder_is_refused(folders: Path) -> None:
    (folders / "q" / "link.png").symlink_to(folders / "r" / "x.png")
    with pytest.raises(UsageError, match=r"1 files of .*q cannot be used, .*link\.png first"):
        dataset(folders, "a/1,x\n")


def test_an_id_that_no_file_has(folders: Path) -> None:
    with pytest.raises(NdecError, match="names the query 'c/1'"):
        dataset(folders, "c/1,x\n")


def test_a_manifest_has_its_own_groups(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--group-by belongs to --queries"):
        BenchmarkConfig(workspace=tmp_path, manifest=tmp_path, model="m", group_by="folder").check()
