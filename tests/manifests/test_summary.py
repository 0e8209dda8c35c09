"""What `ndec export` prints: no code of manifest.json, and the next command where a decision is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.candidates.kept_queries import DROP_REASONS
from ndec_builder.manifests.export import run
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.writing.summary import summary_lines


def info(**changes: Any) -> dict[str, Any]:
    settings = {"distractors_drawn": 0, "distractors_compared": True}
    return {
        "counts": {"queries": {"hard_negative": 3}}, "dropped": {}, "lineage": {}, "settings": settings,
        "credentials_removed": 0,
    } | changes  # fmt: skip


def undecided(pairs: int, never_assigned: int, split: str = "test") -> dict[str, Any]:
    return {split: {"undecided": {"pairs": pairs, "never_assigned": never_assigned}}}


def test_nothing_to_say_about_a_complete_dataset() -> None:
    assert summary_lines(info(), requested=0) == []


@pytest.mark.parametrize("reason", DROP_REASONS)
def test_every_reason_of_the_selection_is_said_in_words(reason: str) -> None:
    line = summary_lines(info(dropped={"test_pool_images": {reason: 1200, "no_longer_in_pool": 0}}), 0)[0]
    assert line.startswith("mined pool images that are no hard-negative query: 1,200 ")
    assert "_" not in line and "0 no longer" not in line


def test_the_reasons_in_the_data_dictionary_have_words() -> None:
    text = Path("manifests/DATA_DICTIONARY.md").read_text("utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| dropped |"))
    codes = {code for code in re.findall(r"`([a-z_]+)`", row) if "_" in code} - {"listed_images"}
    assert len(codes) >= 6
    assert not [code for code in codes if code in summary_lines(info(dropped={"distractors": {code: 1}}), 0)[0]]


def test_queries_that_were_not_searched_again_are_named() -> None:
    (line,) = summary_lines(info(lineage={"test": {"mining": {"queries_not_rechecked": 30}}}), 0)
    assert line.startswith("30 hard-negative queries were not searched again") and "`ndec annotate recheck`" in line


def test_pairs_that_nobody_got_are_pushed_next() -> None:
    (line,) = summary_lines(info(lineage=undecided(20, 18)), 0)
    assert "20 pairs of split test without a decision, 18 of them given to nobody yet" in line
    commands = re.findall(r"`(.*?)`", line)
    assert commands == ["ndec annotate push", "ndec annotate pull", "ndec annotate resolve"]


def test_pairs_that_somebody_has_are_labelled_next() -> None:
    (line,) = summary_lines(info(lineage=undecided(1, 0, "train")), 0)
    assert line.startswith("1 pair of split train without a decision: label them")
    assert "`ndec annotate pull --split train`" in line and "push" not in line


def test_distractors_that_the_descriptor_does_not_see_are_announced() -> None:
    settings = {"distractors_drawn": 70, "distractors_compared": True}
    short, unseen = summary_lines(info(settings=settings), requested=300)
    assert short == "300 distractors were requested; the unmined pool has only 70"
    assert "none reaches the mining cut" in unseen and "ndec annotate recheck --distractors 50" in unseen


def test_the_lines_of_a_real_export_hold_no_code(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    directory = run(ExportConfig(world.workspace.root, distractors=50))
    said = " ".join(capsys.readouterr().err.split())
    dropped = json.loads((directory / "manifest.json").read_text("utf-8"))["dropped"]
    codes = {reason for reasons in dropped.values() for reason in reasons if "_" in reason}
    assert codes and not [code for code in codes if code in said]
