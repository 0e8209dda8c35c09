"""The reference of a copy is that of the image that it was made from."""

from __future__ import annotations

import hashlib
import json

import pytest

from ndec_builder.core.schemas import EDITS, IMAGES, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.manifests.validate import validate
from support.decided_world import LICENCE
from support.exported import export, table


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


def test_copies_have_the_group_and_licence_that_their_source_has_today(world):
    """The references were ingested again, by video and with a licence, after the copies were made."""
    before = read_table(world.workspace.edits).to_pylist()
    again = before[0] | {"image_id": "mine", "source_role": "query", "source_id": "copy-000000"}
    write_table(world.workspace.edits, table_of(EDITS, [*before, again]))
    world.truth(("stranger", None))
    rows = world.workspace.read_images("reference").to_pylist()
    rows[0] |= {"group": "video/a#1", "license": "CC0-1.0", "author": None}
    rows[1] |= {"group": "video/a#1"}
    write_table(world.workspace.images("reference"), table_of(IMAGES, rows))
    directory = export(world)
    found = {row["query_id"]: row for row in table(directory, "queries")}
    names = ("copy-000000", "mine", "copy-000001")
    assert [found[name]["group"] for name in names] == ["video/a#1"] * 3
    assert [found[name]["license"] for name in names] == ["CC0-1.0", "CC0-1.0", LICENCE["license"]]
    assert [found[name]["author"] for name in names] == [None, None, LICENCE["author"]]
    assert found["stranger"]["group"] == "g-str"


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
