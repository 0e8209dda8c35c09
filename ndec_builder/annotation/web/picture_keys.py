"""The key in the picture addresses of existing tasks: older versions of ndec sent addresses without one."""

from __future__ import annotations

import re
from pathlib import Path

from ndec_builder.annotation.label_studio import projects
from ndec_builder.annotation.label_studio.connection import NO_RETRY, Connection, explain_errors
from ndec_builder.annotation.label_studio.credentials import closed_text, image_key, write_private_json
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.console import number_of, say, track
from ndec_builder.core.schemas import SPLITS
from ndec_builder.core.storage import remove_abandoned
from ndec_builder.core.workspace import Workspace

_KEYLESS = re.compile(r"^(?!.*/key/)(.*?)(/(?:pair|image)/.*)$")


def _marker(workspace: Workspace, split: str) -> Path:
    """Exists when all tasks of a split have the key."""
    return workspace.label_studio / f"keyed-{split}.json"


def has_keyless(workspace: Workspace) -> bool:
    """Whether Label Studio may hold tasks without the key."""
    return any(
        not _marker(workspace, split).is_file() and (workspace.annotation(split) / "tasks.parquet").is_file()
        for split in SPLITS
    )


def add_keys(tables: AnnotationTables, connection: Connection) -> int:
    """Add the key to the picture addresses of this split's tasks, once; returns how many tasks were changed.

    Nothing if the key belongs to another user, whose next push or pull does it. The host in an address stays as it is.
    After a kill, the next call does the rest.
    """
    workspace, client = tables.workspace, connection.client()
    if closed_text(workspace.label_studio):
        return 0
    marker = _marker(workspace, tables.split)
    remove_abandoned(workspace.label_studio)
    if marker.is_file():
        return 0
    prefix = f"{projects.workspace_key(workspace)}/{tables.split}/"
    key, keyless, doing = image_key(workspace.label_studio), 0, "adding the key to the addresses of pictures"
    with explain_errors(connection, doing):
        for name, project in projects.find_projects(client).items():
            if name.startswith(prefix) and project.tasks:
                listed = client.tasks.list(project=project.id, page_size=1000, include="id,data")
                for task in track(listed, project.tasks, doing):
                    data = {
                        name: _KEYLESS.sub(rf"\1/key/{key}\2", value) if isinstance(value, str) else value
                        for name, value in task.data.items()
                    }
                    if data != task.data:
                        client.tasks.update(str(task.id), data=data, request_options=NO_RETRY)
                        keyless += 1
    write_private_json(marker, {"tasks": keyless})
    if keyless:
        say(f"{number_of(keyless, 'task')} of an older ndec got the key in the addresses of their pictures")
    return keyless
