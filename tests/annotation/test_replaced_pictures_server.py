"""Tasks of an older version, and the real Label Studio, after a picture was replaced."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from ndec_builder.annotation import pull, push
from ndec_builder.annotation.assignment.replaced_pairs import replaced_pairs
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.settings import PullConfig, PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep import check
from ndec_builder.annotation.upkeep.settings import CheckConfig
from ndec_builder.annotation.web.image_server import MISSING_HEADER
from ndec_builder.core.schemas import pair_id
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from support.replaced_picture import QUERY, Team, pair_of_query, replace_picture, said

pytestmark = pytest.mark.slow


def test_tasks_of_an_older_version_have_no_tag_and_are_asked_again(team: Team) -> None:
    """Their labels are about the pictures of the time when they were given."""
    team.server.set_clock(None)
    team.push("ann")
    pair = pair_of_query(team)
    state = team.server.state()
    for task in state["tasks"].values():
        tag = task["data"].pop("pictures")
        for side in ("query", "reference"):
            task["data"][side] = task["data"][side].replace(f".{tag}/", "/")
    team.server.restore(state)
    project = team.workspace.annotation("test") / "project_tasks.parquet"
    table = read_table(project)
    write_table(project, table.drop_columns(["pictures"]))
    others = [task["data"]["pair_id"] for task in team.tasks("ann") if task["data"]["pair_id"] != pair]
    team.answer("ann", "hard_negative", pairs=[pair, others[0]])
    team.pull()
    replace_picture(team.workspace, "pool", QUERY, 908)
    assert replaced_pairs(team.tables) is not None
    team.push("ann")
    assert sorted(team.open("ann")) == sorted([pair, *others[1:]])
    assert team.tables.incidents.num_rows == 0
    team.answer("ann", "unrelated", pairs=[pair])
    team.pull()
    team.pull(everything=True)
    labels = [(r["pair_id"], r["label"], r["pictures"] is None) for r in team.tables.labels.to_pylist()]
    assert sorted(labels) == sorted(
        [(pair, "hard_negative", True), (others[0], "hard_negative", True), (pair, "unrelated", False)]
    )
    assert replaced_pairs(team.tables) is None and team.tables.incidents.num_rows == 0


@pytest.mark.server
def test_label_studio_asks_again(
    served: tuple[Workspace, Connection], make_candidates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same with the real server: one label before, one on an old page, one task that is open, then new labels."""
    workspace, connection = served
    make_candidates(workspace, count=6)
    config = PushConfig(workspace.root, annotators=("ann", "ben"), overlap=1.0, image_url=connection.image_url)
    push.run(config)
    pair = pair_id("test", QUERY, "reference-003")
    client, result = connection.client(), {"from_name": "verdict", "to_name": "query", "type": "choices"}

    def tasks(name: str) -> list[Any]:
        project = projects.find_projects(client)[projects.project_key(workspace, "test", "first", name)]
        found = client.tasks.list(project=project.id, include="id,data,total_annotations")
        return sorted((task for task in found if task.data["pair_id"] == pair), key=lambda task: task.id)

    def label(task: Any, choice: str) -> None:
        client.annotations.create(id=task.id, result=[result | {"value": {"choices": [choice]}}], lead_time=2.0)

    label(tasks("ann")[0], "hard_negative")
    pull.run(PullConfig(workspace.root))
    replace_picture(workspace, "pool", QUERY, 909)
    old = tasks("ben")[0]
    capsys.readouterr()
    push.run(config)
    assert "1 open task showed a picture that was replaced since: taken back" in said(capsys)
    assert [task.total_annotations for task in tasks("ann")] == [1, 0] and [task.id for task in tasks("ben")] != [
        old.id
    ]
    push.run(config)  # nothing is left to do
    assert len(tasks("ann")) == 2 and len(tasks("ben")) == 1
    assert requests.get(tasks("ann")[0].data["query"]).headers[MISSING_HEADER] == "1"
    assert MISSING_HEADER not in requests.get(tasks("ann")[1].data["query"]).headers
    label(tasks("ann")[1], "unrelated")
    label(tasks("ben")[0], "unrelated")
    pull.run(PullConfig(workspace.root))
    pull.run(PullConfig(workspace.root, everything=True))
    tables = AnnotationTables(workspace, "test")
    rows = [(row["annotator"], row["label"]) for row in tables.labels.to_pylist()]
    assert rows == [("ann", "hard_negative"), ("ann", "unrelated"), ("ben", "unrelated")]
    assert tables.counting_labels["label"].to_pylist() == ["unrelated", "unrelated"] and not tables.incidents.num_rows
    check.run(CheckConfig(workspace.root))
    differences = read_json(workspace.annotation("test") / "check.json")["differences_to_label_studio"]
    assert set(differences.values()) == {0}
