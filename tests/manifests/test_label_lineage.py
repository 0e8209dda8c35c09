"""What a dataset says about its labels: who gave them, which count, what was skipped and withdrawn."""

from __future__ import annotations

import json

import pyarrow as pa

from ndec_builder.core.schemas import LABEL_ROWS, table_of
from ndec_builder.core.storage import read_table, write_json, write_table
from ndec_builder.manifests.writing.card import _quality
from ndec_builder.manifests.writing.lineage import labels_by, lineage
from support.exported import export


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


def test_the_card_says_what_was_skipped_and_withdrawn_and_that_programs_labelled() -> None:
    """`bot` gave 60 labels at 23,000 an hour, so the labels are not called people's."""
    bot = {"annotator": "bot", "labels": 60, "pace": 23_000.0, "gold": {"n": 0}}
    facts = {"test": {"agreement": {"annotators": [bot], "skipped": {"anna": 2, "bert": 1}, "labels_withdrawn": 4}}}
    assert labels_by(["anna", "bot"], facts) == "people and probably programs (bot: faster than a person can label)"
    assert labels_by(["anna"], {"test": {"agreement": None}}) == "people"
    text = "\n".join(_quality(facts["test"] | {"decisions": {}}))
    assert "Skipped: 3 times" in text and "Withdrawn: 4 labels" in text
