from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ndec_builder.cli.assist.init import run as init
from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.workspace import Workspace, shipped, slug


def test_uris_inside_the_workspace_are_relative_and_resolve_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    inside, outside = tmp_path / "files" / "a.jpg", tmp_path.parent / "b.jpg"
    assert workspace.uri_of(inside) == "files/a.jpg"
    assert workspace.resolve("files/a.jpg") == str(inside)
    assert workspace.resolve(workspace.uri_of(outside)) == str(outside)
    assert workspace.resolve("s3://bucket/c.jpg") == "s3://bucket/c.jpg"


def test_unknown_roles_and_splits_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="role 'refs' is unknown"):
        Workspace(tmp_path).images("refs")
    with pytest.raises(UsageError, match="split 'val' is unknown"):
        Workspace(tmp_path).candidates("val")
    with pytest.raises(NdecError, match="ndec ingest pool"):
        Workspace(tmp_path).read_images("pool")


def test_rows_of_images_are_found_by_id_in_every_row_group(tmp_path: Path) -> None:
    workspace, names = Workspace(tmp_path), [f"i{n:02}" for n in range(30)]
    rows = [{"image_id": name, "role": "pool", "group": f"g-{name}", "rotation": 90} for name in names]
    workspace.images("pool").parent.mkdir()
    pq.write_table(table_of(IMAGES, rows), workspace.images("pool"), row_group_size=7)
    found = workspace.image_rows("pool", ["i29", "i00", "i08", "nobody", "i08"], ["group"])
    assert found == {name: {"image_id": name, "group": f"g-{name}"} for name in ("i00", "i08", "i29")}
    assert set(workspace.image_rows("pool", ["i13"])["i13"]) == set(IMAGES.names)
    assert workspace.image_rows("pool", []) == {}
    with pytest.raises(NdecError, match="ndec ingest reference"):
        workspace.image_rows("reference", ["i00"])


def test_model_names_become_folder_names() -> None:
    assert slug("efficientnet-lite0") == "efficientnet-lite0"
    assert "/" not in slug("timm:resnet50@/a/b.pth")
    assert slug("models/sscd.torchscript.pt") == "sscd.torchscript"


def test_nearest_name() -> None:
    assert nearest("efficentnet", ["efficientnet", "timm"]) == "; did you mean 'efficientnet'?"
    assert nearest("xyz", ["efficientnet"]) == ""


def test_shipped_files_are_found_and_missing_ones_named() -> None:
    assert shipped("annotation/label_config.xml").is_file()
    with pytest.raises(NdecError, match=r"no-such\.xml"):
        shipped("annotation/no-such.xml")


@pytest.mark.parametrize("uri", ["s3://bucket/bench", "gs://bucket/bench", "memory://bench", "https://host/bench"])
def test_a_workspace_in_an_object_store_is_refused_and_nothing_is_written(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UsageError, match=r"the workspace \w+:/\S*bench is a URI; .* Images may stay in an object store"
    ):
        init(Path(uri))
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_name_looks_like_a_scheme_is_a_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    assert Workspace(Path("s3:/bench")).settings == Path("s3:/bench/ndec.toml")
