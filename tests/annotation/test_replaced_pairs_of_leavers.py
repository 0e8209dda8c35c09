"""A picture is replaced, and the annotator who labelled its pair leaves, or left before."""

from __future__ import annotations

import pytest

from ndec_builder.annotation import leave
from ndec_builder.annotation.assignment.replaced_pairs import replaced_pairs
from ndec_builder.annotation.settings import LeaveConfig
from support.replaced_picture import QUERY, Team, pair_of_query, replace_picture, said

pytestmark = pytest.mark.slow


def test_who_leaves_hands_the_pair_over_and_a_late_label_is_kept(team: Team) -> None:
    team.push("ann", "ben", overlap=0.0)
    pair = pair_of_query(team)
    (giver,) = (row["annotator"] for row in team.tables.tasks.to_pylist() if row["pair_id"] == pair)
    other = "ben" if giver == "ann" else "ann"
    team.answer(giver, "hard_negative")
    team.pull()
    replace_picture(team.workspace, "pool", QUERY, 905)
    leave.run(LeaveConfig(team.workspace.root, giver))
    assert pair in team.open(other) and pair not in team.open(giver)
    old = next(task for task in team.tasks(giver, pair=pair))
    team.server.label(old["project"], pair, "edited_copy", task=old["id"])  # a correction on the old page
    team.answer(other, "unrelated")
    team.pull()
    rows = [(r["annotator"], r["label"]) for r in team.tables.labels.to_pylist() if r["pair_id"] == pair]
    assert sorted(rows) == sorted([(giver, "hard_negative"), (giver, "edited_copy"), (other, "unrelated")])
    counting = [(r["annotator"], r["label"]) for r in team.tables.counting_labels.to_pylist() if r["pair_id"] == pair]
    assert counting == [(other, "unrelated")]


def test_who_left_before_is_not_asked_again(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.push("ann", "ben", overlap=0.0)
    pair = pair_of_query(team)
    (giver,) = (row["annotator"] for row in team.tables.tasks.to_pylist() if row["pair_id"] == pair)
    other = "ben" if giver == "ann" else "ann"
    team.answer(giver, "hard_negative")
    team.pull()
    leave.run(LeaveConfig(team.workspace.root, giver))
    replace_picture(team.workspace, "pool", QUERY, 910)
    team.push()
    assert pair in team.open(other) and team.open(giver) == []
    assert "1 labelled pair of people who left, with a picture that was replaced: 1 go to others" in said(capsys)
    assert replaced_pairs(team.tables) is None and team.tables.incidents.num_rows == 0
