"""`ndec mine --pool --references` ingests folders: with the settings of ndec.toml, and groups as asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.candidates.mine import _ingest
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.core.errors import UsageError
from ndec_builder.core.workspace import Workspace
from support.pictures import scene


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Frames of one video in two folders, with names that are in both."""
    for number, name in enumerate(("pool/clip/f_1", "pool/clip/f_2", "refs/clip/f_1", "refs/clip/f_3")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        scene(number, (48, 36)).save(tmp_path / f"{name}.png")
    (tmp_path / "ws").mkdir()
    return {"pool": tmp_path / "pool", "references": tmp_path / "refs", "workspace": tmp_path / "ws"}


def groups(root: Path, role: str) -> set[str]:
    return set(Workspace(root).read_images(role)["group"].to_pylist())


def test_each_image_is_its_own_group(folders: dict[str, Path]) -> None:
    _ingest(MineConfig(**folders))
    found = [groups(folders["workspace"], role) for role in ("pool", "reference")]
    assert [len(each) for each in found] == [2, 2] and not found[0] & found[1]


def test_groups_within_each_folder(folders: dict[str, Path]) -> None:
    _ingest(MineConfig(**folders, group_by="video"))
    found = [groups(folders["workspace"], role) for role in ("pool", "reference")]
    assert [len(each) for each in found] == [1, 1] and not found[0] & found[1]


def test_groups_over_both_folders(folders: dict[str, Path]) -> None:
    _ingest(MineConfig(**folders, group_by="video", shared_groups=True))
    found = [groups(folders["workspace"], role) for role in ("pool", "reference")]
    assert found[0] == found[1] and len(found[0]) == 1


def test_the_settings_file_holds_for_these_folders(folders: dict[str, Path]) -> None:
    (folders["workspace"] / "ndec.toml").write_text('[ingest]\ngroup_by = "folder"\nid = "path"\n')
    _ingest(MineConfig(**folders))
    assert Workspace(folders["workspace"]).read_images("pool")["image_id"].to_pylist() == ["clip/f_1", "clip/f_2"]
    assert len(groups(folders["workspace"], "pool")) == 1
    _ingest(MineConfig(**folders, group_by="none"))
    assert len(groups(folders["workspace"], "pool")) == 2


def test_group_options_need_folders(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="--group-by and --shared-groups belong to --pool and --references"):
        _ingest(MineConfig(folders["workspace"], group_by="burst"))
    with pytest.raises(UsageError, match="give both --pool and --references"):
        _ingest(MineConfig(folders["workspace"], pool=folders["pool"], shared_groups=True))
