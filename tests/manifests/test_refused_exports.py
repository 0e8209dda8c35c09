"""Workspaces and settings that `ndec export` refuses, and what it says to do."""

from __future__ import annotations

import shutil

import pytest

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.schemas import LABEL_ROWS, TASKS
from ndec_builder.core.storage import write_table
from support.exported import export, table


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
