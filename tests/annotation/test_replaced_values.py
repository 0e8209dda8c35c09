"""Values kept of a pair are about the pictures that it showed then: pre-labels, clearing, the recall certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ndec_builder.annotation import auto_clear, resolve
from ndec_builder.annotation.decisions.clearing import slice_pairs
from ndec_builder.annotation.label_tables import copy_probabilities
from ndec_builder.annotation.records.pictures import ShownPictures
from ndec_builder.annotation.settings import AutoClearConfig, ResolveConfig, StatusConfig
from ndec_builder.annotation.staleness import older_decisions
from ndec_builder.annotation.status import former_text
from ndec_builder.annotation.stopping.progress import certificate_line, certificate_progress
from ndec_builder.core.schemas import CANDIDATES, IMAGES, PRELABELS, table_of
from ndec_builder.core.storage import read_json, read_table, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.pictures_over_time import record_replaced
from support.replaced_picture import Team, replace_picture
from support.review import Review

SLICE = 9  # so many copies prove 40 %


@pytest.fixture
def team(make_team: Callable[..., Team]) -> Team:
    """12 mined pairs that mining calls copies."""
    made = make_team(count=12)
    prelabel(made.workspace, 0.95)
    return made


def prelabel(workspace: Workspace, copy: float, query: str = "") -> None:
    """What mining says of all pairs, or of those of one query."""
    path = workspace.candidates("test") / "candidates.parquet"
    rows = read_table(path).to_pylist()
    for row in rows:
        if query in ("", row["query_id"]):
            row["prelabel"] = "edited_copy" if copy >= 0.5 else "hard_negative"
            row["prelabel_confidence"] = max(copy, 1 - copy)
    write_table(path, table_of(CANDIDATES, rows))


def relearn(team: Team, copy: float) -> None:
    """What `ndec annotate relearn` writes, without its fit, which needs 200 labelled pairs."""
    rows = sorted(pair for table in team.tables.mined for pair in table["pair_id"].to_pylist())
    rest = (1 - copy) / 2
    learnt = [{"pair_id": pair, "edited_copy": copy, "hard_negative": rest, "unrelated": rest} for pair in rows]
    write_table(team.workspace.annotation("test") / "prelabels.parquet", table_of(PRELABELS, learnt))
    kept = {p: tag for table in team.tables.mined for p, tag in team.tables.shown.tags_to_keep(table).items()}
    write_json(team.workspace.annotation("test") / "relearn.run.json", {"pictures": kept})


def probability(team: Team, query: str) -> float:
    (pair,) = (row["pair_id"] for table in team.tables.mined for row in table.to_pylist() if row["query_id"] == query)
    return round(copy_probabilities(team.tables.candidates)[pair], 3)


def test_relearnt_prelabels_are_those_of_the_pictures_that_were_learnt_from(team: Team) -> None:
    relearn(team, 0.99)
    replace_picture(team.workspace, "pool", "pool-003", 900)
    prelabel(team.workspace, 0.02, "pool-003")  # the next mining
    assert probability(team, "pool-003") == 0.02 and probability(team, "pool-004") == 0.99
    relearn(team, 0.97)
    assert probability(team, "pool-003") == 0.97
    replace_picture(team.workspace, "pool", "pool-003", 3)  # the first picture again
    assert probability(team, "pool-003") == 0.02
    replace_picture(team.workspace, "pool", "pool-003", 900)
    assert probability(team, "pool-003") == 0.97
    replace_picture(team.workspace, "reference", "reference-008", 901)  # of pool-004
    assert probability(team, "pool-004") == 0.95


def test_an_auto_cleared_pair_with_another_picture_is_labelled(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = team.workspace
    team.push("ann", check_pairs=SLICE, check_above=0.9)
    team.answer("ann", "edited_copy", pairs=slice_pairs(team.tables.cleared_by, 0.9, SLICE))
    team.pull()
    clear = AutoClearConfig(workspace.root, above=0.9, allowed=0.4)
    auto_clear.run(clear)
    resolve.run(ResolveConfig(workspace.root))
    cleared = {row["pair_id"] for row in team.tables.cleared.to_pylist()}
    mined = {row["pair_id"]: row["query_id"] for table in team.tables.mined for row in table.to_pylist()}
    pair = min(cleared)
    assert len(cleared) == 12 - SLICE and older_decisions(workspace, "test") == ""

    replace_picture(workspace, "pool", mined[pair], 900)
    prelabel(workspace, 0.02, mined[pair])  # the next mining
    assert older_decisions(workspace, "test") == "were made before pictures of decided pairs changed"
    line, unassigned = former_text(StatusConfig(workspace.root))
    assert f"1 auto-cleared pair shows other pictures now (first pair: {pair}), so no longer cleared" in line
    assert unassigned.startswith("1 mined pair")
    assert {row["pair_id"] for row in team.tables.cleared.to_pylist()} == cleared - {pair}
    team.push("ann")
    assert team.open("ann") == [pair] and former_text(StatusConfig(workspace.root)) == []
    resolve.run(ResolveConfig(workspace.root))
    decided = {row["pair_id"]: row["decision"] for row in team.tables.decisions.to_pylist()}
    assert decided[pair] is None and {decided[other] for other in cleared - {pair}} == {"edited_copy"}
    assert older_decisions(workspace, "test") == ""

    prelabel(workspace, 0.96, mined[pair])
    auto_clear.run(clear)  # now about the new picture
    assert {row["pair_id"] for row in team.tables.cleared.to_pylist()} == cleared
    record = read_json(workspace.annotation("test") / "auto-clear.run.json")
    assert list(record["pictures"]) == [pair]

    resolve.run(ResolveConfig(workspace.root))
    auto_clear.run(AutoClearConfig(workspace.root, undo=True))
    assert "push --split test` gives the pairs back" in " ".join(capsys.readouterr().err.split())
    team.push("ann")  # without a new resolve
    assert set(team.open("ann")) == cleared


def test_a_certificate_is_about_the_pictures_of_its_candidates(tmp_path: Path) -> None:
    review = Review(tmp_path)
    images = [{"image_id": f"q{pair}", "role": "pool", "uri": f"{pair}.jpg", "sha256": pair} for pair in review.ids]
    workspace = review.workspace
    write_table(workspace.images("pool"), table_of(IMAGES, images))
    others = [row | {"image_id": f"r{row['sha256']}", "role": "reference"} for row in images]
    write_table(workspace.images("reference"), table_of(IMAGES, others))
    review.label(review.sample)
    named = list(review.run(error=0.0)["to_label"])  # type: ignore[call-overload]
    review.label(review.sample + named)
    assert str(certificate_line(review.tables)).startswith("certified: ")
    last = review.ranking[-1]  # nobody has to label it
    assert last not in named and last not in review.sample

    replaced(workspace, images, f"q{last}", "other")
    found = certificate_progress(review.tables)
    assert found and (found["stale"], found["others"]) == (True, 1)
    assert "1 of its 1,500 candidates shows other pictures now" in str(certificate_line(review.tables))
    path = workspace.annotation("test") / "certificate.json"
    stored = read_json(path)
    write_json(path, {name: value for name, value in stored.items() if name != "pictures"})
    assert str(certificate_line(review.tables)).startswith("certified: ")  # an older version kept nothing to compare
    write_json(path, stored)
    review.run(error=0.0, again=True)
    again = certificate_progress(review.tables)
    assert again and again["others"] == 0 and "pictures" not in again
    replaced(workspace, images, f"q{last}", last)  # the first picture is another one than that of this certificate
    assert certificate_progress(review.tables)["others"] == 1  # type: ignore[index]


def replaced(workspace: Workspace, images: list[dict[str, Any]], name: str, sha256: str) -> None:
    coming = workspace.images("pool").with_name("coming.parquet")
    rows = [row | ({"sha256": sha256} if row["image_id"] == name else {}) for row in images]
    write_table(coming, table_of(IMAGES, rows))
    record_replaced(workspace, "pool", coming)
    coming.replace(workspace.images("pool"))


def test_unknown_pictures_equal_all(team: Team) -> None:
    """An image that was never opened, or that was removed: nothing is known to be different."""
    mined = team.tables.mined[0]
    replace_picture(team.workspace, "pool", "pool-003", 900)
    shown = ShownPictures(team.workspace, "test")
    (changed,) = shown.others_since(mined, {})
    assert shown.others_since(mined, shown.tags_to_keep(mined)) == set()
    assert shown.others_since(mined, {changed: None}) == set()
    path = team.workspace.images("pool")
    write_table(path, table_of(IMAGES, [r for r in read_table(path).to_pylist() if r["image_id"] != "pool-003"]))
    assert ShownPictures(team.workspace, "test").others_since(mined, {}) == set()
