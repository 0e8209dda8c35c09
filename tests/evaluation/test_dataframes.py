"""`ndec.tables`: the DataFrames hold what the files hold."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ndec_builder as ndec
from ndec_builder.core import schemas
from ndec_builder.core.schemas import DECISIONS, MANIFEST_TABLES, table_name
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from support.decided_world import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def test_tables_of_both_splits_follow_one_another(world: World) -> None:
    frame = ndec.tables("decisions", world.workspace.root)
    files = {
        split: pq.read_table(world.workspace.annotation(split) / "decisions.parquet") for split in ("test", "train")
    }
    assert frame["split"].tolist() == [split for split, table in files.items() for _ in range(len(table))]
    back = pa.Table.from_pandas(frame.drop(columns="split"), schema=DECISIONS, preserve_index=False)
    assert back.equals(pa.concat_tables(files.values()))  # types and nulls too
    only = ndec.tables("decisions", world.workspace.root, split="train")
    assert len(only) == len(files["train"]) and set(only["split"]) == {"train"}


def test_a_null_stays_a_null_and_an_integer_an_integer(world: World) -> None:
    frame = ndec.tables("candidates", world.workspace.root)
    assert list(frame.columns).count("split") == 1  # its own column
    assert str(frame["rank"].dtype) == "int32[pyarrow]" and frame["inliers"].isna().all()


def test_images_of_all_roles(world: World) -> None:
    frame = ndec.tables("images", world.workspace.root)
    counts = {role: world.workspace.read_images(role).num_rows for role in ("reference", "pool", "basic", "query")}
    assert frame["role"].value_counts().to_dict() == counts


def test_a_dataset_has_its_six_tables(world: World) -> None:
    directory = ndec.export(ExportConfig(world.workspace.root))
    frame = ndec.tables("ground_truth", directory)
    expected = open_manifest(directory).table("ground_truth")
    assert frame["query_id"].tolist() == expected["query_id"].to_pylist()
    assert frame["reference_id"].isna().sum() == expected["reference_id"].null_count > 0
    with pytest.raises(ndec.UsageError, match=r"no table 'labels'.*There are: ground_truth, queries"):
        ndec.tables("labels", directory)


def test_a_report_has_its_predictions(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("query_id,reference_id,score\n007,null,0.1000000000000000055\nq,r,1e-5\n")
    (tmp_path / "metrics.json").write_text("{}")
    frame = ndec.tables("predictions", tmp_path)
    assert frame.to_dict("list") == {"query_id": ["007", "q"], "reference_id": ["null", "r"], "score": [0.1, 1e-5]}


def test_a_workspace_with_a_csv_of_a_detector_in_it_is_no_report(world: World) -> None:
    (world.workspace.root / "predictions.csv").write_text("query_id,reference_id,score\n")
    assert len(ndec.tables("labels", world.workspace.root))


def test_an_unknown_name_or_place_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ndec.UsageError, match="did you mean 'labels'"):
        ndec.tables("lables", world.workspace.root)
    with pytest.raises(ndec.UsageError, match="holds no tables"):
        ndec.tables("labels", tmp_path / "empty")
    with pytest.raises(ndec.UsageError, match="'dev' is unknown"):
        ndec.tables("labels", world.workspace.root, split="dev")


def documented() -> set[str]:
    """The names in the table of the how-to page."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "publish.md").read_text("utf-8")
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("|") and line.count("|") == 4]
    return {name for cell in rows for name in re.findall(r"`([\w-]+)`", cell)}


def test_every_name_is_documented(world: World) -> None:
    """Every table that a file of the package names as NAME.parquet, except those that are not in these folders."""
    package = Path(ndec.__file__).parent
    code = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    named = set(re.findall(r'"([\w-]+)\.parquet"', code)) | set(MANIFEST_TABLES)
    named |= {table_name(schema) for schema in vars(schemas).values() if isinstance(schema, pa.Schema)}
    elsewhere = {"metadata", "sources", "rejects", "query-rejects", "replaced", "twins", "given_labels"}
    assert named - elsewhere == documented()


def test_hashes_are_a_table_and_old_generations_are_not(world: World) -> None:
    pytest.importorskip("pdqhash")
    directory = ndec.export(ExportConfig(world.workspace.root, hashes="pdq"))
    assert len(ndec.tables("hashes", directory)) == pq.read_table(directory / "hashes.parquet").num_rows
    folder = world.workspace.annotation("test")
    (folder / "labels.previous.parquet").write_bytes((folder / "labels.parquet").read_bytes())
    with pytest.raises(ndec.UsageError, match=r"has no table 'labels\.previous'"):
        ndec.tables("labels.previous", world.workspace.root)
