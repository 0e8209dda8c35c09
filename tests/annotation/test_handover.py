"""Annotators join and leave on a real Label Studio: their open pairs move on, their labels stay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ndec_builder.annotation import leave, pull, push
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.label_studio.server_snapshot import handed_over
from ndec_builder.annotation.settings import LeaveConfig, PullConfig, PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace

pytestmark = pytest.mark.server
Served = tuple[Workspace, Connection]
RESULT = [{"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": ["unrelated"]}}]


def in_project(workspace: Workspace, connection: Connection, annotator: str) -> list[Any]:
    client = connection.client()
    found = projects.find_projects(client).get(projects.project_key(workspace, "test", "first", annotator))
    return list(client.tasks.list(project=found.id, fields="all")) if found else []


def open_pairs(workspace: Workspace, connection: Connection, annotator: str) -> set[str]:
    return {t.data["pair_id"] for t in in_project(workspace, connection, annotator) if not t.total_annotations}


def given(workspace: Workspace, connection: Connection, *names: str, overlap: float = 0.0, people: int = 2) -> None:
    push.run(
        PushConfig(
            workspace.root, annotators=names, overlap=overlap, overlap_people=people, image_url=connection.image_url
        )
    )


def test_one_annotator_leaves_and_another_joins(
    served: Served, make_candidates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, connection = served
    make_candidates(workspace, count=12)
    given(workspace, connection, "ann", "ben", overlap=0.25)
    client = connection.client()
    mine = in_project(workspace, connection, "ann")
    for task in mine[:2]:
        client.annotations.create(id=task.id, result=RESULT)
    pull.run(PullConfig(workspace.root))
    client.annotations.create(id=mine[2].id, result=RESULT)  # in the last moment, not pulled yet

    # Killed after the tasks left Label Studio and before the pairs moved: the same command finishes the work.
    real = leave.pull_labels
    monkeypatch.setattr(leave, "pull_labels", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    config = LeaveConfig(workspace.root, "ann", image_url=connection.image_url)
    with pytest.raises(KeyboardInterrupt):
        leave.run(config)
    monkeypatch.setattr(leave, "pull_labels", real)
    assert handed_over(workspace.annotation("test"))
    pull.run(PullConfig(workspace.root))
    assert AnnotationTables(workspace, "test").incidents.num_rows == 0  # ndec itself took them out
    path = leave.run(config)
    tasks = read_table(path).to_pylist()
    labels = read_table(workspace.annotation("test") / "labels.parquet")
    assert labels.num_rows == 3 and not handed_over(workspace.annotation("test"))
    assert {row["pair_id"] for row in tasks if row["annotator"] == "ann"} == set(labels["pair_id"].to_pylist())
    assert open_pairs(workspace, connection, "ann") == set()
    everybody = {row["pair_id"] for row in tasks}
    assert len(everybody) == 12 and max(Counter((r["pair_id"], r["annotator"]) for r in tasks).values()) == 1
    assert open_pairs(workspace, connection, "ben") | set(labels["pair_id"].to_pylist()) == everybody

    given(workspace, connection, "ben", "cleo")  # somebody new takes over a fair share of what is open
    ben, cleo = open_pairs(workspace, connection, "ben"), open_pairs(workspace, connection, "cleo")
    assert not ben & cleo and abs(len(ben) - len(cleo)) <= 1 and cleo
    tasks_now = read_table(path).to_pylist()
    for name, there in (("ben", ben), ("cleo", cleo)):
        assert {r["pair_id"] for r in tasks_now if r["annotator"] == name} == there
    before = path.read_bytes()
    given(workspace, connection, "ben", "cleo")
    assert path.read_bytes() == before and open_pairs(workspace, connection, "cleo") == cleo
    assert AnnotationTables(workspace, "test").incidents.num_rows == 0


def test_pairs_stay_if_no_other_annotator_may_label_them(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    make_candidates(workspace, count=3)
    given(workspace, connection, "ann")
    with pytest.raises(NdecError, match=r"3 open pairs stay with ann .*--to"):
        leave.run(LeaveConfig(workspace.root, "ann", image_url=connection.image_url))
    assert len(open_pairs(workspace, connection, "ann")) == 3
    leave.run(LeaveConfig(workspace.root, "ann", others=("dora",), image_url=connection.image_url))
    assert len(open_pairs(workspace, connection, "dora")) == 3 and open_pairs(workspace, connection, "ann") == set()
    with pytest.raises(NdecError, match=r"'zoe' has no pairs .* ann|'zoe' has no pairs .*dora"):
        leave.run(LeaveConfig(workspace.root, "zoe"))
    with pytest.raises(UsageError, match="ann cannot go to ann"):
        LeaveConfig(workspace.root, "ann", others=("ann",))


def test_three_annotators_get_the_overlap(served: Served, make_candidates: Any) -> None:
    workspace, connection = served
    make_candidates(workspace, count=8)
    given(workspace, connection, "ann", "ben", "cleo", overlap=0.5, people=3)
    seen = Counter(p for name in ("ann", "ben", "cleo") for p in open_pairs(workspace, connection, name))
    assert sorted(seen.values()) == [1, 1, 1, 1, 3, 3, 3, 3]
