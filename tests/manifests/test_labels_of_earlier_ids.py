"""Labels that were given while a picture had another id: no image gets a role that contradicts them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ndec_builder.annotation.records.pictures import pictures_tag
from ndec_builder.core.schemas import DECISIONS, LABEL_ROWS, TASKS, pair_id, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from support.decided_world import World, make_world
from support.replaced_picture import list_images

pytestmark = pytest.mark.slow
NOON = datetime.now(UTC) - timedelta(hours=1)
OTHERS = {"test": ("reference", "r1"), "train": ("basic", "b1")}
Given = tuple[str, str, str, int]  # label, annotator, round, minutes after NOON


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def rename(world: World, role: str, old: str, new: str) -> None:
    table = read_table(world.workspace.images(role))
    row = table.filter(pc.equal(table["image_id"], old))
    rest = table.filter(pc.not_equal(table["image_id"], old))
    row = row.set_column(table.column_names.index("image_id"), "image_id", pa.array([new]))
    list_images(world.workspace, role, pa.concat_tables([rest, row.cast(rest.schema)]).sort_by("image_id"))


def label(world: World, split: str, today: list[Given], earlier: list[Given], tagged: bool, decision: str) -> None:
    """Labels of one picture: as `now`, which is decided, and as `before`, the id that it had until now."""
    role, other = OTHERS[split]
    world.images("pool", {"before": (95, None), "p-hard": (20, None)})
    sides = [read_table(world.workspace.images(name), ["image_id", "sha256"]) for name in ("pool", role)]
    shas = [dict(zip(*table.to_pydict().values(), strict=True)) for table in sides]
    tag = pictures_tag(shas[0]["before"], shas[1][other])
    rename(world, "pool", "before", "now")
    world.pairs(split, {("now", other): decision})
    (world.workspace.candidates("test") / "recheck.parquet").unlink()
    rows = [
        {"pair_id": pair_id(split, name, other), "query_id": name, "reference_id": other, "label": value,
         "annotator": who, "round": round_, "annotated_at": NOON + timedelta(minutes=minutes), "is_gold": False,
         "batch": 1, "position": 1, "pictures": tag if tagged else None}
        for name, given in (("now", today), ("before", earlier)) for value, who, round_, minutes in given
    ]  # fmt: skip
    folder = world.workspace.annotation(split)
    for name, schema in (("labels", LABEL_ROWS), ("tasks", TASKS)):
        kept = [{key: row[key] for key in schema.names if key in row} for row in rows]
        write_table(folder / f"{name}.parquet", table_of(schema, kept))
    decided = {"pair_id": pair_id(split, "now", other), "decision": decision, "basis": "agreed", "labels": 1}
    write_table(folder / "decisions.parquet", table_of(DECISIONS, [decided]))


def kind_of(directory: Path) -> str | None:
    rows = open_manifest(directory).table("queries").to_pylist()
    return {row["query_id"]: row["kind"] for row in rows}.get("now")


@pytest.mark.parametrize("tagged", [True, False], ids=["tag", "time only"])
@pytest.mark.parametrize(
    ("decision", "earlier", "kept"),
    [
        ("hard_negative", "edited_copy", False),
        ("hard_negative", "unsure", False),
        ("hard_negative", "unrelated", False),
        ("hard_negative", "hard_negative", True),
        ("edited_copy", "edited_copy", True),
        ("edited_copy", "hard_negative", False),
        ("edited_copy", "unrelated", False),
    ],
)
def test_a_label_under_an_earlier_id_that_contradicts_the_decision(
    world: World, decision: str, earlier: str, kept: bool, tagged: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    label(world, "test", [(decision, "ann", "first", 0)], [(earlier, "bob", "first", 5)], tagged, decision)
    directory = run(ExportConfig(world.workspace.root, distractors=9))
    assert kind_of(directory) == (decision if kept else None)
    dropped = read_json(directory / "manifest.json")["dropped"]["test_pool_images"]
    assert dropped == ({} if kept else {"labelled_otherwise": 1})
    assert ("1 called something else by people" in " ".join(capsys.readouterr().err.split())) is not kept


@pytest.mark.parametrize(
    ("today", "kept"),
    [
        ([("hard_negative", "ann", "first", 9)], False),  # two people disagree
        ([("hard_negative", "bob", "first", 9)], True),  # bob was asked again, and answered
        ([("hard_negative", "bob", "first", 1)], False),  # bob's page of the earlier id was still open
        ([("hard_negative", "ann", "first", 1), ("hard_negative", "cleo", "adjudication", 9)], True),
        ([("hard_negative", "ann", "first", 1), ("hard_negative", "cleo", "adjudication", 2)], False),
    ],
)
def test_a_later_label_of_the_same_person_or_of_an_adjudicator_counts(
    world: World, today: list[Given], kept: bool
) -> None:
    label(world, "test", today, [("edited_copy", "bob", "first", 5)], True, "hard_negative")
    assert kind_of(run(ExportConfig(world.workspace.root))) == ("hard_negative" if kept else None)


def test_a_person_who_changed_the_label_under_the_earlier_id(world: World) -> None:
    earlier: list[Given] = [("edited_copy", "bob", "first", 5), ("hard_negative", "bob", "first", 6)]
    label(world, "test", [("hard_negative", "ann", "first", 0)], earlier, True, "hard_negative")
    assert kind_of(run(ExportConfig(world.workspace.root))) == "hard_negative"


@pytest.mark.parametrize(("minutes", "kept"), [(9, True), (1, False)])
def test_an_adjudication_under_the_earlier_id_settles_what_was_said_before_it(
    world: World, minutes: int, kept: bool
) -> None:
    earlier: list[Given] = [("edited_copy", "bob", "first", 5), ("hard_negative", "cleo", "adjudication", minutes)]
    label(world, "test", [("hard_negative", "ann", "first", 20)], earlier, True, "hard_negative")
    assert kind_of(run(ExportConfig(world.workspace.root))) == ("hard_negative" if kept else None)


@pytest.mark.parametrize(("earlier", "kept"), [("edited_copy", False), ("unrelated", False), ("hard_negative", True)])
def test_a_training_pair_that_was_called_something_else_under_an_earlier_id(
    world: World, earlier: str, kept: bool
) -> None:
    today: list[Given] = [("hard_negative", "ann", "first", 0)]
    label(world, "train", today, [(earlier, "bob", "first", 5)], True, "hard_negative")
    directory = run(ExportConfig(world.workspace.root, train_only=True))
    pairs = [row["latter_id"] for row in open_manifest(directory).table("train_pairs").to_pylist()]
    dropped = read_json(directory / "manifest.json")["dropped"]["train_pairs"]
    assert (pairs, dropped) == ((["now"], {}) if kept else ([], {"labelled_otherwise": 1}))


def test_a_pair_of_another_reference_and_a_renamed_reference(world: World) -> None:
    """The copy is known of r4 only, under the id that r4 had; nobody mined that pair again."""
    world.images("reference", {"r1": (1, "g1"), "r2": (2, "g2"), "r3": (3, None), "r4": (4, None)})
    label(world, "test", [("hard_negative", "ann", "first", 0)], [], True, "hard_negative")
    rows = read_table(world.workspace.images("reference")).to_pylist()
    (sha,) = (row["sha256"] for row in rows if row["image_id"] == "r4")
    pool = {row["image_id"]: row["sha256"] for row in read_table(world.workspace.images("pool")).to_pylist()}
    rename(world, "reference", "r4", "r4-again")
    folder, pair = world.workspace.annotation("test"), {"pair_id": "x", "round": "first", "annotator": "bob"}
    given = pair | {"label": "edited_copy", "annotated_at": NOON, "pictures": pictures_tag(pool["now"], sha)}
    task = pair | {"query_id": "now", "reference_id": "r4", "is_gold": False, "batch": 1}
    for name, row, schema in (("labels", given | {"is_gold": False}, LABEL_ROWS), ("tasks", task, TASKS)):
        path = folder / f"{name}.parquet"
        write_table(path, pa.concat_tables([read_table(path), table_of(schema, [row])]))
    assert kind_of(run(ExportConfig(world.workspace.root))) is None


def rows_of(world: World, labels: list[tuple[str, str, str, str, int, str | None]]) -> None:
    """Labels of split test with their tasks: (query, reference, label, annotator, minutes after NOON, tag)."""
    rows = [
        {"pair_id": pair_id("test", query, reference), "query_id": query, "reference_id": reference, "label": value,
         "annotator": who, "round": "first", "annotated_at": NOON + timedelta(minutes=minutes), "is_gold": False,
         "batch": 1, "position": 1, "pictures": tag}
        for query, reference, value, who, minutes, tag in labels
    ]  # fmt: skip
    for name, schema in (("labels", LABEL_ROWS), ("tasks", TASKS)):
        kept = [{key: row[key] for key in schema.names if key in row} for row in rows]
        write_table(world.workspace.annotation("test") / f"{name}.parquet", table_of(schema, kept))


def decide(world: World, *pairs: tuple[str, str]) -> None:
    world.pairs("test", dict.fromkeys(pairs, "hard_negative"))
    (world.workspace.candidates("test") / "recheck.parquet").unlink()
    decided = [
        {"pair_id": pair_id("test", *pair), "decision": "hard_negative", "basis": "agreed", "labels": 1}
        for pair in pairs
    ]
    write_table(world.workspace.annotation("test") / "decisions.parquet", table_of(DECISIONS, decided))


def pictures(world: World, role: str) -> dict[str, str]:
    table = read_table(world.workspace.images(role), ["image_id", "sha256"])
    return dict(zip(*table.to_pydict().values(), strict=True))


@pytest.mark.parametrize("tagged", [True, False], ids=["tag", "time only"])
def test_both_pictures_have_other_ids_now(world: World, tagged: bool) -> None:
    world.images("pool", {"before": (95, None), "p-hard": (20, None)})
    world.images("reference", {"r1": (1, "g1"), "r2": (2, "g2"), "r3": (3, None), "r4": (4, None)})
    tag = pictures_tag(pictures(world, "pool")["before"], pictures(world, "reference")["r4"]) if tagged else None
    rename(world, "pool", "before", "now")
    rename(world, "reference", "r4", "r9")
    decide(world, ("now", "r9"))
    today = ("now", "r9", "hard_negative", "ann", 9, None)
    rows_of(world, [today, ("before", "r4", "edited_copy", "bob", 0, tag)])
    assert kind_of(run(ExportConfig(world.workspace.root))) is None
    rows_of(world, [today, ("before", "r4", "hard_negative", "bob", 0, tag)])
    assert kind_of(run(ExportConfig(world.workspace.root, version="1.1.0"))) == "hard_negative"


@pytest.mark.parametrize("tagged", [True, False], ids=["tag", "time only"])
def test_two_pictures_that_swapped_their_names(world: World, tagged: bool) -> None:
    """Bob called the picture a copy that was `now` and is `other`."""
    world.images("pool", {"now": (95, None), "other": (96, None)})
    tag = pictures_tag(pictures(world, "pool")["now"], pictures(world, "reference")["r1"]) if tagged else None
    for old, new in (("now", "third"), ("other", "now"), ("third", "other")):
        rename(world, "pool", old, new)
    decide(world, ("now", "r1"), ("other", "r1"))
    today = [(name, "r1", "hard_negative", "ann", 90, None) for name in ("now", "other")]
    rows_of(world, [*today, ("now", "r1", "edited_copy", "bob", 0, tag)])
    directory = run(ExportConfig(world.workspace.root))
    kinds = {row["query_id"]: row["kind"] for row in open_manifest(directory).table("queries").to_pylist()}
    assert kinds.get("now") == "hard_negative" and "other" not in kinds
