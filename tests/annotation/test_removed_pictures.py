"""An image is removed after its pair was given out: its labels stay, and its open task is taken back."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow.compute as pc
import pytest

from ndec_builder.annotation import resolve
from ndec_builder.annotation.settings import ResolveConfig, StatusConfig
from ndec_builder.annotation.status import former_text, status
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.replaced_picture import QUERY, Team, list_images, said

pytestmark = pytest.mark.slow


@pytest.fixture
def team(make_team: Callable[..., Team]) -> Team:
    """Ann has six pairs."""
    made = make_team()
    made.push("ann")
    return made


def remove(workspace: Workspace) -> None:
    """The pool is ingested without the image, and mined again."""
    table = read_table(workspace.images("pool"))
    list_images(workspace, "pool", table.filter(pc.not_equal(table["image_id"], QUERY)))
    path = workspace.candidates("test") / "candidates.parquet"
    mined = read_table(path)
    write_table(path, mined.filter(pc.not_equal(mined["query_id"], QUERY)))


def test_a_label_of_a_removed_picture_is_not_said_to_count(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.answer("ann", "hard_negative")
    team.pull()
    remove(team.workspace)
    expected = ["1 labelled pair is of images that were removed; no dataset has them"]
    assert former_text(StatusConfig(team.workspace.root)) == expected
    capsys.readouterr()
    team.push("ann")
    resolve.run(ResolveConfig(team.workspace.root))
    assert said(capsys).count(expected[0]) == 2
    assert team.tables.labels.num_rows == 6


def test_an_open_task_of_a_removed_picture_is_taken_back_until_the_picture_returns(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_table(team.workspace.images("pool"))
    (pair,) = (row["pair_id"] for row in team.tables.tasks.to_pylist() if row["query_id"] == QUERY)
    remove(team.workspace)
    (row,) = status(StatusConfig(team.workspace.root))
    assert (row["pairs"], row["left"]) == (6, 5)
    capsys.readouterr()
    team.push("ann")
    text = said(capsys)
    assert "1 open task showed a picture that was removed since: taken back" in text
    assert "1 open pair is of images that were removed; nobody is asked" in text
    assert "no longer among the mined" not in text
    assert len(team.open("ann")) == 5 and pair not in team.open("ann")
    team.push("ann")
    assert len(team.open("ann")) == 5 and team.tables.incidents.num_rows == 0
    list_images(team.workspace, "pool", before)
    (row,) = status(StatusConfig(team.workspace.root))
    assert row["left"] == 6
    team.push("ann")
    assert pair in team.open("ann") and len(team.open("ann")) == 6


def test_an_open_task_of_a_removed_picture_that_was_only_listed(make_team: Callable[..., Team]) -> None:
    """A pool that was listed without opening its images: its pictures are shown as well, from their addresses."""
    team = make_team()
    path = team.workspace.images("pool")
    listed = [row | dict.fromkeys(("sha256", "width", "height", "format")) for row in read_table(path).to_pylist()]
    write_table(path, table_of(IMAGES, listed))
    team.push("ann")
    (pair,) = (row["pair_id"] for row in team.tables.tasks.to_pylist() if row["query_id"] == QUERY)
    list_images(team.workspace, "pool", table_of(IMAGES, [row for row in listed if row["image_id"] != QUERY]))
    left = [row["left"] for row in status(StatusConfig(team.workspace.root))]
    team.push("ann")
    assert pair not in team.open("ann") and left == [len(team.open("ann"))]
    assert any(
        "1 open pair is of images that were removed" in line for line in former_text(StatusConfig(team.workspace.root))
    )
    list_images(team.workspace, "pool", table_of(IMAGES, listed))
    team.push("ann")
    assert pair in team.open("ann")


def test_a_renamed_project_is_said_once(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """This push pulls first, because a picture was removed."""
    state = team.server.state()
    (project,) = state["projects"].values()
    project["title"] = "mine"
    team.server.restore(state)
    remove(team.workspace)
    capsys.readouterr()
    team.push("ann")
    assert said(capsys).count("was renamed to 'mine' in Label Studio") == 1
