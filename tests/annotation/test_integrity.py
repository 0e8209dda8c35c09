"""The next pull finds edits and deletions made in Label Studio; lost projects are rebuilt from the workspace."""

from __future__ import annotations

from typing import Any

import pytest

from ndec_builder.annotation import pull, push
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.settings import PullConfig, PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import INCIDENTS, LABEL_ROWS
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.oracle import answer_all

pytestmark = pytest.mark.server
Served = tuple[Workspace, Connection]
VERDICT = {"from_name": "verdict", "to_name": "query", "type": "choices"}


def unrelated(query_id: str, reference_id: str) -> str:
    return "unrelated"


def pulled(workspace: Workspace) -> list[dict[str, Any]]:
    table = read_table(pull.run(PullConfig(workspace.root)))
    assert table.schema.equals(LABEL_ROWS)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def incidents(workspace: Workspace) -> list[tuple[str, str | None]]:
    table = AnnotationTables(workspace, "test").incidents
    assert table.schema.equals(INCIDENTS)
    return [(row["kind"], row["pair_id"]) for row in table.to_pylist()]


def in_project(workspace: Workspace, connection: Connection, annotator: str = "ann") -> tuple[int, list[Any]]:
    client = connection.client()
    number = projects.find_projects(client)[projects.project_key(workspace, "test", "first", annotator)].id
    return number, list(client.tasks.list(project=number, fields="all"))


@pytest.fixture
def labelled(served: Served, make_candidates: Any) -> tuple[Workspace, Connection, PushConfig]:
    """Eight pairs of `ann`, six of them labelled and pulled."""
    workspace, connection = served
    make_candidates(workspace, count=8)
    config = PushConfig(workspace.root, annotators=("ann",), image_url=connection.image_url)
    push.run(config)
    client = connection.client()
    for task in in_project(workspace, connection)[1][:6]:
        client.annotations.create(id=task.id, result=[VERDICT | {"value": {"choices": ["unrelated"]}}], lead_time=2.0)
    assert len(pulled(workspace)) == 6
    return workspace, connection, config


def test_labels_record_annotator_time_and_project(labelled: tuple[Workspace, Connection, PushConfig]) -> None:
    workspace, connection, _ = labelled
    number, tasks = in_project(workspace, connection)
    for row in pulled(workspace):
        assert (row["annotator"], row["project"], row["login"]) == ("ann", number, connection.user)
        task = next(task for task in tasks if task.data["pair_id"] == row["pair_id"])
        assert row["annotated_at"].isoformat()[:19] == task.annotations[0]["updated_at"][:19]
    assert incidents(workspace) == []


def test_edits_and_deletions_in_label_studio_are_recorded_once(
    labelled: tuple[Workspace, Connection, PushConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, connection, config = labelled
    client = connection.client()
    number, tasks = in_project(workspace, connection)
    pair = [task.data["pair_id"] for task in tasks]
    client.annotations.update(
        id=tasks[0].annotations[0]["id"], result=[VERDICT | {"value": {"choices": ["edited_copy"]}}]
    )
    client.annotations.delete(id=tasks[1].annotations[0]["id"])
    client.tasks.delete(id=str(tasks[2].id))  # a labelled one …
    client.tasks.delete(id=str(tasks[7].id))  # … and an open one
    client.tasks.update(id=str(tasks[6].id), data={**tasks[6].data, "query": "http://127.0.0.1/another.jpg"})
    # Bulk deletion leaves no time stamp on the task: only the count tells.
    client.actions.create(
        id="delete_tasks_annotations", project=number, selected_items={"all": False, "included": [tasks[3].id]}
    )
    edited_page = projects.labelling_page(False).replace("Nothing in common", "x")
    client.projects.update(id=number, title="mine", label_config=edited_page)
    rows = pulled(workspace)
    assert [row["label"] for row in rows] == ["unrelated"] * 6 + ["edited_copy"]  # append-only
    assert sorted(incidents(workspace), key=str) == sorted(
        [
            ("annotation_changed", pair[0]),
            ("annotation_deleted", pair[1]),
            ("annotation_deleted", pair[3]),
            ("task_deleted", pair[2]),
            ("task_deleted", pair[7]),
            ("task_edited", pair[6]),
            ("project_renamed", None),
            ("project_edited", None),
        ],
        key=str,
    )
    said = capsys.readouterr().err
    assert "2 × annotation_deleted" in said and "incidents.parquet" in said
    changed = AnnotationTables(workspace, "test").incidents.to_pylist()
    change = next(row for row in changed if row["kind"] == "annotation_changed")
    assert (change["label"], change["new_label"], change["login"]) == ("unrelated", "edited_copy", connection.user)
    before = incidents(workspace)
    pulled(workspace)
    assert incidents(workspace) == before  # told once
    push.run(config)
    after = {task.data["pair_id"]: task.data["query"] for task in in_project(workspace, connection)[1]}
    assert pair[7] in after and pair[2] not in after  # the open one is back, the labelled one does not come again


def test_a_lost_project_and_a_lost_database_are_rebuilt_from_the_workspace(
    labelled: tuple[Workspace, Connection, PushConfig],
) -> None:
    workspace, connection, config = labelled
    first, tasks = in_project(workspace, connection)
    opened = {task.data["pair_id"] for task in tasks[6:]}
    connection.client().projects.delete(id=first)
    with pytest.raises(NdecError, match="is missing on"):
        pulled(workspace)
    assert incidents(workspace) == [("project_deleted", None)]
    push.run(config)
    number, tasks = in_project(workspace, connection)
    assert number != first and {task.data["pair_id"] for task in tasks} == opened
    answer_all(workspace, "test", connection, unrelated, "ann")
    rows = pulled(workspace)
    assert len(rows) == 8 and {row["project"] for row in rows} == {first, number}
    assert incidents(workspace) == [("project_deleted", None)]

    # A lost database looks the same, but for what was labelled after the last pull; without ndec's own notes as well.
    for name in ("project_tasks.parquet", "incidents.parquet", "ledger.json"):
        (workspace.annotation("test") / name).unlink()
    connection.client().projects.delete(id=number)
    push.run(config)
    assert len(pulled(workspace)) == 8 and in_project(workspace, connection)[1] == []
    assert incidents(workspace) == []


def test_a_project_added_to_by_hand_keeps_working(labelled: tuple[Workspace, Connection, PushConfig]) -> None:
    workspace, connection, config = labelled
    number, tasks = in_project(workspace, connection)
    connection.client().projects.import_tasks(id=number, request=[{"data": {"query": "x", "reference": "y"}}])
    assert len(pulled(workspace)) == 6
    push.run(config)
    assert len(in_project(workspace, connection)[1]) == len(tasks) + 1 and incidents(workspace) == []
