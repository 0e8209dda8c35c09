"""Leagues that are run again, names that mean something else, and lists that end before a threshold."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.league import raw_predictions
from ndec_builder.league.table import threshold_text
from support.league_adapters import GREYS, adapter, league

pytestmark = pytest.mark.slow


def test_a_picture_that_is_back_is_given_to_the_detectors_again(small: Any, tmp_path: Path) -> None:
    """The dataset is the same one: its table has the sha256 of the picture that was missing for a while."""
    root = shutil.copytree(small.workspace, tmp_path / "ws")
    copy = SimpleNamespace(workspace=root, manifest=root / small.manifest.relative_to(small.workspace))
    given = adapter(tmp_path, "greys", GREYS.format(fails="-"))
    (root / "queries" / "q03.png").rename(tmp_path / "kept.png")
    lost = league(copy, tmp_path / "out", given)["greys"]
    assert any("1 image failed and count as not found (first: q03:" in note for note in lost["notes"]), lost["notes"]
    (tmp_path / "kept.png").rename(root / "queries" / "q03.png")
    back = league(copy, tmp_path / "out", given)["greys"]
    assert not any("failed" in note for note in back["notes"])
    assert back["numbers"]["all/uap"] == league(small, tmp_path / "other", given)["greys"]["numbers"]["all/uap"]


def test_a_list_named_like_one_of_ndecs_detectors_is_not_taken_for_it(small: Any, tmp_path: Path) -> None:
    path = tmp_path / "odds.csv"
    rows = [f"q{i:02d},r{j:02d},{(2.5 if i == j else -3) - i / 100 - j / 1000}\n" for i in range(12) for j in range(12)]
    path.write_text("".join(rows))
    found = league(small, tmp_path / "out", f"fused={path}", f"asl={path}")
    for name in ("fused", "asl"):
        assert found[name]["numbers"]["all/uap"]["value"] > 0.5 and found[name]["default"] is None
        assert "ece_raw" not in (found[name]["calibration"] or {})


def test_negative_thresholds_are_shown_as_they_are_and_distances_as_the_tool_counts_them() -> None:
    row = {"default": None, "default_source": "", "tuned": -0.35, "distances": False}
    assert threshold_text(row, "tuned") == "-0.35"
    row = {"default": -31.0, "default_source": "its authors", "tuned": -28.0, "distances": True}
    assert threshold_text(row, "default") == "31: its authors" and threshold_text(row, "tuned") == "28"
    assert threshold_text(row | {"tuned": 0.0}, "tuned") == "0"


def test_a_list_that_ends_above_the_threshold_says_that_matches_are_not_counted(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = adapter(tmp_path, "greys", GREYS.format(fails="-"), threshold=60)
    row = league(small, tmp_path / "out", given)["greys"]
    assert row["distances"] and not any("ends" in note for note in row["notes"])
    monkeypatch.setattr(raw_predictions, "MAX_PREDICTIONS", 20)
    row = league(small, tmp_path / "out", given)["greys"]
    assert any(note.startswith("the list ends at ") and "default threshold" in note for note in row["notes"])


def test_a_list_that_is_not_utf_8_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("q1,caf\xe9,0.5\n".encode("latin-1"))
    with pytest.raises(NdecError, match=r"p.csv is not a csv in UTF-8 .* rows `query_id,reference_id,score`"):
        raw_predictions.read_raw(tmp_path / "p.csv", {"q1": 0}, {"r1": 0})


def test_a_league_that_replaces_another_one_says_so(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (adapter(tmp_path, name, GREYS.format(fails="-")) for name in ("greys", "others"))
    league(small, tmp_path / "out", one, two)
    assert "earlier league" not in capsys.readouterr().err
    league(small, tmp_path / "out", one)
    said = " ".join(capsys.readouterr().err.split())
    assert "holds an earlier league, which this one replaces (with others, which this one has not)" in said
    path = tmp_path / "out" / "league.json"
    path.write_text(path.read_text("utf-8").replace('"fingerprint": "', '"fingerprint": "0'), "utf-8")
    league(small, tmp_path / "out", one)
    assert "which this one replaces (on other data: " in " ".join(capsys.readouterr().err.split())
