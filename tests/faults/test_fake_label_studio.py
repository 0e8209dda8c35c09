"""The fake Label Studio of the fault runs gives the same tables as the real one, for the same commands and labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests

from faults.labelling_scenes import make_world, other_label, simulated_label
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import Connection, connect_label_studio
from ndec_builder.annotation.leave import run as leave
from ndec_builder.annotation.pull import run as pull
from ndec_builder.annotation.push import run as push
from ndec_builder.annotation.settings import LeaveConfig, PullConfig, PushConfig
from ndec_builder.core.workspace import Workspace
from support.fake_label_studio import TOKEN, FakeLabelStudio

NUMBERS = {"seen_at", "annotated_at", "project", "task", "annotation", "state", "detail", "login", "seconds", "at"}


@pytest.fixture
def fake() -> Iterator[FakeLabelStudio]:
    server = FakeLabelStudio()
    yield server
    server.close()


class Annotators:
    """Simulated annotators who label through the HTTP API, on either server."""

    def __init__(self, workspace: Workspace) -> None:
        self.connection = connect_label_studio(workspace)
        self.workspace, self.client = workspace, self.connection.client()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Token {self.connection.token}"}
        answer = requests.request(method, f"{self.connection.url}/api/{path}/", json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def tasks(self, name: str) -> list[Any]:
        key = projects.project_key(self.workspace, "test", "first", name)
        number = projects.find_projects(self.client)[key].id
        return sorted(self.client.tasks.list(project=number, fields="all"), key=lambda task: task.id)

    def label(self, task: Any, choice: str | None) -> int:
        return int(self.call("POST", f"tasks/{task.id}/annotations", answer(choice))["id"])


def answer(choice: str | None) -> dict[str, Any]:
    value = {"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": [choice]}}
    return {"result": [] if choice is None else [value], "lead_time": 1.0, "was_cancelled": choice is None}


def scenario(root: Path) -> dict[str, Any]:
    """Labels, skips, a correction, deletions, deleted tasks, a newcomer and a leaver; the tables and tasks after it."""
    make_world(root)
    workspace, names = Workspace(root), ("ann", "ben")
    push(PushConfig(root, annotators=names, overlap=0.4))
    people = Annotators(workspace)
    first, second, third, *_, last = people.tasks("ann")
    ids = [people.label(task, simulated_label(task.data["pair_id"])) for task in (first, second, third)]
    people.label(people.tasks("ben")[0], None)
    pull(PullConfig(root))
    people.call("PATCH", f"annotations/{ids[0]}", answer(other_label(first.data["pair_id"])))
    people.call("DELETE", f"annotations/{ids[1]}")
    people.call("DELETE", f"tasks/{last.id}")
    pull(PullConfig(root))
    people.label(people.tasks("ben")[1], "unrelated")
    push(PushConfig(root, annotators=(*names, "cat"), overlap=0.4))
    people.label(people.tasks("ben")[-1], "hard_negative")
    leave(LeaveConfig(root, "ben"))
    pull(PullConfig(root, everything=True))
    found: dict[str, Any] = {}
    for path in sorted(workspace.annotation("test").glob("*.parquet")):
        table = pq.read_table(path, partitioning=None)
        table = table.select([name for name in table.column_names if name not in NUMBERS])
        found[path.name] = sorted(map(str, table.to_pylist())) if path.stem == "project_tasks" else table.to_pylist()
    for name in (*names, "cat"):
        found[name] = [(task.data["pair_id"], task.total_annotations) for task in people.tasks(name)]
    return found


@pytest.mark.server
def test_the_fake_server_gives_the_tables_of_the_real_one(
    fake: FakeLabelStudio, label_studio: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for folder, url, token in (("fake", fake.url, TOKEN), ("real", label_studio.url, label_studio.token)):
        monkeypatch.setenv("LABEL_STUDIO_URL", url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
        found.append(scenario(tmp_path / folder / "bench"))
    assert {row["kind"] for row in found[0]["incidents.parquet"]} == {
        "annotation_changed", "annotation_deleted", "task_deleted"
    }  # fmt: skip
    assert found[0] == found[1]
