from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import EDITS, IMAGES, LABEL_ROWS, MANIFEST_TABLES, TASKS, pair_id, table_of
from ndec_builder.core.storage import read_table, write_json, write_table
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.manifests.writing.card import _quality
from ndec_builder.manifests.writing.gather import read_material
from ndec_builder.manifests.writing.lineage import labels_by, lineage
from ndec_builder.manifests.writing.selection import select_tables


def export(world, **options):
    """A fresh export: a version is written once."""
    shutil.rmtree(world.workspace.root / "manifests", ignore_errors=True)
    return run(ExportConfig(world.workspace.root, **options))


def table(directory, name):
    split, schema = MANIFEST_TABLES[name]
    found = pq.read_table(directory / "data" / name / f"{split}-00000-of-00001.parquet")
    assert found.schema.equals(schema)
    return found.to_pylist()


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


def test_a_label_that_was_changed_counts_once(world):
    path = world.workspace.annotation("test") / "labels.parquet"
    before = lineage(world.workspace)["test"]["labels"]
    table = read_table(path)
    old = table.slice(0, 1).to_pylist()[0]
    write_table(path, pa.concat_tables([table, table_of(LABEL_ROWS, [old | {"label": "unsure"}])]))
    after = lineage(world.workspace)["test"]["labels"]
    assert sum(row["count"] for row in after) == sum(row["count"] for row in before)
    names = ("round", "annotator", "label")
    counts = [{tuple(row[name] for name in names): row["count"] for row in rows} for rows in (before, after)]
    who = (old["round"], old["annotator"])
    assert counts[1][*who, "unsure"] == counts[0][*who, "unsure"] + 1
    assert counts[1].get((*who, old["label"]), 0) == counts[0][*who, old["label"]] - 1


def test_simulated_labels_are_said_everywhere(world):
    from ndec_builder.core.storage import read_table

    pairs = {(r["query_id"], r["reference_id"]): None for r in read_table(
        world.workspace.candidates("test") / "candidates.parquet").to_pylist()}  # fmt: skip
    world.decide("test", dict.fromkeys(pairs, "hard_negative"), annotator="oracle")
    write_json(world.workspace.annotation("test") / "agreement.json", {"kappa": 0.5})
    corpus = {"counts": {"usable": 7, "claim": "too few scenes"}, "packages": [{"name": "pics", "version": "1-2"}]}
    write_json(world.workspace.root / "images" / "corpus.run.json", corpus | {"seconds": 3.0})
    directory = export(world)
    info = json.loads((directory / "manifest.json").read_text())
    assert info["labels_by"] == "people and known truth (simulated)"
    assert info["lineage"]["test"]["agreement"] == {"kappa": 0.5}
    assert info["corpus"] == corpus
    text = (directory / "README.md").read_text()
    assert "**Labels by: people and known truth (simulated).**" in text
    assert "(7 usable originals; too few scenes), from the packages pics 1-2." in text


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


def test_a_copy_of_a_query_or_of_a_confirmed_copy_has_the_reference_of_its_source(world):
    """And a copy of a pool image that nobody decided is left out: it may be a copy of a reference."""
    made = {"of-mine": ("query", "mine"), "of-that": ("query", "of-mine"), "of-copy": ("query", "copy-000001"),
            "of-none": ("query", "stranger"), "of-pool": ("pool", "p-copy"), "of-free": ("pool", "free0"),
            "of-far": ("pool", "p-far"), "of-open": ("pool", "p-open"), "of-unsure": ("query", "of-open")}  # fmt: skip
    old = world.workspace.read_images("query").to_pylist()
    new = [old[0] | {"image_id": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in made]
    write_table(world.workspace.images("query"), table_of(IMAGES, sorted([*old, *new], key=lambda r: r["image_id"])))
    before = read_table(world.workspace.edits).to_pylist()
    edits = [
        before[0] | {"image_id": name, "source_role": role, "source_id": source}
        for name, (role, source) in made.items()
    ]
    write_table(world.workspace.edits, table_of(EDITS, before + edits))
    directory = export(world)
    truth = {row["query_id"]: row["reference_id"] for row in table(directory, "ground_truth")}
    expected = {"of-mine": "r3", "of-that": "r3", "of-copy": "r2", "of-none": None, "of-pool": "r1", "of-free": None,
                "of-far": None}  # fmt: skip
    assert {name: truth[name] for name in made if name in truth} == expected
    kinds = {row["query_id"]: row["kind"] for row in table(directory, "queries")}
    assert {kinds[name] for name, match in expected.items() if match} == {"edited_copy"}
    assert {kinds[name] for name, match in expected.items() if not match} == {"distractor"}
    dropped = json.loads((directory / "manifest.json").read_text())["dropped"]
    assert dropped["queries"] == {"copy_of_a_pool_image_without_a_clear_decision": 2}
    assert not [found for found in validate(directory, images=False) if found.code.startswith("M2")]


@pytest.mark.slow
def test_copies_of_a_replaced_reference_are_left_out(world, capsys):
    """Their ingest forgot their record. As distractors, finds of the new picture of the reference would be wrong."""
    rows = {row["image_id"]: row for row in world.workspace.read_images("query").to_pylist()}
    for name in ("copy-000000", "copy-000001"):
        rows[name]["uri"] = f"files/query/{name}.jpg"
    for name in ("copy-000002", "copy-000003", "own"):  # a copy of copy-000000 · declared to be none · of the user
        uri = f"files/query/{name}.jpg" if name != "own" else "files/query/other.jpg"
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        rows[name] = rows["copy-000000"] | {"image_id": name, "uri": uri, "sha256": sha256}
    write_table(world.workspace.images("query"), table_of(IMAGES, [rows[name] for name in sorted(rows)]))
    world.truth(("mine", "r3"), ("stranger", None), ("copy-000003", None))
    edits = [row for row in read_table(world.workspace.edits).to_pylist() if row["image_id"] != "copy-000000"]
    model = next(row for row in edits if row["image_id"] == "copy-000001")
    edits.append(model | {"image_id": "copy-000002", "source_role": "query", "source_id": "copy-000000"})
    write_table(world.workspace.edits, table_of(EDITS, edits))
    directory = export(world)
    truth = {row["query_id"]: row["reference_id"] for row in table(directory, "ground_truth")}
    assert {name: truth[name] for name in rows if name in truth} == {
        "copy-000001": "r2", "copy-000003": None, "mine": "r3", "own": None, "stranger": None,
    }  # fmt: skip
    dropped = json.loads((directory / "manifest.json").read_text())["dropped"]
    assert dropped["queries"] == {"copy_of_an_image_that_was_replaced_or_removed": 2}
    assert "queries left out: 2 edited copies of images that were replaced or removed" in capsys.readouterr().err
    assert not [found for found in validate(directory, images=False) if found.code.startswith("M2")]


def test_refuses_a_test_set_without_positives(world):
    world.images("query", {"stranger": (14, None)})
    world.truth(("stranger", None))
    world.decide("test", {("p-hard", "r1"): "hard_negative"})
    with pytest.raises(NdecError, match=r"(?s)no positives.*ndec edit .*ndec ingest query FOLDER --ground-truth"):
        export(world)
    assert not (world.workspace.root / "manifests").exists()


def _unknown_reference(world):
    world.truth(("mine", "r9"))


def _two_references(world):
    world.truth(("mine", "r3"), ("mine", "r1"))


@pytest.mark.slow
def test_a_pool_image_with_the_id_of_a_query_gets_another_id(world, capsys):
    world.images("query", {"p-hard": (11, None), "mine": (12, None)})
    world.truth(("p-hard", "r1"), ("mine", "r3"))
    directory = export(world)
    kinds = {row["query_id"]: (row["kind"], row["sha256"]) for row in table(directory, "queries")}
    pool = {row["image_id"]: row["sha256"] for row in read_table(world.workspace.images("pool")).to_pylist()}
    assert kinds["p-hard"][0] == "edited_copy" and kinds["pool/p-hard"] == ("hard_negative", pool["p-hard"])
    truth = {row["query_id"]: row["reference_id"] for row in table(directory, "ground_truth")}
    assert truth["p-hard"] == "r1" and truth["pool/p-hard"] is None
    assert json.loads((directory / "manifest.json").read_text())["renamed_pool_images"] == {"pool/p-hard": "p-hard"}
    assert "1 pool image shares its id with a query or training image" in capsys.readouterr().err
    assert not [found for found in validate(directory) if found.code.startswith("M2")]


@pytest.mark.slow
def test_a_pool_image_with_the_id_of_a_basic_image_gets_another_id(world):
    basic = {"b1": (90, None), "b2": (91, None), "t-good": (93, None), "pool/t-good": (94, None)}
    world.images("basic", basic)
    directory = export(world)
    new = "pool/pool/t-good"  # `pool/t-good` is taken
    assert {row["image_id"] for row in table(directory, "train_basic")} == set(basic)
    assert [row["image_id"] for row in table(directory, "train_pair_images")] == [new]
    pairs = {(row["former_id"], row["latter_id"], row["pair_id"]) for row in table(directory, "train_pairs")}
    assert pairs == {(former, new, pair_id("train", new, former)) for former in ("b1", "b2")}
    assert not [found for found in validate(directory) if found.code.startswith("M2")]


def test_equal_ids_of_a_preset_are_refused(world):
    world.images("query", {"p-hard": (11, None)})
    world.truth(("p-hard", "r1"))
    with pytest.raises(NdecError, match="1 id names two queries, 'p-hard' first"):
        select_tables(read_material(world.workspace), 0, 0)


def _undecided(world):
    (world.workspace.annotation("test") / "decisions.parquet").unlink()


@pytest.mark.parametrize(
    ("there", "step"),
    {
        (): r"run `ndec annotate push --split test`, .* then `ndec annotate pull --split test` and .*resolve",
        ("tasks",): r"handed out: .* run `ndec annotate pull --split test` and `ndec annotate resolve --split test`",
        ("tasks", "labels"): r"its labels are pulled: run `ndec annotate resolve --split test`",
    }.items(),
)
def test_before_resolve_export_names_the_next_step(world, there, step):
    _undecided(world)
    (world.workspace.annotation("test") / "labels.parquet").unlink(missing_ok=True)
    for name in there:
        schema = {"tasks": TASKS, "labels": LABEL_ROWS}[name]
        write_table(world.workspace.annotation("test") / f"{name}.parquet", schema.empty_table())
    with pytest.raises(NdecError, match=step):
        export(world)


def test_mined_training_pairs_that_nobody_wants_to_label_can_be_given_up(world):
    for path in world.workspace.annotation("train").iterdir():
        path.unlink()
    with pytest.raises(NdecError, match=r"split train is mined but not decided.* or delete candidates/train for a"):
        export(world)
    shutil.rmtree(world.workspace.candidates("train"))
    assert table(export(world), "train_pairs") == []


def _unmined(world):
    (world.workspace.candidates("test") / "candidates.parquet").unlink()


def _no_references(world):
    world.workspace.images("reference").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_unknown_reference, "'mine' is a copy of the reference 'r9', which is not among the 3"),
        (_two_references, r"'mine' has 2 references \(r1, r3\)"),
        (_undecided, "split test is mined but not decided"),
        (_unmined, "split test is not mined"),
        (_no_references, "has no reference images"),
    ],
)
def test_bad_workspaces(world, change, message):
    change(world)
    with pytest.raises(NdecError, match=message):
        export(world)


@pytest.mark.parametrize(
    "options",
    [{"name": "../x"}, {"name": ""}, {"version": "1"}, {"version": "v1.0.0"}, {"distractors": -1}, {"seed": -1}],
)
def test_bad_settings(world, options):
    with pytest.raises(UsageError):
        export(world, **options)


def test_the_card_says_what_was_skipped_and_withdrawn_and_that_programs_labelled() -> None:
    """`bot` gave 60 labels at 23,000 an hour, so the labels are not called people's."""
    bot = {"annotator": "bot", "labels": 60, "pace": 23_000.0, "gold": {"n": 0}}
    facts = {"test": {"agreement": {"annotators": [bot], "skipped": {"anna": 2, "bert": 1}, "labels_withdrawn": 4}}}
    assert labels_by(["anna", "bot"], facts) == "people and probably programs (bot: faster than a person can label)"
    assert labels_by(["anna"], {"test": {"agreement": None}}) == "people"
    text = "\n".join(_quality(facts["test"] | {"decisions": {}}))
    assert "Skipped: 3 times" in text and "Withdrawn: 4 labels" in text
