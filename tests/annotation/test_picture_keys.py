"""Tasks of an older ndec, whose picture addresses have no key, get it at the next pull or push."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from ndec_builder.annotation import pull, push
from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import Connection
from ndec_builder.annotation.settings import PullConfig, PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.annotation.web.picture_keys import has_keyless
from ndec_builder.core.storage import read_table
from ndec_builder.core.workspace import Workspace

pytestmark = pytest.mark.server
RESULT = [{"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": ["unrelated"]}}]


def _tasks(workspace: Workspace, client: Any) -> list[Any]:
    number = projects.find_projects(client)[projects.project_key(workspace, "test", "first", "ann")].id
    return list(client.tasks.list(project=number, fields="all"))


@pytest.fixture
def old(served: tuple[Workspace, Connection], make_candidates: Any) -> tuple[Workspace, Connection, str]:
    """Three tasks as an older ndec sent them, one of them labelled; and the address of the image server."""
    workspace, connection = served
    make_candidates(workspace, count=3)
    place, client = connection.image_url.partition("/key/")[0], connection.client()
    push.run(PushConfig(workspace.root, annotators=("ann",), image_url=place))
    for task in _tasks(workspace, client):
        start = {name: f"{place}/pair/{task.data['pair_id']}/{name}" for name in ("query", "reference")}
        data = {name: value for name, value in task.data.items() if name != "pictures"}
        client.tasks.update(str(task.id), data=data | start)
    client.annotations.create(id=_tasks(workspace, client)[0].id, result=RESULT, lead_time=2.0)
    for marker in Path(workspace.label_studio).glob("keyed-*.json"):
        marker.unlink()
    return workspace, connection, place


def test_new_tasks_have_the_key(served: tuple[Workspace, Connection], make_candidates: Any) -> None:
    workspace, connection = served
    make_candidates(workspace, count=1)
    push.run(PushConfig(workspace.root, annotators=("ann",), image_url=connection.image_url.partition("/key/")[0]))
    (task,) = _tasks(workspace, connection.client())
    assert task.data["query"].startswith(connection.image_url + "/pair/")
    assert not has_keyless(workspace)


def test_a_pull_adds_the_key_to_old_tasks(old: tuple[Workspace, Connection, str]) -> None:
    workspace, connection, place = old
    client = connection.client()
    keyless = f"{place}/pair/{_tasks(workspace, client)[1].data['pair_id']}/query"
    assert has_keyless(workspace) and requests.get(keyless).status_code == 200
    labels = read_table(pull.run(PullConfig(workspace.root)))
    tasks = _tasks(workspace, client)
    for task in tasks:
        for name in ("query", "reference"):
            assert task.data[name] == f"{connection.image_url}/pair/{task.data['pair_id']}/{name}"
            assert requests.get(task.data[name]).status_code == 200
    assert requests.get(keyless).status_code == 403
    assert labels["pair_id"].to_pylist() == [tasks[0].data["pair_id"]]
    assert AnnotationTables(workspace, "test").incidents.num_rows == 0


def test_it_is_done_once(old: tuple[Workspace, Connection, str], monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, connection, _ = old
    pull.run(PullConfig(workspace.root))
    monkeypatch.setattr(type(connection.client().tasks), "update", lambda *_, **__: pytest.fail("changed again"))
    pull.run(PullConfig(workspace.root))
