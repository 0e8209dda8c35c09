"""Push, label, pull and resolve with a real Label Studio."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from ndec_builder.annotation import pull, push, resolve
from ndec_builder.annotation.label_studio import projects, task_sync
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.settings import PullConfig, PushConfig, ResolveConfig, StatusConfig
from ndec_builder.annotation.status import status, status_text
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import DECISIONS, LABEL_ROWS, TASKS, pair_id
from ndec_builder.core.storage import read_json, read_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.oracle import answer_all

pytestmark = pytest.mark.server
Served = tuple[Workspace, Connection]


def hard(query_id: str, reference_id: str) -> str:
    return "hard_negative"


def by_number(query_id: str, reference_id: str) -> str:
    return ("edited_copy", "hard_negative", "unrelated", "unsure")[int(query_id[-3:]) % 4]


def in_project(workspace: Workspace, connection: Connection, round_: str, annotator: str) -> list[Any]:
    """The tasks of a project, as Label Studio's API lists them."""
    client = connection.client()
    key = projects.project_key(workspace, "test", round_, annotator)
    return list(client.tasks.list(project=projects.find_projects(client)[key].id, fields="all"))


def pulled(workspace: Workspace) -> pa.Table:
    return read_table(pull.run(PullConfig(workspace.root)))


def test_push_twice_then_answer_pull_and_resolve(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    pairs = make_candidates(workspace, count=9)
    config = PushConfig(workspace.root, annotators=("oracle",), chunk=4, image_url=connection.image_url)
    path = push.run(config)
    first = path.read_bytes()
    assert read_table(path).schema.equals(TASKS)
    push.run(config)
    assert path.read_bytes() == first
    tasks = in_project(workspace, connection, "first", "oracle")
    assert [task.data["pair_id"] for task in tasks] == [pair_id("test", q, r) for q, r in pairs]  # once each, by rank
    assert set(tasks[0].data) == {
        "pair_id",
        "query",
        "reference",
        "position",
        "pictures",
    }  # nothing that would bias people

    assert answer_all(workspace, "test", connection, by_number) == 9
    assert answer_all(workspace, "test", connection, by_number) == 0

    labels = pulled(workspace)
    assert labels.schema.equals(LABEL_ROWS)
    truth = {pair_id("test", q, r): by_number(q, r) for q, r in pairs}
    assert dict(zip(labels["pair_id"].to_pylist(), labels["label"].to_pylist(), strict=True)) == truth
    assert set(labels["annotator"].to_pylist()) == {"oracle"}
    before = (workspace.annotation("test") / "labels.parquet").read_bytes()
    pulled(workspace)
    assert (workspace.annotation("test") / "labels.parquet").read_bytes() == before

    decisions = read_table(resolve.run(ResolveConfig(workspace.root)))
    assert decisions.schema.equals(DECISIONS)
    assert dict(zip(decisions["pair_id"].to_pylist(), decisions["decision"].to_pylist(), strict=True)) == truth
    record = (workspace.annotation("test") / "run.json").read_text("utf-8")
    assert (
        connection.token not in record and read_json(workspace.annotation("test") / "run.json")["counts"]["pairs"] == 9
    )
    rows = status(StatusConfig(workspace.root))
    assert (rows[0]["pairs"], rows[0]["done"], rows[0]["left"]) == (9, 9, 0) and "oracle" in status_text(rows)


def test_an_interrupted_import_is_completed_without_duplicates(
    served: Served, make_candidates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that was killed between chunks is completed, and a duplicate from a lost connection is removed."""
    workspace, connection = served
    make_candidates(workspace, count=7)
    config = PushConfig(workspace.root, annotators=("ann",), chunk=3, image_url=connection.image_url)
    real = task_sync.explain_errors
    calls = {"left": 2}

    def dying(*args: Any) -> Any:  # killed before the second chunk is sent
        if args[1] == "importing tasks":
            calls["left"] -= 1
            if calls["left"] == 0:
                raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(task_sync, "explain_errors", dying)
    with pytest.raises(KeyboardInterrupt):
        push.run(config)
    monkeypatch.undo()
    monkeypatch.setenv("LABEL_STUDIO_URL", connection.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", connection.token)
    tasks = in_project(workspace, connection, "first", "ann")
    assert len(tasks) == 3
    client = connection.client()
    number = client.tasks.get(str(tasks[0].id)).project
    client.projects.import_tasks(id=number, request=[{"data": tasks[0].data}])
    push.run(config)
    after = [task.data["position"] for task in in_project(workspace, connection, "first", "ann")]
    assert sorted(after) == [1, 2, 3, 4, 5, 6, 7]


def test_changed_skipped_and_withdrawn_labels(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    make_candidates(workspace, count=4)
    push.run(PushConfig(workspace.root, annotators=("ann",), image_url=connection.image_url))
    client = connection.client()
    tasks = in_project(workspace, connection, "first", "ann")
    skipped = client.annotations.create(id=tasks[3].id, result=[], was_cancelled=True)
    assert skipped.was_cancelled
    choice = {"from_name": "verdict", "to_name": "query", "type": "choices"}
    made = [
        client.annotations.create(id=t.id, result=[choice | {"value": {"choices": ["unrelated"]}}], lead_time=2.5)
        for t in tasks[:3]
    ]
    old = pulled(workspace)
    assert old["label"].to_pylist() == ["unrelated"] * 3 and old["seconds"].to_pylist() == [2.5] * 3
    client.annotations.update(id=made[1].id, result=[choice | {"value": {"choices": ["hard_negative"]}}])
    client.annotations.delete(id=made[2].id)
    new = pulled(workspace)
    assert new.slice(0, 3).equals(old) and new.num_rows == 4  # append-only: the row of the withdrawn label stays
    row = new.slice(3).to_pylist()[0]
    assert (row["pair_id"], row["label"]) == (tasks[1].data["pair_id"], "hard_negative")
    counts = read_json(workspace.annotation("test") / "run.json")["counts"]
    assert counts["withdrawn"] == 1 and counts["skipped"] == 1 and counts["changed"] == 1
    decisions = read_table(resolve.run(ResolveConfig(workspace.root))).to_pylist()
    assert {d["pair_id"]: d["decision"] for d in decisions}[tasks[1].data["pair_id"]] == "hard_negative"


def test_recheck_double_check_and_adjudication(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    make_candidates(workspace, count=6)

    def give(round_: str, *annotators: str, overlap: float = 0.0) -> pa.Table:
        config = PushConfig(
            workspace.root, round=round_, annotators=annotators, overlap=overlap, image_url=connection.image_url
        )
        return read_table(push.run(config))

    def answer(annotator: str, label: Any, round_: str = "first") -> None:
        answer_all(workspace, "test", connection, label, annotator, round_)

    with pytest.raises(NdecError, match="no label"):
        give("double_check", "bob")
    give("first", "alice", "bob", overlap=1 / 3)
    make_candidates(workspace, count=2, start=6, name="recheck")
    tasks = give("first", "alice", "bob", overlap=1 / 3)
    assert sorted(set(tasks["batch"].to_pylist())) == [1, 2] and len(set(tasks["pair_id"].to_pylist())) == 8
    answer("alice", hard)
    answer("bob", lambda q, r: "hard_negative" if int(q[-3:]) % 2 else "unrelated")
    pulled(workspace)
    resolve.run(ResolveConfig(workspace.root))
    agreement = read_json(workspace.annotation("test") / "agreement.json")
    assert agreement["rounds"]["first"]["pairs"] == 2 and agreement["rounds"]["double_check"]["kappa"] is None

    tasks = give("double_check", "alice", "bob", "carol")
    seen = {(t["pair_id"], t["annotator"]) for t in tasks.to_pylist() if t["round"] == "first"}
    again = {(t["pair_id"], t["annotator"]) for t in tasks.to_pylist() if t["round"] == "double_check"}
    assert again and not seen & again
    for name in {name for _, name in again}:
        answer(name, lambda q, r: "hard_negative" if int(q[-3:]) != 3 else "edited_copy", "double_check")
    pulled(workspace)
    disputed = [row for row in tasks.to_pylist() if row["query_id"] == "pool-003"]
    with pytest.raises(NdecError, match="too few annotators"):
        give("adjudication", *sorted({row["annotator"] for row in disputed}))
    give("adjudication", "dora")
    answer("dora", hard, "adjudication")
    pulled(workspace)
    bases = {d["basis"] for d in read_table(resolve.run(ResolveConfig(workspace.root))).to_pylist()}
    assert {"adjudicated", "double_checked"} <= bases and None not in bases


def test_a_deleted_or_renamed_project_is_reported(
    served: Served, make_candidates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, connection = served
    make_candidates(workspace, count=4)
    config = PushConfig(workspace.root, annotators=("ann", "ben"), overlap=0.0, image_url=connection.image_url)
    push.run(config)
    answer_all(workspace, "test", connection, hard, "ann")
    pulled(workspace)
    client = connection.client()
    found = projects.find_projects(client)
    ann, ben = (found[projects.project_key(workspace, "test", "first", name)] for name in ("ann", "ben"))
    client.projects.update(id=ben.id, title="my own title")
    client.projects.delete(id=ann.id)
    answer_all(workspace, "test", connection, hard, "ben")
    with pytest.raises(NdecError, match=r"'ndec bench test first ann' is missing on .* annotate push"):
        pulled(workspace)
    assert "my own title" in capsys.readouterr().err
    labels = read_table(workspace.annotation("test") / "labels.parquet")
    assert labels["annotator"].to_pylist() == [
        "ann",
        "ann",
        "ben",
        "ben",
    ]  # ben was pulled too
    push.run(config)
    assert pulled(workspace).num_rows == 4
    assert in_project(workspace, connection, "first", "ann") == []  # all of its pairs have labels
    with pytest.raises(NdecError, match=r"'zoe' has no pairs .* ann, ben"):
        answer_all(workspace, "test", connection, hard, "zoe")
