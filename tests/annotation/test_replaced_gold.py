"""The reference of a gold pair is replaced or removed: its truth is lost, and another gold pair takes its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import requests

from ndec_builder.annotation.records.gold_truth import GoldOverTime
from ndec_builder.annotation.records.label_file import LABELS_IN_MEMORY
from ndec_builder.annotation.records.pictures import gold_tags
from ndec_builder.annotation.settings import StatusConfig
from ndec_builder.annotation.status import status
from ndec_builder.annotation.web.image_server import MISSING_HEADER, ImageServer
from ndec_builder.core.schemas import CANDIDATES, table_of
from ndec_builder.core.storage import read_table, write_table
from support.replaced_picture import Team, list_images, replace_picture, said

pytestmark = pytest.mark.slow


@pytest.fixture
def team(make_team: Callable[..., Team]) -> Team:
    """Ann has six mined pairs and four gold pairs; none has a label."""
    made = make_team(size=(320, 240))
    made.push("ann", gold=0.4)
    return made


def gold_copy(team: Team) -> dict[str, Any]:
    """The first gold pair that is a copy of a reference."""
    return next(row for row in team.tables.gold.to_pylist() if row["kind"] == "edited_copy")


def path_of(team: Team, reference_id: str) -> Path:
    return Path(team.workspace.files("reference")) / f"{reference_id}.jpg"


def gold_of(team: Team, annotator: str) -> list[str]:
    rows = team.tables.tasks.to_pylist()
    return [row["pair_id"] for row in rows if row["is_gold"] and row["annotator"] == annotator]


def test_another_gold_pair_takes_the_place_of_one_whose_reference_was_replaced(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = gold_copy(team)
    (old,) = team.tasks("ann", pair=lost["pair_id"])
    replace_picture(team.workspace, "reference", lost["reference_id"], 920)
    with ImageServer(team.workspace, 0) as images:
        shown = requests.get(images.url + "/pair/" + old["data"]["reference"].partition("/pair/")[2])
        assert shown.headers[MISSING_HEADER] == "1"
        before = gold_of(team, "ann")
        capsys.readouterr()
        team.push()
        text = said(capsys)
        assert "1 gold pair without a label, whose reference was replaced or removed: taken back, and another" in text
        now = gold_of(team, "ann")
        (new,) = set(now) - set(before)
        assert len(now) == len(before) and lost["pair_id"] not in now
        assert sorted(team.open("ann")) == sorted(team.tables.tasks["pair_id"].to_pylist())
        (task,) = team.tasks("ann", pair=new)
        assert task["data"]["position"] == old["data"]["position"]
        for side in ("query", "reference"):
            answer = requests.get(images.url + "/pair/" + task["data"][side].partition("/pair/")[2])
            assert answer.ok and MISSING_HEADER not in answer.headers
    assert team.tables.incidents.num_rows == 0
    state = team.server.state()
    team.push()  # nothing is left to do
    assert team.server.state()["tasks"].keys() == state["tasks"].keys()


def test_a_removed_reference_and_a_skipped_placeholder_count_alike(team: Team) -> None:
    lost = gold_copy(team)
    team.answer("ann", None, pairs=[lost["pair_id"]])
    team.pull()
    table = read_table(team.workspace.images("reference"))
    list_images(team.workspace, "reference", table.filter(pc.not_equal(table["image_id"], lost["reference_id"])))
    team.push()
    assert lost["pair_id"] not in gold_of(team, "ann") and len(gold_of(team, "ann")) == 4
    assert lost["pair_id"] not in team.open("ann")


def test_its_labels_of_the_old_picture_still_measure_and_nobody_else_gets_it(team: Team) -> None:
    """Ann calls everything a copy: right on the gold copies, of which one gets another reference afterwards."""
    copies = [row["pair_id"] for row in team.tables.gold.to_pylist() if row["kind"] == "edited_copy"]
    lost = gold_copy(team)
    team.answer("ann", "edited_copy")
    team.pull()
    (before,) = (row["gold"] for row in status(StatusConfig(team.workspace.root)))
    assert (before["right"], before["n"]) == (len(copies), 4)
    replace_picture(team.workspace, "reference", lost["reference_id"], 921)
    team.push("ben", overlap=1.0, gold=0.4)
    assert lost["pair_id"] in gold_of(team, "ann") and not {*gold_of(team, "ann")} & {*team.open("ann")}
    mine = gold_of(team, "ben")
    assert lost["pair_id"] not in mine and set(mine) <= set(team.tables.gold["pair_id"].to_pylist())
    rows = {row["annotator"]: row for row in status(StatusConfig(team.workspace.root))}
    assert rows["ann"]["gold"] == before and rows["ann"]["left"] == len(team.open("ann"))


def test_a_gold_pair_whose_truth_is_lost_needs_no_other_one_for_the_next_pairs(team: Team) -> None:
    """Ann had four gold pairs, of which three hold. Two of five more tasks are gold: five that hold are enough."""
    lost = gold_copy(team)
    team.answer("ann", "edited_copy")
    team.pull()
    replace_picture(team.workspace, "reference", lost["reference_id"], 925)
    path = team.workspace.candidates("test") / "candidates.parquet"
    rows = read_table(path).to_pylist()
    more = [row | {"pair_id": f"more-{n}", "reference_id": rows[0]["reference_id"]} for n, row in enumerate(rows[1:4])]
    write_table(path.with_name("recheck.parquet"), table_of(CANDIDATES, more))
    team.push("ann", gold=0.4)
    assert len(gold_of(team, "ann")) == 4 + 2 and team.tables.gold.num_rows == 4 + 2


def test_a_label_of_the_new_picture_measures_nobody(team: Team) -> None:
    """An earlier version gave the pair to others with the new picture, which is no copy."""
    lost = gold_copy(team)
    team.answer("ann", "edited_copy")
    team.pull()
    replace_picture(team.workspace, "reference", lost["reference_id"], 922)
    labels = team.tables.labels
    (row,) = (row for row in labels.to_pylist() if row["pair_id"] == lost["pair_id"])
    assert team.tables.gold_truth()[lost["pair_id"]] == "edited_copy"
    other = row | {
        "annotator": "ben",
        "label": "unrelated",
        "pictures": gold_tags(team.workspace, [lost])[lost["pair_id"]],
    }
    team.tables.append_labels(table_of(LABELS_IN_MEMORY, [other]))
    assert lost["pair_id"] not in team.tables.gold_truth()


def test_a_gold_pair_of_an_older_version_was_made_for_the_oldest_picture_known(team: Team) -> None:
    """Its row has no tag. The old bytes again make the truth hold again."""
    path = team.workspace.annotation("test") / "gold.parquet"
    write_table(path, read_table(path).drop_columns(["pictures"]))
    lost = gold_copy(team)
    seed = int(lost["reference_id"].removeprefix("reference-")) + 5  # the scene of this reference
    kept = path_of(team, lost["reference_id"]).read_bytes()
    replace_picture(team.workspace, "reference", lost["reference_id"], 923)
    assert GoldOverTime(team.workspace, "test", team.tables.gold).lost() == {lost["pair_id"]}
    replace_picture(team.workspace, "reference", lost["reference_id"], seed, (320, 240))
    assert path_of(team, lost["reference_id"]).read_bytes() == kept
    assert GoldOverTime(team.workspace, "test", team.tables.gold).lost() == set()
