"""Copies by edit: counted again one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ndec_builder.evaluation.metrics.by_edit_kind import UNKNOWN_EDIT, Copies, by_edit_kind, edit_kinds
from ndec_builder.league.measures import blind_to


def edit(share: float, adds: bool, *operations: str) -> str:
    records = [{"operation": name, "parameters": {}} for name in operations]
    return json.dumps({"edits": records, "content_share": share, "adds_content": adds})


def test_by_edit_kind() -> None:
    edits = [edit(0.2, False, "crop", "jpeg"), edit(0.5, True, "crop", "pad"), edit(1.0, False, "jpeg"), None]
    kinds = edit_kinds(edits)
    assert list(kinds) == [
        UNKNOWN_EDIT,
        "less than 30 % of the original left", "30–60 % left", "all of it left", "adds content", "adds no content",
        "crop", "jpeg", "pad",
    ]  # fmt: skip
    assert kinds[UNKNOWN_EDIT].tolist() == [False, False, False, True]
    assert kinds["crop"].tolist() == [True, True, False, False]
    assert kinds["adds no content"].tolist() == [True, False, True, False]
    found, kept = np.array([True, True, False, True]), np.array([True, False, False, True])
    rows = by_edit_kind(Copies(np.array([0, 1, 2, 3]), found, kept, kinds), 4, 100, 0)
    assert rows["crop"]["copies"] == 2 and rows["crop"]["recall_at_n"]["value"] == 1.0
    assert rows["crop"]["kept"]["value"] == 0.5 and rows["jpeg"]["recall_at_n"]["value"] == 0.5
    assert rows["all of it left"]["kept"]["value"] is None  # none of it found: nothing to keep
    assert "kept" not in by_edit_kind(Copies(np.arange(4), found, None, kinds), 4, 100, 0)["crop"]


def test_intervals_are_over_groups() -> None:
    edits = [edit(1.0, False, "jpeg")] * 40
    found = np.arange(40) % 2 == 0
    alone = by_edit_kind(Copies(np.arange(40), found, None, edit_kinds(edits)), 40, 400, 0)["jpeg"]["recall_at_n"]
    paired = by_edit_kind(Copies(np.arange(40) % 4, found, None, edit_kinds(edits)), 4, 400, 0)["jpeg"]["recall_at_n"]
    assert alone["value"] == paired["value"] == 0.5
    assert paired["high"] - paired["low"] > 1.5 * (alone["high"] - alone["low"])
    assert alone["high"] - alone["low"] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.2)


@pytest.mark.parametrize(
    ("found", "low", "high"), [(False, 0.0, 1 - 0.025 ** (1 / 10)), (True, 0.025 ** (1 / 10), 1.0)]
)
def test_a_recall_of_none_or_all_has_the_exact_interval(found: bool, low: float, high: float) -> None:
    kinds = edit_kinds([edit(1.0, False, "jpeg")] * 10)
    row = by_edit_kind(Copies(np.arange(10), np.full(10, found), None, kinds), 12, 200, 0)["jpeg"]["recall_at_n"]
    assert row["value"] == float(found)
    assert (row["low"], row["high"]) == pytest.approx((low, high))  # P(10 misses) = 2.5 % at the upper end


def test_copies_of_one_group_count_as_fewer() -> None:
    kinds = edit_kinds([edit(1.0, False, "jpeg")] * 6)
    group = np.array([0, 0, 0, 0, 1, 2])  # (4 + 1 + 1)² / (16 + 1 + 1) = 2 independent ones
    row = by_edit_kind(Copies(group, np.zeros(6, bool), None, kinds), 3, 200, 0)["jpeg"]["recall_at_n"]
    assert row["high"] == pytest.approx(1 - 0.025 ** (1 / 2))


@pytest.mark.parametrize(("copies", "blind"), [(14, []), (15, ["adds no content", "all of it left", "jpeg"])])
def test_few_copies_never_show_that_a_detector_cannot_find_an_edit(copies: int, blind: list[str]) -> None:
    kinds = edit_kinds([edit(1.0, False, "jpeg")] * copies)
    rows = by_edit_kind(Copies(np.arange(copies), np.zeros(copies, bool), None, kinds), copies, 200, 0)
    found = {name: {"copies": row["copies"], "recall": row["recall_at_n"]} for name, row in rows.items()}
    assert sorted(blind_to(found)) == blind
