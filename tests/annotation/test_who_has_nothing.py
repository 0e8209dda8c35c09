"""What `push` says about the people that it names: where they label, or why they have nothing to label yet."""

from __future__ import annotations

import pytest

from ndec_builder.annotation import leave
from ndec_builder.annotation.settings import LeaveConfig
from support.replaced_picture import Team


@pytest.mark.slow
def test_somebody_for_whom_no_pair_is_open_is_told_so(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.push("ann")
    team.answer("ann", "unrelated")
    team.pull()
    capsys.readouterr()
    team.push("ann", "gil")
    said = capsys.readouterr().err
    assert "gil: no pairs of this round yet, because too few are open" in said
    assert "ann: http" in said


@pytest.mark.slow
def test_somebody_who_left_is_not_listed(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.push("ann", "ben")
    team.answer("ann", "unrelated")
    team.pull()
    leave.run(LeaveConfig(team.workspace.root, "ann"))
    capsys.readouterr()
    team.push()
    said = capsys.readouterr().err
    assert "ben: http" in said and "ann: http" not in said
