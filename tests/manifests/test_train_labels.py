"""Two pictures that people labelled in different ways are no hard negative for training, whatever their ids are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ndec_builder.core.schemas import PAIRS, table_of
from ndec_builder.core.storage import read_json, write_table
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from support.decided_world import World, make_world

pytestmark = pytest.mark.slow
Labels = dict[tuple[str, str], str | None]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """t-good and t-again are the same file, and so are b1 and b-again."""
    made = make_world(tmp_path)
    made.images("basic", {"b1": (90, "bb"), "b2": (91, None), "b-again": (90, "bb")})
    names = ("t-good", "t-copy", "t-open", "t-again", "t-other")
    pool = {name: (50 + place, f"t{place}") for place, name in enumerate(names)} | {"t-again": (50, "t0")}
    made.images("pool", pool | dict.fromkeys(("p-hard", "p-twin"), (20, None)))
    return made


def exported(world: World, labels: Labels) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
    world.pairs("train", labels)
    world.decide("train", labels)
    directory = run(ExportConfig(world.workspace.root))
    rows = open_manifest(directory).table("train_pairs").to_pylist()
    dropped = read_json(directory / "manifest.json")["dropped"]["train_pairs"]
    return sorted((row["latter_id"], row["former_id"], row["basis"]) for row in rows), dropped


@pytest.mark.parametrize("other", ["edited_copy", "unsure", "duplicate"])
def test_a_twin_that_is_no_hard_negative_outweighs(
    world: World, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels: Labels = {
        ("t-again", "b1"): "hard_negative",
        ("t-good", "b-again"): other,
        ("t-other", "b2"): "hard_negative",
    }
    found, dropped = exported(world, labels)
    assert found == [("t-other", "b2", "agreed")] and dropped == {"labelled_otherwise": 1}
    said = " ".join(capsys.readouterr().err.split())
    assert "training pairs left out: 1 called something else by people, under the ids of twins" in said


@pytest.mark.parametrize("other", ["hard_negative", "unrelated", None])
def test_twins_without_a_contradiction_are_one_pair(world: World, other: str | None) -> None:
    found, dropped = exported(world, {("t-again", "b1"): "hard_negative", ("t-good", "b-again"): other})
    assert found == [("t-again", "b-again", "agreed")] and dropped == {}


def test_own_decisions_outweigh_an_ingested_release(world: World) -> None:
    released = [("t-good", "b1"), ("t-copy", "b1"), ("t-copy", "b2"), ("t-open", "b1"), ("t-open", "b2")]
    rows = [{"pair_id": f"{n:05}", "former_id": b, "latter_id": t} for n, (t, b) in enumerate(released)]
    write_table(world.workspace.pairs, table_of(PAIRS, rows))
    labels: Labels = {("t-good", "b1"): "hard_negative", ("t-copy", "b1"): "edited_copy", ("t-copy", "b2"): "unrelated"}
    labels |= {("t-open", "b1"): None}
    found, dropped = exported(world, labels)
    assert found == [
        ("t-again", "b-again", "agreed"), ("t-open", "b-again", "ingested"), ("t-open", "b2", "ingested"),
    ]  # fmt: skip
    assert dropped == {"labelled_otherwise": 2}
