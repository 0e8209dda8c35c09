"""Distractors: unmined images that are not close to a reference; what is passed over is counted."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndec_builder.manifests import export
from ndec_builder.manifests.export import run
from ndec_builder.manifests.read import open_manifest
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.writing import distractors
from ndec_builder.manifests.writing.distractors import CLOSE, GROUPED, below_the_cut
from support.decided_world import World

CLOSE_IDS = {"free1", "free2"}


def exported(world: World, monkeypatch: pytest.MonkeyPatch, compared: bool) -> tuple[set[str], dict[str, Any], str]:
    """(distractors, manifest.json, card) of an export that wants all of them."""
    find = (lambda ids: CLOSE_IDS & set(ids)) if compared else None
    monkeypatch.setattr(export, "close_to_references", lambda workspace: find)
    directory = run(ExportConfig(world.workspace.root, distractors=1000))
    rows = open_manifest(directory).table("queries").to_pylist()
    drawn = {row["query_id"] for row in rows if row["kind"] == "distractor" and row["query_id"].startswith("free")}
    return drawn, json.loads((directory / "manifest.json").read_text()), (directory / "README.md").read_text()


def test_images_close_to_a_reference_are_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = {name for name in world.workspace.read_images("pool")["image_id"].to_pylist() if name.startswith("free")}
    drawn, info, card = exported(world, monkeypatch, compared=True)
    assert not drawn & CLOSE_IDS and every >= CLOSE_IDS
    dropped = info["dropped"]["distractors"]
    assert dropped[CLOSE] == len(CLOSE_IDS)
    assert info["settings"]["distractors_compared"] is True
    assert "each is below the lowest score of the mined pairs" in card
    said = " ".join(capsys.readouterr().err.split())
    assert "2 pool images were passed over as distractors" in said
    assert "`ndec annotate recheck --distractors 2` and `ndec annotate push`" in said


def test_distractors_that_were_not_compared_are_called_so(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn, info, card = exported(world, monkeypatch, compared=False)
    assert drawn >= CLOSE_IDS and CLOSE not in info["dropped"]["distractors"]
    assert info["settings"]["distractors_compared"] is False
    assert "they were not compared with the references" in card
    assert "the distractors were not compared with the references" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_images_of_a_closed_group_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, before, _ = exported(world, monkeypatch, compared=False)
    pool = world.workspace.read_images("pool").to_pylist()
    seeds = {row["image_id"]: (place, row["group"]) for place, row in enumerate(pool, 40)}
    world.images("pool", seeds | {"sibling": (39, "g1")})
    directory = run(ExportConfig(world.workspace.root, name="after", distractors=1000))
    dropped = json.loads((directory / "manifest.json").read_text())["dropped"]["distractors"]
    assert dropped[GROUPED] == before["dropped"]["distractors"].get(GROUPED, 0) + 1


IDS = [f"i{number:02d}" for number in range(20)]


@given(st.sets(st.sampled_from(IDS)), st.integers(1, 25), st.integers(1, 25), st.integers(0, 5))
def test_the_first_images_below_the_cut_in_a_random_order(close: set[str], few: int, many: int, seed: int) -> None:
    few, many = sorted((few, many))
    ids = pa.array(IDS)
    order = [IDS[row] for row in np.random.default_rng(seed).permutation(len(IDS))]
    want = [name for name in order if name not in close]
    found = {}
    for count in (few, many):
        rows, passed = below_the_cut(ids, count, seed, lambda names: close & set(names))
        found[count] = [IDS[row] for row in rows]
        assert found[count] == want[:count]
        last = order.index(want[count - 1]) if count <= len(want) else len(order) - 1
        assert passed == sum(name in close for name in order[: last + 1])
    assert found[many][: len(found[few])] == found[few]


def test_a_draw_in_pieces_equals_one_in_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    close = set(IDS[::3])
    whole = below_the_cut(pa.array(IDS), 8, 1, lambda names: close & set(names))
    monkeypatch.setattr(distractors, "_COMPARED", 1)
    pieces = below_the_cut(pa.array(IDS), 8, 1, lambda names: close & set(names))
    assert pieces[0].tolist() == whole[0].tolist() and pieces[1] == whole[1]
