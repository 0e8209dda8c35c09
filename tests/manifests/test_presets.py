"""The NDEC split out of ingested parts, at a small size: the same rules, the counts given to the function."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ndec_builder.candidates.kept_queries import KeptQueries
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import EDITS, GROUND_TRUTH, IMAGES, PAIRS, TRAIN_PAIRS, pair_id, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from ndec_builder.manifests.writing.gather import read_material
from ndec_builder.manifests.writing.presets import NDEC, Composition, compose
from ndec_builder.manifests.writing.selection import Material, select_tables
from support.decided_world import World

SMALL = Composition(references=4, edited_copies=2, easy_negatives=3, hard_negatives=2, basic=5, pairs=2)


def images(*ids: str) -> pa.Table:
    rows = [{"image_id": name, "uri": f"{name}.jpg", "sha256": f"{place:064x}"} for place, name in enumerate(ids)]
    return table_of(IMAGES, [row | {"sha256": pair_id("x", row["image_id"], "") * 4} for row in rows])


def material(**changes: object) -> Material:
    pair = {"former_id": "T000001", "latter_id": "open2", "basis": "ingested"}
    parts: dict[str, object] = {
        "references": images("R000000", "R000001", "R000002", "R000003"),
        "pool": images("open0", "open1", "open2"),
        "queries": images("Q25000", "Q25001", "Q30000", "Q49998", "Q49999", "Q50000", "Q74251"),
        "basic": images(*(f"T{place:06d}" for place in range(5))),
        "edits": EDITS.empty_table(),
        "truth": table_of(
            GROUND_TRUTH,
            [{"query_id": "Q25001", "reference_id": "R000002"}, {"query_id": "Q49999", "reference_id": "R000000"}],
        ),
        "kept": KeptQueries({}, {}),
        "train_pairs": table_of(TRAIN_PAIRS, [pair | {"pair_id": pair_id("train", "open2", "T000001")}]),
        "mined": pa.array(["open2"], pa.string()),
        "hard_queries": pa.array([], pa.string()),
    }
    return Material(**(parts | changes))  # type: ignore[arg-type]


def test_the_split_is_composed_by_the_ids() -> None:
    composed, facts = compose(material(), SMALL, False)
    tables = select_tables(composed, 0, 0).tables
    kinds = {row["query_id"]: (row["kind"], row["hard_kind"]) for row in tables["queries"].to_pylist()}
    assert kinds == {
        "Q25000": ("distractor", None),
        "Q25001": ("edited_copy", None),
        "Q30000": ("distractor", None),
        "Q49998": ("distractor", None),
        "Q49999": ("edited_copy", None),
        "Q50000": ("hard_negative", "natural"),
        "Q74251": ("hard_negative", "natural"),
    }
    assert [(row["former_id"], row["latter_id"]) for row in tables["train_pairs"].to_pylist()] == [("T000001", "open2")]
    assert facts == {"name": "ndec", "partial": False, "differs": {"pairs": {"found": 1, "published": 2}}}


def test_own_hard_negatives_come_from_the_decisions() -> None:
    own = material(
        queries=images("Q25000", "Q25001", "Q30000", "Q49998", "Q49999"), kept=KeptQueries({"open0": ["R000001"]}, {})
    )
    tables = select_tables(compose(own, SMALL, False)[0], 0, 0).tables
    assert "open0" in tables["queries"]["query_id"].to_pylist()


def test_dev_set_one_is_refused_unless_declared_a_hard_negative() -> None:
    queries = images("Q00000", "Q24999", "Q25000", "Q25001", "Q30000", "Q49998", "Q49999")
    with pytest.raises(NdecError, match=r"2 queries are DISC21 dev set I \(Q00000–Q24999\).*Q00000, Q24999"):
        compose(material(queries=queries), SMALL, True)
    declared = material(queries=queries, hard_queries=pa.array(["Q00000", "Q24999"]))
    kinds = select_tables(compose(declared, SMALL, False)[0], 0, 0).tables["queries"]
    assert {row["query_id"] for row in kinds.to_pylist() if row["kind"] == "hard_negative"} == {"Q00000", "Q24999"}


def test_copies_that_are_no_disc_query_are_refused() -> None:
    truth = table_of(GROUND_TRUTH, [{"query_id": "Q50000", "reference_id": "R000001"}])
    with pytest.raises(NdecError, match="1 queries have a reference and are not DISC21 dev set II"):
        compose(material(truth=truth), SMALL, False)


def test_all_that_is_missing_is_said_at_once() -> None:
    bare = material(
        queries=images("Q25000"),
        truth=GROUND_TRUTH.empty_table(),
        basic=images("T000000"),
        train_pairs=TRAIN_PAIRS.empty_table(),
    )
    with pytest.raises(NdecError) as error:
        compose(bare, SMALL, False)
    text = str(error.value)
    for part in (
        "edited_copies: 0 of 2",
        "easy_negatives: 1 of 3",
        "hard_negatives: 0 of 2",
        "basic: 1 of 5",
        "pairs: 0 of 2",
    ):
        assert part in text
    assert "references:" not in text and "--partial" in text
    with pytest.raises(NdecError, match="edited_copies: 0 of 2"):
        compose(bare, SMALL, True)


def test_partial_records_what_differs() -> None:
    _, facts = compose(material(basic=images("T000001")), replace(SMALL, references=9), True)
    assert facts["partial"] and facts["differs"]["references"] == {"found": 4, "published": 9}
    assert facts["differs"]["basic"] == {"found": 1, "published": 5}


def test_published_counts() -> None:
    assert NDEC.edited_copies + NDEC.easy_negatives == 25_000
    assert NDEC.edited_copies + NDEC.easy_negatives + NDEC.hard_negatives == 49_252


@pytest.fixture
def release(world: World) -> World:
    """Queries and pairs as they come from a release: nothing mined, nothing decided."""
    for split in ("test", "train"):
        for folder in (world.workspace.candidates(split), world.workspace.annotation(split)):
            for path in folder.iterdir():
                path.unlink()
    world.workspace.edits.unlink()
    world.images("query", {"Q25000": (3, None), "Q25001": (14, None), "Q60000": (15, None)})
    world.truth(("Q25000", "r3"))
    pairs = [("b1", "t-good"), ("b2", "t-copy"), ("b1", "t-copy")]
    rows = [
        {"pair_id": pair_id("train", latter, former), "former_id": former, "latter_id": latter}
        for former, latter in pairs
    ]
    write_table(world.workspace.pairs, table_of(PAIRS, rows))
    return world


def test_export_of_a_partial_ndec(release: World) -> None:
    with pytest.raises(NdecError, match=r"references: 3 of 1,000,000.*edited_copies: 1 of 5,009") as error:
        run(ExportConfig(release.workspace.root, preset="ndec"))
    assert str(error.value).count("ndec ingest") >= 4
    directory = run(ExportConfig(release.workspace.root, preset="ndec", partial=True))
    info = json.loads((directory / "manifest.json").read_text())
    assert info["counts"]["queries"] == {"distractor": 1, "edited_copy": 1, "hard_negative": 1}
    assert info["counts"]["rows"]["train_pairs"] == 3 and info["ingested_pairs"]["rows"] == 3
    assert info["preset"]["differs"]["references"] == {"found": 3, "published": 1_000_000}
    text = (directory / "README.md").read_text()
    assert (
        "parts of the NDEC benchmark, not all of them" in text and "3 training pairs came with another dataset" in text
    )
    assert {finding.code for finding in validate(directory)} == {"M401", "M403"}


def test_hard_queries_by_a_list(release: World, tmp_path: Path) -> None:
    listed = tmp_path / "hard.txt"
    listed.write_bytes(b"\xef\xbb\xbfQ60000\r\n\r\nQ25001\r\n")  # a BOM, CRLF and a blank line
    directory = run(ExportConfig(release.workspace.root, hard_queries=listed))
    info = json.loads((directory / "manifest.json").read_text())
    assert info["counts"]["queries"] == {"edited_copy": 1, "hard_negative": 2}
    for content, message in ((b"Q60000\nnobody\n", "'nobody' first"), (b"", "names 0 ids"), (b"\xff\xfe", "not UTF-8")):
        listed.write_bytes(content)
        with pytest.raises(NdecError, match=message):
            read_material(release.workspace, listed)
    with pytest.raises(UsageError, match="is not a file"):
        read_material(release.workspace, tmp_path / "none")
    listed.write_text("Q25000\n")  # it has a reference
    with pytest.raises(NdecError, match="declared hard negatives and have a reference"):
        run(ExportConfig(release.workspace.root, hard_queries=listed))


def test_distractors_do_not_go_with_the_preset(world: World) -> None:
    with pytest.raises(UsageError, match="Q25000–Q49999"):
        run(ExportConfig(world.workspace.root, preset="ndec", distractors=3))
    with pytest.raises(UsageError, match="preset is 'ndek'; it must be own or ndec; did you mean 'ndec'"):
        run(ExportConfig(world.workspace.root, preset="ndek"))
