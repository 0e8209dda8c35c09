"""Suggestions: off by default, never in the audit or the slice, and they do not reveal gold pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.annotation.assignment.hints import NO_SUGGESTION, suggestions
from ndec_builder.annotation.decisions.clearing import slice_pairs
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.task_sync import task_data
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import CANDIDATES, GOLD, table_of
from ndec_builder.core.storage import write_table
from ndec_builder.core.workspace import Workspace


@pytest.fixture
def bench(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    rows = [
        {"pair_id": f"{n:016x}", "query_id": f"q{n}", "reference_id": "r", "rank": n + 1, "score": 0.875,
         "prelabel": "edited_copy" if n < 20 else "hard_negative", "prelabel_confidence": 0.97}
        for n in range(30)
    ]  # fmt: skip
    write_table(workspace.candidates("test") / "candidates.parquet", table_of(CANDIDATES, rows))
    gold = [
        {"pair_id": "f" * 16, "truth": "edited_copy"}, {"pair_id": "e" * 16, "truth": "hard_negative"},
    ]  # fmt: skip
    write_table(workspace.annotation("test") / "gold.parquet", table_of(GOLD, gold))
    return workspace


def test_no_suggestion_is_shown_unless_hints_are_on(bench: Workspace) -> None:
    assert suggestions(AnnotationTables(bench, "test"), "first") is None and "$hint" not in projects.labelling_page(
        False
    )
    AnnotationTables(bench, "test").keep_options(False, 0.9, 0)
    assert suggestions(AnnotationTables(bench, "test"), "first") is None
    AnnotationTables(bench, "test").keep_options(True, 0.9, 0)
    assert suggestions(AnnotationTables(bench, "test"), "audit") is None  # the audit is blind whatever is switched on
    shown = suggestions(AnnotationTables(bench, "test"), "double_check")
    assert shown is not None and projects.labelling_page(True).count("$hint") == 1
    first = shown["0" * 16]
    assert first.text == "rank 1 · similarity 0.875 · edited_copy (97%)"
    (prediction,) = first.predictions
    assert prediction["score"] == pytest.approx(0.97) and prediction["result"][0]["value"] == {
        "choices": ["edited_copy"]
    }
    assert shown[f"{25:016x}"].label == "hard_negative"
    assert "hint" not in task_data("", {"pair_id": "p", "position": 1}) and NO_SUGGESTION.predictions == []


def test_a_gold_pair_shows_the_suggestion_of_a_mined_pair_of_its_kind(bench: Workspace) -> None:
    AnnotationTables(bench, "test").keep_options(True, 0.9, 0)
    shown = suggestions(AnnotationTables(bench, "test"), "first")
    assert shown is not None
    mined = {pair: value for pair, value in shown.items() if not pair.startswith(("e", "f"))}
    for pair, label in (("f" * 16, "edited_copy"), ("e" * 16, "hard_negative")):
        assert shown[pair].label == label and shown[pair] in mined.values()


def test_the_slice_that_checks_auto_clearing_is_labelled_blind(bench: Workspace) -> None:
    AnnotationTables(bench, "test").keep_options(True, 0.9, 6)
    chosen = slice_pairs({f"{n:016x}": 0.97 for n in range(20)}, 0.9, 6)
    shown = suggestions(AnnotationTables(bench, "test"), "first")
    assert shown is not None and {pair for pair, value in shown.items() if value == NO_SUGGESTION} == set(chosen)
