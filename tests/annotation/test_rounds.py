"""On a real Label Studio: auto-clearing removes pairs from queues, the audit assigns pairs, two pushes at once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from ndec_builder.annotation import auto_clear, pull, push, resolve
from ndec_builder.annotation.decisions.clearing import slice_pairs
from ndec_builder.annotation.label_studio import projects, task_sync
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.settings import AutoClearConfig, PullConfig, PushConfig, ResolveConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError
from ndec_builder.core.schemas import CANDIDATES, table_of
from ndec_builder.core.storage import read_json, read_table, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.demo.oracle import answer_all

pytestmark = pytest.mark.server
Served = tuple[Workspace, Connection]
VERDICT = {"from_name": "verdict", "to_name": "query", "type": "choices"}


def held_by(workspace: Workspace, connection: Connection, annotator: str, round_: str = "first") -> list[Any]:
    client = connection.client()
    key = projects.project_key(workspace, "test", round_, annotator)
    return list(client.tasks.list(project=projects.find_projects(client)[key].id, include="id,data,total_annotations"))


def say(connection: Connection, tasks: list[Any], label: str) -> None:
    for task in tasks:
        result = [VERDICT | {"value": {"choices": [label]}}]
        connection.client().annotations.create(id=task.id, result=result, lead_time=3.0)


def test_auto_clear_takes_open_pairs_out_of_the_queues_and_undo_brings_them_back(
    served: Served, make_candidates: Any
) -> None:
    workspace, connection = served
    make_candidates(workspace, count=24)
    path = workspace.candidates("test") / "candidates.parquet"
    rows = [row | {"prelabel": "edited_copy", "prelabel_confidence": 0.95} for row in read_table(path).to_pylist()]
    write_table(path, table_of(CANDIDATES, rows))
    config = PushConfig(
        workspace.root, annotators=("ann", "ben"), overlap=0.0, check_pairs=8, image_url=connection.image_url
    )
    push.run(config)
    slice_ = set(slice_pairs({row["pair_id"]: 0.95 for row in rows}, 0.9, 8))
    clear = AutoClearConfig(workspace.root, allowed=0.45)
    with pytest.raises(NdecError, match="8 of them not labelled yet or disputed"):
        pull.run(PullConfig(workspace.root))
        auto_clear.run(clear)
    for name in ("ann", "ben"):
        mine = held_by(workspace, connection, name)
        say(connection, [task for task in mine if task.data["pair_id"] in slice_], "edited_copy")
    # One more pair is labelled in the moment before: it stays with people, whatever the pre-label says.
    late = next(task for task in held_by(workspace, connection, "ann") if task.data["pair_id"] not in slice_)
    pull.run(PullConfig(workspace.root))
    say(connection, [late], "hard_negative")
    auto_clear.run(clear)
    left = {task.data["pair_id"] for name in ("ann", "ben") for task in held_by(workspace, connection, name)}
    assert left == slice_ | {late.data["pair_id"]}
    cleared = set(read_table(workspace.annotation("test") / "cleared.parquet")["pair_id"].to_pylist())
    assert cleared == {row["pair_id"] for row in rows} - left and len(cleared) == 15
    decisions = {r["pair_id"]: r for r in read_table(resolve.run(ResolveConfig(workspace.root))).to_pylist()}
    assert len(decisions) == 24 and decisions[late.data["pair_id"]]["decision"] == "hard_negative"
    assert Counter(row["basis"] for row in decisions.values()) == {"auto_cleared": 15, "agreed": 9}
    push.run(config)
    assert {t.data["pair_id"] for n in ("ann", "ben") for t in held_by(workspace, connection, n)} == left
    assert AnnotationTables(workspace, "test").incidents.num_rows == 0  # ndec took them out, nobody else

    auto_clear.run(AutoClearConfig(workspace.root, undo=True))
    resolve.run(ResolveConfig(workspace.root))
    push.run(config)
    again = Counter(t.data["pair_id"] for n in ("ann", "ben") for t in held_by(workspace, connection, n))
    assert set(again) == {row["pair_id"] for row in rows} and all(again[pair] == 1 for pair in cleared)


def test_newcomers_get_gold_pairs_too(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    make_candidates(workspace, count=40, size=(320, 240))
    for people in (("ann",), ("ann", "ben")):
        tasks = push.run(
            PushConfig(workspace.root, annotators=people, overlap=0.0, gold=0.1, image_url=connection.image_url)
        )
    rows = read_table(tasks).to_pylist()
    gold = {name: [row for row in rows if row["annotator"] == name and row["is_gold"]] for name in ("ann", "ben")}
    assert len(gold["ann"]) == 5 and len(gold["ben"]) >= 2
    for name in ("ann", "ben"):
        listed = sorted(held_by(workspace, connection, name), key=lambda task: task.id)
        own = sorted((row for row in rows if row["annotator"] == name), key=lambda row: row["position"])
        assert [task.data["pair_id"] for task in listed] == [row["pair_id"] for row in own]  # each where it lies


def test_the_audit_goes_to_another_annotator_and_a_copy_to_one_more(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    make_candidates(workspace, count=8)

    def hard(query_id: str, reference_id: str) -> str:
        return "hard_negative"

    def give(*people: str) -> None:
        push.run(
            PushConfig(workspace.root, round="audit", annotators=people, audit_pairs=5, image_url=connection.image_url)
        )

    push.run(PushConfig(workspace.root, annotators=("ann",), image_url=connection.image_url))
    with pytest.raises(NdecError, match="no label of the split"):
        give("eve", "finn")
    answer_all(workspace, "test", connection, hard, "ann")
    pull.run(PullConfig(workspace.root))
    with pytest.raises(NdecError, match="too few annotators for the round 'audit'"):
        give("ann")
    give("ann", "eve")  # ann has seen them all
    given = held_by(workspace, connection, "eve", "audit")
    assert len(given) == 5
    odd = given[0]
    say(connection, [odd], "edited_copy")
    answer_all(workspace, "test", connection, hard, "eve", "audit")
    pull.run(PullConfig(workspace.root))
    give("eve", "finn")
    (second,) = held_by(workspace, connection, "finn", "audit")
    assert second.data["pair_id"] == odd.data["pair_id"]
    say(connection, [second], "edited_copy")
    pull.run(PullConfig(workspace.root))
    decisions = {r["pair_id"]: r for r in read_table(resolve.run(ResolveConfig(workspace.root))).to_pylist()}
    assert (decisions[odd.data["pair_id"]]["decision"], len(decisions)) == ("edited_copy", 8)
    found = read_json(workspace.annotation("test") / "agreement.json")["audit"]
    assert (found["kept"], found["audited"], found["copies"]) == (8, 5, 1) and found["bound"] > 0.2


def test_one_of_two_simultaneous_pushes_fails_and_no_pair_is_duplicated(
    served: Served, make_candidates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, connection = served
    make_candidates(workspace, count=12)
    config = PushConfig(workspace.root, annotators=("ann", "ben"), overlap=0.5, image_url=connection.image_url)
    real, begun, errors = task_sync.explain_errors, threading.Event(), list[Exception]()

    @contextlib.contextmanager
    def slow(given: Connection, doing: str) -> Iterator[None]:
        if doing == "importing tasks" and not begun.is_set():
            begun.set()
            time.sleep(2.5)  # longer than a push waits for another
        with real(given, doing):
            yield

    monkeypatch.setattr(task_sync, "explain_errors", slow)

    def one() -> None:
        try:
            push.run(config)
        except Exception as error:
            errors.append(error)

    first = threading.Thread(target=one)
    first.start()
    assert begun.wait(60)
    one()
    first.join(60)
    assert len(errors) == 1 and isinstance(errors[0], NdecError) and "wait until it ends" in str(errors[0])
    push.run(config)
    tasks = read_table(workspace.annotation("test") / "tasks.parquet").to_pylist()
    for name in ("ann", "ben"):
        held = [task.data["pair_id"] for task in held_by(workspace, connection, name)]
        assert sorted(held) == sorted(row["pair_id"] for row in tasks if row["annotator"] == name)
