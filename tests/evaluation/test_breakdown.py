"""Copies by edit: counted again one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ndec_builder.evaluation.metrics.by_edit_kind import UNKNOWN_EDIT, Copies, by_edit_kind, edit_kinds


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
