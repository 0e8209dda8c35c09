"""Skip, restored workspaces, a clock that went back, check and forget, with a real Label Studio."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from ndec_builder.annotation import pull, push, resolve
from ndec_builder.annotation.label_studio import label_sync, projects, task_sync
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.label_studio.server_snapshot import ServerSnapshot
from ndec_builder.annotation.label_tables import newest_labels
from ndec_builder.annotation.settings import PullConfig, PushConfig, ResolveConfig, StatusConfig
from ndec_builder.annotation.status import status
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.upkeep import check, forget
from ndec_builder.annotation.upkeep.settings import CheckConfig, ForgetConfig
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace

pytestmark = pytest.mark.server
Served = tuple[Workspace, Connection]
VERDICT = {"from_name": "verdict", "to_name": "query", "type": "choices"}


def given(*names: str) -> Any:
    return [VERDICT | {"value": {"choices": list(names)}}]


def tasks_of(workspace: Workspace, connection: Connection, annotator: str = "ann") -> list[Any]:
    client = connection.client()
    key = projects.project_key(workspace, "test", "first", annotator)
    return list(client.tasks.list(project=projects.find_projects(client)[key].id, fields="all"))


def labels_of(workspace: Workspace, **more: Any) -> list[tuple[str, str]]:
    """(pair, newest label) of the labels that count, after a pull."""
    pull.run(PullConfig(workspace.root, **more))
    table = newest_labels(AnnotationTables(workspace, "test").counting_labels)
    return sorted(zip(table["pair_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def pushed(served: Served, make_candidates: Any, count: int, *names: str) -> PushConfig:
    workspace, connection = served
    make_candidates(workspace, count=count)
    config = PushConfig(workspace.root, annotators=names or ("ann",), overlap=0.0, image_url=connection.image_url)
    push.run(config)
    return config


def test_a_skipped_pair_is_counted_and_goes_to_the_other_annotator(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    config = pushed(served, make_candidates, 4, "ann", "ben")
    client, (first, _) = connection.client(), tasks_of(workspace, connection)
    client.annotations.create(id=first.id, result=[], was_cancelled=True)
    assert labels_of(workspace) == []
    ann = status(StatusConfig(workspace.root))[0]
    assert (ann["annotator"], ann["pairs"], ann["left"], ann["skipped"]) == ("ann", 2, 1, 1)
    assert read_json(workspace.annotation("test") / "run.json")["counts"]["skipped"] == 1
    push.run(config)
    assert first.data["pair_id"] in {task.data["pair_id"] for task in tasks_of(workspace, connection, "ben")}
    assert first.id not in {task.id for task in tasks_of(workspace, connection)}
    assert labels_of(workspace) == []
    assert read_json(workspace.annotation("test") / "run.json")["counts"]["skipped"] == 0  # ben has it now
    assert AnnotationTables(workspace, "test").incidents.num_rows == 0  # nobody tampered with anything
    rows = {row["annotator"]: row for row in status(StatusConfig(workspace.root))}
    assert (rows["ann"]["skipped"], rows["ann"]["left"], rows["ben"]["left"]) == (0, 1, 3)


def test_without_another_annotator_a_skipped_pair_is_a_new_task(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    config = pushed(served, make_candidates, 2)
    skipped = tasks_of(workspace, connection)[0]
    connection.client().annotations.create(id=skipped.id, result=[], was_cancelled=True)
    labels_of(workspace)
    push.run(config)
    (again,) = [t for t in tasks_of(workspace, connection) if t.data["pair_id"] == skipped.data["pair_id"]]
    assert again.id != skipped.id and not again.annotations
    assert status(StatusConfig(workspace.root))[0]["left"] == 2
    connection.client().annotations.create(id=again.id, result=given("unrelated"))
    assert labels_of(workspace) == [(skipped.data["pair_id"], "unrelated")]


def test_a_label_withdrawn_by_skip_decides_nothing(served: Served, make_candidates: Any) -> None:
    """On 59c392b the label stayed in force, and the query was exported as a hard negative."""
    workspace, connection = served
    pushed(served, make_candidates, 2)
    client, tasks = connection.client(), tasks_of(workspace, connection)
    made = [client.annotations.create(id=task.id, result=given("hard_negative")) for task in tasks]
    assert len(labels_of(workspace)) == 2
    client.annotations.update(id=made[0].id, result=given("hard_negative"), was_cancelled=True)  # what Skip sends
    kept = tasks[1].data["pair_id"]
    assert labels_of(workspace) == [(kept, "hard_negative")]
    tables = AnnotationTables(workspace, "test")
    assert tables.labels.num_rows == 2  # history stays
    (row,) = tables.skips.to_pylist()
    assert (row["kind"], row["label"], row["label_rows"]) == ("skipped", "hard_negative", 1)
    decisions = read_table(resolve.run(ResolveConfig(workspace.root))).to_pylist()
    assert {row["pair_id"]: row["decision"] for row in decisions} == {
        kept: "hard_negative",
        tasks[0].data["pair_id"]: None,
    }
    assert len(labels_of(workspace, everything=True)) == 1 and AnnotationTables(workspace, "test").skips.num_rows == 1
    client.annotations.update(id=made[0].id, result=given("hard_negative"), was_cancelled=False)  # "cancel skip"
    assert len(labels_of(workspace)) == 2


def test_labels_seen_before_their_pair_was_assigned_are_fetched_later(served: Served, make_candidates: Any) -> None:
    """A workspace restored from before the second push: its pairs are foreign at the first pull, and its own again."""
    workspace, connection = served
    pushed(served, make_candidates, 2)
    backup = workspace.root.parent / "backup"
    shutil.copytree(workspace.annotation("test"), backup)
    config = pushed(served, make_candidates, 4)
    client = connection.client()
    tasks = tasks_of(workspace, connection)
    for task in tasks[2:] + tasks[:2]:  # the pairs of the second push are labelled first
        client.annotations.create(id=task.id, result=given("unrelated"))
    shutil.rmtree(workspace.annotation("test"))
    shutil.copytree(backup, workspace.annotation("test"))
    assert len(labels_of(workspace)) == 2
    tables = AnnotationTables(workspace, "test")
    later = pa.array([moment + timedelta(hours=1) for moment in tables.labels["annotated_at"].to_pylist()])
    later = later.cast(tables.labels.schema.field("annotated_at").type)
    moved = tables.labels.set_column(tables.labels.schema.get_field_index("annotated_at"), "annotated_at", later)
    write_table(workspace.annotation("test") / "labels.parquet", moved)  # so that no change time helps
    (workspace.annotation("test") / "ledger.json").unlink()
    push.run(config)
    assert len(labels_of(workspace)) == 4


def a_day_ahead(workspace: Workspace) -> None:
    """The stored labels are a day newer than the server's clock, as after it was set back by a day."""
    tables = AnnotationTables(workspace, "test")
    later = [moment + timedelta(days=1) for moment in tables.labels["annotated_at"].to_pylist()]
    field = tables.labels.schema.field("annotated_at")
    place = tables.labels.schema.get_field_index("annotated_at")
    (workspace.annotation("test") / "ledger.json").unlink()
    tables.write("labels", tables.labels.set_column(place, field, pa.array(later, field.type)))


def test_a_correction_after_the_clock_went_back_is_pulled(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    pushed(served, make_candidates, 2)
    client, tasks = connection.client(), tasks_of(workspace, connection)
    made = [client.annotations.create(id=task.id, result=given("unrelated")) for task in tasks]
    labels_of(workspace)
    a_day_ahead(workspace)
    client.annotations.update(id=made[0].id, result=given("edited_copy"))
    assert dict(labels_of(workspace))[tasks[0].data["pair_id"]] == "edited_copy"


def test_all_compares_everything(served: Served, make_candidates: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, connection = served
    pushed(served, make_candidates, 2)
    client, tasks = connection.client(), tasks_of(workspace, connection)
    made = [client.annotations.create(id=task.id, result=given("unrelated")) for task in tasks]
    labels_of(workspace)
    monkeypatch.setattr(label_sync, "changed_tasks", lambda *a: [])  # a change time that says nothing
    client.annotations.update(id=made[0].id, result=given("edited_copy"))
    pair = tasks[0].data["pair_id"]
    assert dict(labels_of(workspace))[pair] == "unrelated"
    assert dict(labels_of(workspace, everything=True))[pair] == "edited_copy"


def test_labels_of_a_restored_database_keep_counting(
    served: Served, make_candidates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, connection = served
    pushed(served, make_candidates, 12)
    client, tasks = connection.client(), tasks_of(workspace, connection)
    for task in tasks:
        client.annotations.create(id=task.id, result=given("unrelated"))
    assert len(labels_of(workspace)) == 12
    number = client.tasks.get(str(tasks[0].id)).project
    client.actions.create(
        id="delete_tasks_annotations",
        project=number,
        selected_items={"all": False, "included": [task.id for task in tasks[:11]]},
    )
    assert len(labels_of(workspace)) == 12
    assert "11 of 12 pulled labels" in capsys.readouterr().err
    assert len(labels_of(workspace, everything=True, accept_deleted=True)) == 1


def test_a_duplicate_that_gets_a_label_after_the_listing_stays(
    served: Served, make_candidates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, connection = served
    pushed(served, make_candidates, 2)
    client, tasks = connection.client(), tasks_of(workspace, connection)
    number = client.tasks.get(str(tasks[0].id)).project
    for _ in range(2):
        client.projects.import_tasks(id=number, request=[{"data": tasks[0].data}])
    spare = [task for task in tasks_of(workspace, connection) if task.id not in {t.id for t in tasks}]
    real = task_sync.delete_open_tasks

    def labelled_first(*args: Any) -> None:  # between the listing and the deletion
        client.annotations.create(id=spare[0].id, result=given("hard_negative"))
        real(*args)

    monkeypatch.setattr(task_sync, "delete_open_tasks", labelled_first)
    snapshot = ServerSnapshot(AnnotationTables(workspace, "test"))
    task_sync.relist_tasks(client, connection, snapshot, ("first", "ann"), number)
    left = {task.id for task in tasks_of(workspace, connection)}
    assert left == {*(task.id for task in tasks), spare[0].id}
    assert labels_of(workspace) == [(tasks[0].data["pair_id"], "hard_negative")]


def test_check_compares_with_the_server(
    served: Served, make_candidates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, connection = served
    pushed(served, make_candidates, 3)
    client, tasks = connection.client(), tasks_of(workspace, connection)
    made = [client.annotations.create(id=task.id, result=given("unrelated")) for task in tasks[:2]]
    labels_of(workspace)
    config, before = CheckConfig(workspace.root), AnnotationTables(workspace, "test").project_tasks
    assert not any(read_json(check.run(config))["differences_to_label_studio"].values())
    client.annotations.create(id=tasks[2].id, result=given("unsure"))
    client.annotations.update(id=made[0].id, result=given("edited_copy"))
    client.annotations.delete(id=made[1].id)
    found = read_json(check.run(config))["differences_to_label_studio"]
    assert found == {"not_stored": 1, "changed": 1, "skipped": 0, "missing": 1}
    assert "pull --all" in capsys.readouterr().err
    after = AnnotationTables(workspace, "test")
    assert after.project_tasks.equals(before) and after.labels.num_rows == 2  # nothing was written


def test_forgetting_renames_the_projects_and_work_goes_on(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    pushed(served, make_candidates, 3, "alice")
    client, tasks = connection.client(), tasks_of(workspace, connection, "alice")
    client.annotations.create(id=tasks[0].id, result=given("unrelated"))
    labels_of(workspace)
    (entry,) = read_json(forget.run(ForgetConfig(workspace.root, "alice")))
    mine = [p for p in client.projects.list() if projects.workspace_key(workspace) in (p.description or "")]
    assert len(mine) == 1 and "alice" not in mine[0].title + mine[0].description
    client.annotations.create(id=tasks[1].id, result=given("unsure"))
    assert len(labels_of(workspace)) == 2
    assert set(AnnotationTables(workspace, "test").labels["annotator"].to_pylist()) == {entry["pseudonym"]}


def test_incidents_and_skips_are_written_before_labels(
    served: Served, make_candidates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull that is killed before it writes the labels loses no incident, and the next one adds nothing twice."""
    workspace, connection = served
    pushed(served, make_candidates, 3)
    client, tasks = connection.client(), tasks_of(workspace, connection)
    made = [client.annotations.create(id=task.id, result=given("unrelated")) for task in tasks[:2]]
    labels_of(workspace)
    client.annotations.update(id=made[0].id, result=given("edited_copy"))
    client.annotations.create(id=tasks[2].id, result=[], was_cancelled=True)

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AnnotationTables, "append_labels", killed)
        pull.run(PullConfig(workspace.root))
    tables = AnnotationTables(workspace, "test")
    assert (tables.incidents.num_rows, tables.skips.num_rows, tables.labels.num_rows) == (1, 1, 2)
    assert dict(labels_of(workspace))[tasks[0].data["pair_id"]] == "edited_copy"
    tables = AnnotationTables(workspace, "test")
    assert (tables.incidents.num_rows, tables.skips.num_rows, tables.labels.num_rows) == (1, 1, 3)
