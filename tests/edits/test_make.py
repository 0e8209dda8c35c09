"""`ndec edit`: queries, records, idempotence and bad input."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.schemas import EDITS, table_of
from ndec_builder.core.storage import read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.edits import make
from ndec_builder.edits.make import choose_sources, run
from ndec_builder.edits.operations import apply_edits
from ndec_builder.edits.settings import EditConfig
from support.edit_bench import ingest, result_bytes
from support.pictures import scene, write_scenes


def test_queries_edits_and_files(config: EditConfig) -> None:
    workspace = Workspace(config.workspace)
    assert run(config) == workspace.images("query")
    queries = workspace.read_images("query").to_pylist()
    edits = {row["image_id"]: row for row in read_table(workspace.edits).to_pylist()}
    assert [row["image_id"] for row in queries] == [f"copy-{i:06d}" for i in range(8)]
    assert read_table(workspace.edits).schema.names == EDITS.names
    assert {row["source_id"] for row in edits.values()} == {f"scene-{i:04d}" for i in range(6)}  # 6 sources, 8 copies
    for row in queries:
        assert row["uri"] == f"files/query/{row['image_id']}.jpg"  # by which an export knows a copy without a record
        path = Path(workspace.resolve(row["uri"]))
        edit = edits[row["image_id"]]
        assert row["sha256"] == sha256_file(path) and row["role"] == "query"
        assert (row["license"], row["author"], row["group"]) == ("CC0", "A", f"g-{edit['source_id']}")
        assert (edit["kind"], edit["source_role"], edit["role"]) == ("edited_copy", "reference", "query")
        with Image.open(path) as image:
            assert image.size == (row["width"], row["height"]) and image.format == "JPEG"
        source = scene(int(edit["source_id"].removeprefix("scene-")))
        replayed = io.BytesIO()
        apply_edits(source, json.loads(edit["edit"])["edits"]).save(replayed, "JPEG", quality=95)
        assert replayed.getvalue() == path.read_bytes()


def test_rerun_changes_no_byte(config: EditConfig) -> None:
    run(config)
    before = result_bytes(config.workspace)
    run(config)
    assert result_bytes(config.workspace) == before


def test_a_smaller_rerun_replaces_and_a_different_seed_differs(config: EditConfig) -> None:
    run(config)
    before = result_bytes(config.workspace)
    run(replace(config, count=2))
    after = result_bytes(config.workspace)
    assert sorted(name for name in after if name.endswith(".jpg")) == [f"files/query/copy-00000{i}.jpg" for i in (0, 1)]
    assert all(after[name] == before[name] for name in after if name.endswith(".jpg"))  # copy i never depends on count
    run(replace(config, count=2, seed=4))
    assert result_bytes(config.workspace)["files/query/copy-000000.jpg"] != after["files/query/copy-000000.jpg"]


def test_other_queries_and_edits_are_kept(config: EditConfig) -> None:
    root = config.workspace
    ingest(root, "query", write_scenes(root / "own", 2, 50))
    other = {"image_id": "p1", "role": "pool", "source_id": "scene-0001", "kind": "reverse_crop", "edit": "{}"}
    write_table(Workspace(root).edits, table_of(EDITS, [other]))
    run(config)
    run(replace(config, prefix="light", recipe="light", count=3))
    ids = Workspace(root).read_images("query")["image_id"].to_pylist()
    assert ids == sorted(ids) and {"scene-0050", "scene-0051", "copy-000007", "light-000002"} <= set(ids)
    edits = read_table(Workspace(root).edits).to_pylist()
    assert len(ids) == 2 + 8 + 3 and len(edits) == 1 + 8 + 3
    assert [row for row in edits if row["role"] == "pool"] == [{**other, "source_role": None}]


def test_own_backgrounds_are_used_and_recorded(config: EditConfig) -> None:
    root = config.workspace
    write_scenes(root / "backgrounds", 3, 70)
    (root / "backgrounds" / "notes.txt").write_text("no picture")
    (root / "backgrounds" / "broken.png").write_bytes(b"no picture")
    run(replace(config, recipe="view", count=12, backgrounds=root / "backgrounds"))
    stored = [json.loads(text)["edits"] for text in read_table(Workspace(root).edits)["edit"].to_pylist()]
    used = [
        edit["parameters"]["background"] for edits in stored for edit in edits if "background" in edit["parameters"]
    ]
    assert used and all(set(one) == {"index", "sha256"} and one["index"] < 3 for one in used)


@pytest.mark.slow
def test_copies_stay_when_all_sources_are_gone(config: EditConfig) -> None:
    root = config.workspace
    run(config)
    good = result_bytes(root)
    (root / "in").rename(root / "moved")
    with pytest.raises(NdecError, match=r"none of the 8 copies could be made: 8 × .*ndec ingest reference FOLDER"):
        run(config)
    assert result_bytes(root) == good
    (root / "moved").rename(root / "in")
    run(config)
    assert result_bytes(root) == good


@pytest.mark.slow
def test_a_bad_source_is_a_reject_and_its_number_stays_unused(
    config: EditConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    root = config.workspace
    run(config)
    good = result_bytes(root)
    (root / "in" / "scene-0002.png").write_bytes(b"\x89PNG broken")
    ingest(root, "reference", sorted((root / "in").iterdir()))
    with pytest.raises(GapsError, match=r"of 8 copies could not be made.*not an image"):
        run(config)
    after = result_bytes(root)
    rejects = read_table(root / "images" / "query-rejects.parquet").to_pylist()
    assert {row["uri"] for row in rejects} == {"in/scene-0002.png"}
    gone = {row["image_id"] for row in rejects}
    assert (
        set(Workspace(root).read_images("query")["image_id"].to_pylist()) == {f"copy-{i:06d}" for i in range(8)} - gone
    )
    assert all(after[name] == good[name] for name in after if name.endswith(".jpg"))
    assert not any(f"files/query/{name}.jpg" in after for name in gone)
    capsys.readouterr()
    run(replace(config, max_reject_share=1.0))
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"made {8 - len(gone)} edited copies" in said and f"{len(gone)} of 8 copies could not be made: " in said


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"count": 0}, UsageError, "count is 0; it must be at least 1"),
        ({"recipe": "crops"}, UsageError, "did you mean 'crop'"),
        ({"role": "pool"}, NdecError, "no pool images.*ndec ingest pool"),
        ({"role": "references"}, UsageError, "role is 'references'; it must be reference, basic, pool or query"),
        ({"prefix": "../x"}, UsageError, "prefix '../x' becomes a file name"),
        ({"backgrounds": Path("nowhere")}, UsageError, "backgrounds folder nowhere does not exist"),
    ],
)
def test_bad_settings(config: EditConfig, change: dict, error: type[NdecError], message: str) -> None:
    with pytest.raises(error, match=message):
        run(replace(config, **change))


def test_ids_of_ingested_queries_are_not_reused(config: EditConfig) -> None:
    path = config.workspace / "own" / "copy-000001.png"
    path.parent.mkdir()
    scene(9).save(path)
    ingest(config.workspace, "query", [path])
    with pytest.raises(UsageError, match="'copy-000001' belongs to an ingested image"):
        run(config)


def test_copies_whose_record_an_ingest_forgot_are_made_again(config: EditConfig) -> None:
    run(config)
    before = result_bytes(config.workspace)
    workspace = Workspace(config.workspace)
    other = replace(config, prefix="other", count=2)
    run(other)
    # as the ingest of references leaves it that replaced all of them
    write_table(workspace.edits, table_of(EDITS, []))
    run(config)
    assert [row["image_id"] for row in read_table(workspace.edits).to_pylist()] == [f"copy-{i:06d}" for i in range(8)]
    names = workspace.read_images("query")["image_id"].to_pylist()
    assert names[8:] == ["other-000000", "other-000001"]  # as they were: an export leaves them out
    run(other)
    assert read_table(workspace.edits).num_rows == 10
    after = result_bytes(config.workspace)
    assert all(after[name] == data for name, data in before.items() if name.endswith(".jpg"))


def test_sources_are_used_evenly() -> None:
    order = choose_sources(7, 24, seed=1)
    counts = np.bincount(order, minlength=7)
    assert counts.min() >= 3 and counts.max() <= 4
    assert sorted(order[:7]) == list(range(7)) and list(choose_sources(7, 24, 1)) == list(order)
    assert list(choose_sources(7, 5, 1)) == list(order[:5])


def test_copies_of_queries_are_not_made_from_earlier_copies(config: EditConfig) -> None:
    ingest(config.workspace, "query", write_scenes(config.workspace / "queries", 2))
    config = replace(config, role="query", count=3)
    run(config)
    first = result_bytes(config.workspace)
    run(config)
    assert result_bytes(config.workspace) == first
    edits = read_table(Workspace(config.workspace).edits).to_pylist()
    assert {row["source_id"] for row in edits} == {"scene-0000", "scene-0001"}


@pytest.mark.slow
def test_copies_of_copies_go_with_the_pictures_that_they_show(
    config: EditConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """`other-000000` was made from a copy that shows another reference after `copy` is made again."""
    workspace = Workspace(config.workspace)
    run(config)
    run(replace(config, role="query", prefix="other", count=3, seed=1))
    run(replace(config, role="query", prefix="third", count=11, seed=1))
    before = {row["image_id"]: row["source_id"] for row in read_table(workspace.edits).to_pylist()}
    assert {before[f"third-{i:06d}"] for i in range(11)} == {name for name in before if name[:5] != "third"}
    run(config)  # the same copies
    assert {row["image_id"]: row["source_id"] for row in read_table(workspace.edits).to_pylist()} == before
    capsys.readouterr()
    run(replace(config, seed=4))
    left = set(workspace.read_images("query")["image_id"].to_pylist())
    assert left == {f"copy-{i:06d}" for i in range(8)}
    assert {row["image_id"] for row in read_table(workspace.edits).to_pylist()} == left
    assert {path.stem for path in workspace.files("query").glob("*.jpg")} == left
    assert "14 copies of earlier copies removed, 'other-000000' first" in capsys.readouterr().err


def test_a_source_that_changed_after_the_ingest_is_a_reject(config: EditConfig) -> None:
    scene(50).save(config.workspace / "in" / "scene-0002.png")
    run(replace(config, count=6, max_reject_share=1.0))
    rejects = read_table(config.workspace / "images" / "query-rejects.parquet").to_pylist()
    assert [Path(row["uri"]).name for row in rejects] == ["scene-0002.png"]
    assert rejects[0]["reason"] == "the file changed since it was ingested; run `ndec ingest` again"


def test_folders_among_the_backgrounds_are_left_out(tmp_path: Path) -> None:
    write_scenes(tmp_path, 1)
    (tmp_path / "x.png").mkdir()
    assert len(make.read_backgrounds(tmp_path)) == 1
