"""What a second ingest does to the images, ground truth, pairs and edits of the first one, with and without `--add`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.access.hosts import trusted
from ndec_builder.core.config import limit_of, pixel_limit
from ndec_builder.core.errors import GapsError, NdecError
from ndec_builder.core.schemas import EDITS, PAIRS, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources import ingest as ingest_module
from ndec_builder.sources.ingest import run
from ndec_builder.sources.settings import IngestConfig
from support.ingesting import Ingested, picture


def write(folder: Path, seeds: dict[str, int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds.items():
        (folder / f"{name}.jpg").write_bytes(picture(seed))
    return folder


def ingest(tmp_path: Path, role: str, source: Path, **settings: Any) -> Workspace:
    run(IngestConfig(tmp_path / "ws", role, source, **settings))
    return Workspace(tmp_path / "ws")


def truth(workspace: Workspace) -> list[tuple[str, str | None]]:
    return [(row["query_id"], row["reference_id"]) for row in read_table(workspace.ground_truth).to_pylist()]


def notes(workspace: Workspace, role: str) -> str:
    return " | ".join(read_json(workspace.images(role).with_name(f"{role}.run.json"))["notes"])


def test_an_added_file_with_other_bytes_replaces_its_row(tmp_path: Path) -> None:
    source = write(tmp_path / "pool", {"a": 1, "b": 2})
    Ingested(tmp_path, source, license="CC0-1.0")
    (source / "a.jpg").write_bytes(picture(3, size=(64, 36)))
    again = Ingested(tmp_path, source, add=True)
    assert again.rows["a"]["sha256"] == hashlib.sha256(picture(3, size=(64, 36))).hexdigest()
    assert again.rows["a"]["width"] == 64
    assert again.column("license") == {"a": None, "b": "CC0-1.0"}  # the licence was the old picture's
    replaced = read_table(again.workspace.replaced_images("pool")).to_pylist()
    assert [(row["image_id"], row["sha256"]) for row in replaced] == [("a", hashlib.sha256(picture(1)).hexdigest())]
    assert "2 images of the role, listed again: 1 with other bytes" in again.notes


def test_added_images_take_the_groups_and_licences_that_are_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "pool", {f"clip_{number}": number for number in range(4)})
    assert len(set(Ingested(tmp_path, source).column("group").values())) == 4
    again = Ingested(tmp_path, source, add=True, group_by="video", license="CC0-1.0")
    assert len(set(again.column("group").values())) == 1
    assert set(again.column("license").values()) == {"CC0-1.0"}
    assert "4 with a new group, 4 with a new licence" in again.notes


def test_added_images_keep_groups_and_licences_that_are_not_asked_for(tmp_path: Path) -> None:
    source = write(tmp_path / "pool", {f"clip_{number}": number for number in range(4)})
    before = Ingested(tmp_path, source, group_by="video", license="CC0-1.0")
    write(source, {"clip_9": 9})
    again = Ingested(tmp_path, source, add=True)
    assert {name: again.rows[name] for name in before.ids} == before.rows
    assert "4 images of the role, listed again: nothing about them changed" in again.notes


def test_an_image_that_is_listed_without_opening_keeps_what_is_known(tmp_path: Path) -> None:
    source = write(tmp_path / "pool", {"a": 1})
    before = Ingested(tmp_path, source)
    assert Ingested(tmp_path, source, add=True, look="list").rows == before.rows


def test_an_added_file_that_cannot_be_used_any_more_leaves_the_role(with_truth: Path) -> None:
    (with_truth / "refs" / "r1.jpg").write_bytes(b"no picture")
    with pytest.raises(GapsError, match="1 query has no ground truth any more"):
        ingest(with_truth, "reference", with_truth / "refs", add=True, max_reject_share=1.0)
    workspace = Workspace(with_truth / "ws")
    assert workspace.read_images("reference")["image_id"].to_pylist() == ["r0", "r2", "r3"]
    assert truth(workspace) == [("q0", "r0"), ("q2", "r2")]
    assert "1 image of the role removed: the file cannot be used any more" in notes(workspace, "reference")


def test_gaps_of_a_run_that_stops_are_reported_by_the_next_one(
    with_truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(with_truth / "refs", {"r1": 31})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ndec_builder.sources.ingest.record_replaced", _interrupt)
        ingest(with_truth, "reference", with_truth / "refs")
    assert truth(Workspace(with_truth / "ws")) == [("q0", "r0"), ("q2", "r2")]
    with pytest.raises(GapsError, match="1 query has no ground truth any more"):
        ingest(with_truth, "reference", with_truth / "refs")
    ingest(with_truth, "reference", with_truth / "refs")  # said once


def test_a_run_that_stops_before_its_ground_truth_leaves_no_rows_about_other_pictures(
    with_truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(with_truth / "queries", {"q1": 31})
    again = {"ground_truth": with_truth / "gt.csv"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ndec_builder.sources.ingest._write_truth", _interrupt)
        ingest(with_truth, "query", with_truth / "queries", **again)
    assert truth(Workspace(with_truth / "ws")) == [("q0", "r0"), ("q2", "r2")]
    workspace = ingest(with_truth, "query", with_truth / "queries", **again)
    assert truth(workspace) == [("q0", "r0"), ("q1", "r1"), ("q2", "r2")]


def test_an_ingest_of_another_role_meanwhile_loses_no_ground_truth(
    with_truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (with_truth / "more.csv").write_text("q3,r3\n")
    more = write(with_truth / "more", {"q3": 13})
    write(with_truth / "refs", {"r1": 31})
    settings = {"add": True, "ground_truth": with_truth / "more.csv"}
    other = threading.Thread(target=ingest, args=(with_truth, "query", more), kwargs=settings)
    real = ingest_module.find_forgotten

    def slowly(*values: Any, **named: Any) -> Any:
        found = real(*values, **named)
        if values[1] == "reference":
            other.start()
            other.join(0.5)  # it would write between our read and our write
        return found

    monkeypatch.setattr(ingest_module, "find_forgotten", slowly)
    with pytest.raises(GapsError, match="1 query has no ground truth any more"):
        ingest(with_truth, "reference", with_truth / "refs")
    other.join()
    assert truth(Workspace(with_truth / "ws")) == [("q0", "r0"), ("q2", "r2"), ("q3", "r3")]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_added_copy_at_another_place_leaves_the_row_and_is_counted(tmp_path: Path) -> None:
    before = Ingested(tmp_path, write(tmp_path / "pool", {"a": 1}))
    again = Ingested(tmp_path, write(tmp_path / "other", {"a": 1}), add=True)
    assert again.rows == before.rows
    assert "1 image with the id and the bytes of one that the role has" in again.notes


@pytest.fixture
def with_truth(tmp_path: Path) -> Path:
    """References r0 … r3, and queries q0 … q2 that show r0 … r2."""
    ingest(tmp_path, "reference", write(tmp_path / "refs", {f"r{number}": number for number in range(4)}))
    (tmp_path / "gt.csv").write_text("q0,r0\nq1,r1\nq2,r2\n")
    queries = write(tmp_path / "queries", {f"q{number}": 10 + number for number in range(3)})
    ingest(tmp_path, "query", queries, ground_truth=tmp_path / "gt.csv")
    return tmp_path


def test_a_rejected_file_with_the_name_of_a_usable_one_takes_no_ground_truth(with_truth: Path) -> None:
    """A broken q1 in an added folder, and a link named q0 next to the file q0."""
    workspace, added = Workspace(with_truth / "ws"), write(with_truth / "added", {"q7": 17})
    (added / "q1.jpg").write_bytes(b"broken")
    (with_truth / "more.csv").write_text("q7,r3\nq1,r1\n")
    ingest(with_truth, "query", added, add=True, ground_truth=with_truth / "more.csv", max_reject_share=1)
    assert truth(workspace) == [("q0", "r0"), ("q1", "r1"), ("q2", "r2"), ("q7", "r3")]
    (with_truth / "queries" / "q0.png").symlink_to(with_truth / "refs" / "r0.jpg")
    ingest(with_truth, "query", with_truth / "queries", ground_truth=with_truth / "gt.csv", max_reject_share=1)
    assert truth(workspace) == [("q0", "r0"), ("q1", "r1"), ("q2", "r2")]


def test_replaced_queries_lose_their_ground_truth(with_truth: Path) -> None:
    other = write(with_truth / "other", {"q0": 10, "q1": 21, "new": 22})  # q0 is the same picture, q2 is gone
    workspace = ingest(with_truth, "query", other)
    assert truth(workspace) == [("q0", "r0")]
    said = notes(workspace, "query")
    for part in (
        "1 image is no longer in the role",
        "1 image has other bytes",
        "removed with them: 2 rows of the ground truth",
    ):
        assert part in said


def test_the_same_queries_keep_their_ground_truth(with_truth: Path) -> None:
    workspace = ingest(with_truth, "query", with_truth / "queries", group_by="video")
    assert truth(workspace) == [("q0", "r0"), ("q1", "r1"), ("q2", "r2")]


def test_a_replaced_reference_is_a_gap_in_the_ground_truth(with_truth: Path) -> None:
    write(with_truth / "refs", {"r1": 31})
    with pytest.raises(GapsError, match="1 query has no ground truth any more, because their reference was replaced"):
        ingest(with_truth, "reference", with_truth / "refs")
    assert truth(Workspace(with_truth / "ws")) == [("q0", "r0"), ("q2", "r2")]


def test_of_images_that_were_never_opened_the_place_decides(tmp_path: Path) -> None:
    names = {f"q{number}": number for number in range(2)}
    (tmp_path / "gt.csv").write_text("q0,r0\nq1,r1\n")
    for place in ("one", "two"):
        write(tmp_path / place, names)
    ingest(tmp_path, "query", tmp_path / "one", look="list", ground_truth=tmp_path / "gt.csv")
    assert len(truth(ingest(tmp_path, "query", tmp_path / "one", look="list"))) == 2
    assert truth(ingest(tmp_path, "query", tmp_path / "two", look="list")) == []


@pytest.mark.parametrize("again", [{"r1": 31}, {"r1": 1}], ids=["another picture", "the same one"])
def test_edited_copies_of_a_replaced_reference_are_no_copies_of_the_new_one(
    tmp_path: Path, again: dict[str, int]
) -> None:
    source = write(tmp_path / "refs", {"r0": 0, "r1": 1})
    workspace = ingest(tmp_path, "reference", source)
    copies = [
        {"image_id": f"copy-{name}-{role}", "role": "query", "source_id": name, "source_role": role}
        for name in ("r0", "r1")
        for role in ("reference", "pool")
    ]
    write_table(workspace.edits, table_of(EDITS, copies))
    replaced = again["r1"] != 1
    write(source, again)
    with (
        pytest.raises(GapsError, match="1 image is no longer known as an edited copy, because the reference image")
        if replaced
        else contextlib.nullcontext()
    ):
        ingest(tmp_path, "reference", source)
    left = read_table(workspace.edits)["image_id"].to_pylist()
    assert left == [row["image_id"] for row in copies if not replaced or row["image_id"] != "copy-r1-reference"]


def test_an_added_ground_truth_must_agree_with_the_one_before(with_truth: Path) -> None:
    (with_truth / "more.csv").write_text("q3,r3\nq1,\n")
    more = write(with_truth / "more", {"q3": 13, "q1": 11})
    with pytest.raises(NdecError, match=r"1 query has a reference in one ground truth .* 'q1' with 'r1'"):
        ingest(with_truth, "query", more, add=True, ground_truth=with_truth / "more.csv")
    (with_truth / "more.csv").write_text("q3,r3\n")
    workspace = ingest(with_truth, "query", more, add=True, ground_truth=with_truth / "more.csv")
    assert truth(workspace) == [("q0", "r0"), ("q1", "r1"), ("q2", "r2"), ("q3", "r3")]


def test_replaced_images_lose_the_pairs_and_edits_that_name_them(tmp_path: Path) -> None:
    source = write(tmp_path / "pool", {"a": 1, "b": 2})
    workspace = ingest(tmp_path, "pool", source)
    write_table(workspace.pairs, table_of(PAIRS, [dict(zip(PAIRS.names, (n, "t", n), strict=True)) for n in "ab"]))
    write_table(workspace.edits, table_of(EDITS, [{"image_id": "a", "role": role} for role in ("pool", "query")]))
    write(source, {"a": 3})
    ingest(tmp_path, "pool", source)
    assert read_table(workspace.pairs)["latter_id"].to_pylist() == ["b"]
    assert read_table(workspace.edits)["role"].to_pylist() == ["query"]
    assert "removed with them: 1 pair of the release" in notes(workspace, "pool")


def test_an_added_source_keeps_limit_hosts_and_rejects_of_the_one_before(tmp_path: Path) -> None:
    first = write(tmp_path / "one", {"a": 1})
    (first / "broken.jpg").write_bytes(b"no picture")
    (first / "fixed.jpg").write_bytes(b"no picture")
    hosts = {"allow": ("private:http://10.0.0.7",), "max_reject_share": 1.0}
    Ingested(tmp_path, first, max_pixels=300_000_000, **hosts)
    second = write(tmp_path / "two", {"b": 2})
    (second / "cut.jpg").write_bytes(picture(3)[:200])
    Ingested(tmp_path, second, add=True, max_reject_share=1.0)
    write(first, {"fixed": 4})
    found = Ingested(tmp_path, first, add=True, max_reject_share=1.0)
    assert sorted(found.rejects) == ["broken", "cut"]
    assert found.ids == ["a", "b", "fixed"]
    record = read_json(found.workspace.images("pool").with_name("pool.run.json"))
    assert [Path(run["config"]["source"]).name for run in [*record["earlier"], record]] == ["one", "two", "one"]
    assert record["counts"]["rejects"] == 2
    with limit_of(found.workspace.root):
        assert pixel_limit() == 300_000_000
    with trusted(IngestConfig(found.workspace.root, "pool", second)):
        assert "private:http://10.0.0.7" in os.environ["NDEC_ALLOW"].split()
