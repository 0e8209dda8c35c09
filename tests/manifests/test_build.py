"""The tables and files of a dataset that is exported from decisions."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter

import pytest

from ndec_builder.core.schemas import MANIFEST_TABLES, pair_id
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from support.exported import export, table


def test_queries_follow_the_decisions(world):
    rows = table(export(world, distractors=3), "queries")
    assert [row["query_id"] for row in rows] == sorted(row["query_id"] for row in rows)
    kinds = {row["query_id"]: (row["kind"], row["hard_kind"]) for row in rows}
    drawn = {name for name in kinds if name.startswith("free")}
    assert len(drawn) == 3 and {kinds.pop(name) for name in drawn} == {("distractor", None)}
    assert kinds == {
        "copy-000000": ("edited_copy", None),
        "copy-000001": ("edited_copy", None),
        "mine": ("edited_copy", None),
        "stranger": ("distractor", None),
        "p-copy": ("edited_copy", None),
        "p-mixed": ("edited_copy", None),
        "p-hard": ("hard_negative", "natural"),
        "p-whole": ("hard_negative", "reverse_crop"),
    }
    edits = {row["query_id"]: row["edit"] for row in rows if row["edit"]}
    assert edits == dict.fromkeys(("copy-000000", "copy-000001"), '{"recipe": "copy"}')
    assert all(row["license"] == "CC-BY-4.0" and row["landing_url"] for row in rows)


@pytest.mark.slow
def test_ground_truth_lists_every_query(world):
    directory = export(world, distractors=1)
    truth = {row["query_id"]: row["reference_id"] for row in table(directory, "ground_truth")}
    assert set(truth) == {row["query_id"] for row in table(directory, "queries")}
    assert {q: r for q, r in truth.items() if r} == {
        "copy-000000": "r1", "copy-000001": "r2", "mine": "r3", "p-copy": "r1", "p-mixed": "r3",
    }  # fmt: skip
    lines = (directory / "ground_truth.csv").read_text().split("\n")
    assert lines[0] == "query_id,reference_id" and "stranger," in lines and "mine,r3" in lines


@pytest.mark.slow
def test_training_loses_what_the_test_has(world):
    directory = export(world)
    assert [row["image_id"] for row in table(directory, "train_basic")] == ["b1", "b2"]
    pairs = table(directory, "train_pairs")
    assert {(row["former_id"], row["latter_id"]) for row in pairs} == {("b1", "t-good"), ("b2", "t-good")}
    assert all(row["pair_id"] == pair_id("train", row["latter_id"], row["former_id"]) for row in pairs)
    assert [row["pair_id"] for row in pairs] == sorted(row["pair_id"] for row in pairs)
    assert [row["image_id"] for row in table(directory, "train_pair_images")] == ["t-good"]
    dropped = json.loads((directory / "manifest.json").read_text())["dropped"]
    assert dropped == {
        "test_pool_images": {
            "duplicate": 1,
            "no_hard_negative": 1,
            "undecided": 2,
            "unsure": 1,
        },
        "train_basic": {"group_of_a_test_image": 1, "same_bytes_as_a_test_image": 1},
        "train_pairs": {"former_not_in_train_basic": 1, "latter_group_of_a_test_image": 1},
        "pool": {"twin_of_another_image": 2},  # p-twin, free0
    }


@pytest.mark.slow
def test_distractors_come_from_the_free_unmined_pool(world):
    def drawn(count, seed=0):
        names = [row["query_id"] for row in table(export(world, distractors=count, seed=seed), "queries")]
        return {name for name in names if name.startswith(("free", "p-", "t-"))} - {
            "p-hard",
            "p-whole",
            "p-copy",
            "p-mixed",
        }

    everything = drawn(100)
    # free-again has the bytes of free0 and comes first; free-bytes those of r1; two more are of closed groups
    assert everything == {"free-again", "free1", "free2", "free3", "free4", "free5"}
    assert drawn(2) < drawn(4) < everything
    assert len({frozenset(drawn(3, seed)) for seed in range(6)}) > 1


@pytest.mark.slow
def test_manifest_says_what_is_in_it(world):
    directory = export(world, distractors=2)
    info = json.loads((directory / "manifest.json").read_text())
    queries = table(directory, "queries")
    assert info["counts"]["rows"] == {name: len(table(directory, name)) for name in MANIFEST_TABLES}
    assert info["counts"]["queries"] == Counter(row["kind"] for row in queries)
    assert info["counts"]["hard_negatives"] == {"natural": 1, "reverse_crop": 1}
    assert info["counts"]["positive_pairs"] == 5 and info["confirmed_copies"] == 2
    assert info["counts"]["licenses"] == {"CC-BY-4.0": len(queries) + 3 + 1, "unknown": 2}
    assert info["counts"]["images_without_licence_columns"] == 2
    assert info["images_root"] == "../.." and info["annotators"] == ["anna", "bert"] and info["labels_by"] == "people"
    assert info["lineage"]["test"]["mining"]["model"] == "net" and info["lineage"]["test"]["mining"]["cut"] == 0.5
    assert {"round": "first", "annotator": "anna", "label": "unsure", "count": 1} in info["lineage"]["test"]["labels"]
    assert info["lineage"]["test"]["decisions"]["undecided"] == 1
    assert set(info["lineage"]["test"]["bases"]) == {"agreed"}
    assert "/secret" not in (directory / "manifest.json").read_text() + (directory / "README.md").read_text()
    there = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    assert set(info["files"]) == there - {"manifest.json", "run.json"}
    for name, entry in info["files"].items():
        data = (directory / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_attribution_is_safe_for_a_spreadsheet(world):
    directory = export(world)
    with (directory / "ATTRIBUTION.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(
        len(table(directory, n)) for n in ("queries", "references", "train_basic", "train_pair_images")
    )
    reference = next(row for row in rows if row["image_id"] == "r1")
    assert reference["author"] == "'=HYPERLINK(evil)" and reference["title"] == 'A, "B"\nC'
    assert not [cell for row in rows for cell in row.values() if re.match(r"[=+\-@\t\r]", cell)]


@pytest.mark.slow
def test_same_bytes_twice_and_after_moving(world, tmp_path):
    def digest(directory):
        return {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name != "run.json"
        }

    first = digest(export(world, distractors=3))
    assert digest(export(world, distractors=3)) == first
    moved = tmp_path / "elsewhere"
    world.workspace.root.rename(moved)
    assert digest(run(ExportConfig(moved, distractors=3))) == first
    assert not [finding for finding in validate(moved / "manifests" / "benchmark-1.0.0") if finding.severity == "error"]


def test_without_training_decisions_the_training_pairs_are_empty(world):
    for path in (*world.workspace.candidates("train").iterdir(), *world.workspace.annotation("train").iterdir()):
        path.unlink()
    directory = export(world)
    assert table(directory, "train_pairs") == [] and table(directory, "train_pair_images") == []
    assert len(table(directory, "train_basic")) == 2
    world.workspace.images("basic").unlink()
    assert table(export(world), "train_basic") == []
