"""The NDEC release, in its own layout, and everything that can be missing from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.errors import GapsError, NdecError, UsageError
from ndec_builder.core.schemas import GROUND_TRUTH, PAIRS, pair_id
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig
from support.pictures import scene


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scene(seed, (48, 36)).save(path)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Three pair folders (the pool image of two of them is one), three queries, their ground truth."""
    root = tmp_path / "ndec"
    for number, former, latter in ((0, 7, "oi-b"), (1, 3, "oi-a"), (2, 9, "oi-b")):
        save(root / "negative_pair" / f"{number:05d}" / f"T{former:06d}.jpg", former)
        save(root / "negative_pair" / f"{number:05d}" / f"{latter}.jpg", 100 + ord(latter[-1]))
    for number in range(3):
        save(root / "query_images_h5" / f"Q{number:05d}.jpg", 50 + number)
    truth = "query_id,reference_id\nQ00000,R000004\nQ00001,\nQ00002,\n"
    (root / "public_ground_truth_h5.csv").write_text(truth)
    return root


def ingest(tmp_path: Path, role: str = "all", **more: Any) -> Workspace:
    run(IngestConfig(tmp_path / "ws", role, tmp_path / "ndec", **more))
    return Workspace(tmp_path / "ws")


def ids(workspace: Workspace, role: str) -> list[str]:
    return workspace.read_images(role)["image_id"].to_pylist()


def test_every_role_the_truth_and_the_pairs_in_folder_order(tmp_path: Path, release: Path) -> None:
    workspace = ingest(tmp_path)
    assert ids(workspace, "query") == ["Q00000", "Q00001", "Q00002"]
    assert ids(workspace, "basic") == ["T000003", "T000007", "T000009"]
    assert ids(workspace, "pool") == ["oi-a", "oi-b"]
    truth = read_table(workspace.ground_truth)
    assert truth.schema.equals(GROUND_TRUTH)
    assert [tuple(row.values()) for row in truth.to_pylist()] == [
        ("Q00000", "R000004"),
        ("Q00001", None),
        ("Q00002", None),
    ]
    pairs = read_table(workspace.pairs)
    assert pairs.schema.equals(PAIRS)
    rows = [(row["former_id"], row["latter_id"]) for row in pairs.to_pylist()]
    assert rows == [("T000007", "oi-b"), ("T000003", "oi-a"), ("T000009", "oi-b")]
    assert pairs["pair_id"].to_pylist() == [pair_id("train", latter, former) for former, latter in rows]
    for row in workspace.read_images("pool").to_pylist():
        assert Path(workspace.resolve(row["uri"])).is_file()
    assert not list((tmp_path / "ws" / "images").glob(".ingest*"))


def test_the_direction_can_be_reversed(tmp_path: Path, release: Path) -> None:
    workspace = ingest(tmp_path, reverse_pairs=True)
    pairs = read_table(workspace.pairs)
    assert pairs["former_id"].to_pylist() == ["oi-b", "oi-a", "oi-b"]
    assert pairs["latter_id"].to_pylist() == ["T000007", "T000003", "T000009"]
    assert ids(workspace, "basic") == ["oi-a", "oi-b"]


@pytest.mark.slow
def test_existing_references_are_checked_and_roles_can_be_added(tmp_path: Path, release: Path) -> None:
    save(tmp_path / "disc" / "R000004.jpg", 4)
    save(tmp_path / "disc" / "T000003.jpg", 3)  # the same bytes as in the release
    save(tmp_path / "disc" / "T000011.jpg", 11)
    for role in ("reference", "basic"):
        run(IngestConfig(tmp_path / "ws", role, tmp_path / "disc", kind="disc21"))
    workspace = ingest(tmp_path, add=True)
    assert ids(workspace, "basic") == ["T000003", "T000007", "T000009", "T000011"]
    assert "disc" in workspace.read_images("basic")["uri"][0].as_py()  # the row that was there stays
    again = ingest(tmp_path, add=True)  # nothing comes twice
    assert read_table(again.pairs).num_rows == 3
    assert ids(again, "basic") == ids(workspace, "basic")
    save(tmp_path / "disc" / "T000007.jpg", 8)  # other bytes than in the release
    run(IngestConfig(tmp_path / "ws", "basic", tmp_path / "disc", kind="disc21"))
    with pytest.raises(NdecError, match=r"1 id would stand for two pictures .* 'T000007'"):
        ingest(tmp_path, add=True)
    (tmp_path / "disc" / "R000004.jpg").rename(tmp_path / "disc" / "R000005.jpg")
    with pytest.raises(GapsError, match="1 query has no ground truth any more"):
        run(IngestConfig(tmp_path / "ws", "reference", tmp_path / "disc", kind="disc21"))
    with pytest.raises(NdecError, match=r"names 1 reference id .* 'R000004'"):
        ingest(tmp_path)


def test_missing_and_unexpected_parts_are_one_message(tmp_path: Path, release: Path) -> None:
    pairs = release / "negative_pair"
    (release / "query_images_h5" / "Q00001.jpg").unlink()
    (release / "query_images_h5" / "Q00002.jpg").write_bytes(b"no picture")
    (pairs / "00001" / "oi-a.jpg").unlink()
    (pairs / "00004").mkdir()
    save(pairs / "00005" / "T000001.jpg", 1)
    save(pairs / "00005" / "T000002.jpg", 2)
    shutil.copytree(pairs / "00000", pairs / "00006")
    with pytest.raises(GapsError) as caught:
        ingest(tmp_path, max_reject_share=1.0)
    text = str(caught.value)
    for part in ("Q00001", "00001 (T000003.jpg)", "00004 (no image)", "00005 (T000001.jpg, T000002.jpg)",
                 "00006 (as 00000: T000007, oi-b)"):  # fmt: skip
        assert part in text
    workspace = Workspace(tmp_path / "ws")
    assert read_table(workspace.ground_truth)["query_id"].to_pylist() == ["Q00000"]
    assert read_table(workspace.pairs)["former_id"].to_pylist() == ["T000007", "T000009"]


def test_pairs_with_an_unusable_image_are_left_out(tmp_path: Path, release: Path) -> None:
    (release / "negative_pair" / "00002" / "T000009.jpg").write_bytes(b"")
    with pytest.raises(GapsError, match="1 pair is left out because one of their images is unusable"):
        ingest(tmp_path, max_reject_share=1.0)
    assert read_table(Workspace(tmp_path / "ws").pairs)["former_id"].to_pylist() == ["T000007", "T000003"]


def test_one_id_for_two_pictures_is_refused(tmp_path: Path, release: Path) -> None:
    save(release / "negative_pair" / "00002" / "oi-b.jpg", 77)
    with pytest.raises(NdecError, match=r"00000/oi-b.jpg and .*00002/oi-b.jpg are different pictures"):
        ingest(tmp_path)


def test_missing_parts(tmp_path: Path, release: Path) -> None:
    shutil.rmtree(release / "negative_pair")
    with pytest.raises(GapsError, match="lacks negative_pair"):
        ingest(tmp_path)
    assert ids(Workspace(tmp_path / "ws"), "query") == ["Q00000", "Q00001", "Q00002"]
    with pytest.raises(UsageError, match="not an NDEC release for the role 'pool': it has no negative_pair"):
        ingest(tmp_path, "pool")
    with pytest.raises(UsageError, match="has no references"):
        ingest(tmp_path, "reference", kind="ndec")
    with pytest.raises(UsageError, match="role 'all' is for sources"):
        ingest(tmp_path, kind="folder")
