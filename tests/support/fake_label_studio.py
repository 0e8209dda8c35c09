"""Label Studio's API in this process: projects, tasks and annotations, as the SDK's client shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import Any

from label_studio_sdk.core.api_error import ApiError

from ndec_builder.annotation.label_studio.connection import Connection


class FakeServer:
    """`client` has what ndec calls; `label` and `skip` are what a person does on the page."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.by_project: dict[int, SimpleNamespace] = {}
        self.by_task: dict[int, SimpleNamespace] = {}
        self.client = SimpleNamespace(
            projects=SimpleNamespace(
                list=lambda **_: [self._counted(p) for p in self.by_project.values()], get=self._project,
                create=self._create, update=lambda *_, **__: None, import_tasks=self._import,
            ),
            tasks=SimpleNamespace(list=self._tasks, update=lambda *_, **__: None),
            annotations=SimpleNamespace(get=self._annotation),
            users=SimpleNamespace(list=lambda: [SimpleNamespace(id=1, email="ann@ndec.local")]),
            actions=SimpleNamespace(create=self._action),
        )  # fmt: skip

    def label(self, task: SimpleNamespace, label: str | None) -> None:
        """A new answer replaces the old one; None: Skip."""
        value = {"from_name": "verdict", "to_name": "query", "type": "choices", "value": {"choices": [label]}}
        moment = datetime.now(UTC).isoformat()
        answer = {"id": next(self.numbers), "task": task.id, "result": [value] if label else [], "updated_at": moment,
                  "was_cancelled": label is None, "lead_time": 3.0, "completed_by": 1}  # fmt: skip
        if task.annotations and label is not None and not task.annotations[-1]["was_cancelled"]:
            answer["id"] = task.annotations[-1]["id"]
        task.annotations = [answer]

    def _counted(self, project: SimpleNamespace) -> SimpleNamespace:
        tasks = [task for task in self.by_task.values() if task.project == project.id]
        project.task_number, project.num_tasks_with_annotations = len(tasks), sum(map(_labelled, tasks))
        return project

    def _project(self, id: int) -> SimpleNamespace:
        return self._counted(self.by_project[id])

    def _create(self, **fields: Any) -> SimpleNamespace:
        project = SimpleNamespace(id=next(self.numbers), **fields)
        self.by_project[project.id] = project
        return self._counted(project)

    def _import(self, id: int, request: Iterable[dict[str, Any]], **_: Any) -> SimpleNamespace:
        made = [SimpleNamespace(id=next(self.numbers), project=id, data=one["data"], annotations=[]) for one in request]
        self.by_task |= {task.id: task for task in made}
        return SimpleNamespace(task_ids=[task.id for task in made])

    def _tasks(self, project: int, query: str = "", **_: Any) -> list[SimpleNamespace]:
        """With a query, all tasks that someone answered or changed: ndec compares them with what it stored."""
        tasks = [task for task in self.by_task.values() if task.project == project]
        if "total_annotations" in query:
            tasks = [task for task in tasks if task.annotations]
        return [SimpleNamespace(**vars(task), total_annotations=int(_labelled(task))) for task in tasks]

    def _annotation(self, number: int) -> dict[str, Any]:
        for task in self.by_task.values():
            for one in task.annotations:
                if one["id"] == number:
                    return dict(one)
        raise ApiError(status_code=404)

    def _action(self, *_: Any, **options: Any) -> None:
        for number in options.get("selected_items", {}).get("included", []):
            self.by_task.pop(int(number), None)


def _labelled(task: SimpleNamespace) -> bool:
    return any(not one["was_cancelled"] for one in task.annotations)


@dataclass(frozen=True)
class FakeConnection(Connection):
    """A connection to a FakeServer."""

    server: FakeServer | None = None

    def client(self) -> Any:
        assert self.server is not None
        return self.server.client
