"""Ids that two images of different roles have."""

from __future__ import annotations

import json

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import pair_id
from ndec_builder.core.storage import read_table
from ndec_builder.manifests.validate import validate
from ndec_builder.manifests.writing.gather import read_material
from ndec_builder.manifests.writing.selection import select_tables
from support.exported import export, table


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
