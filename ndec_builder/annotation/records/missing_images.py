"""Images that the labelling page could not show."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.core.console import number_of
from ndec_builder.core.storage import read_json
from ndec_builder.core.workspace import Workspace


def missing_file(workspace: Workspace) -> Path:
    """Where they are recorded: {"role/image_id": {"reason", "since"}}; absent if there was none."""
    return workspace.root / "annotation" / "missing_images.json"


def missing_images(workspace: Workspace) -> dict[str, dict[str, str]]:
    """The content of `missing_file`."""
    path = missing_file(workspace)
    return read_json(path) if path.is_file() else {}


def missing_line(workspace: Workspace) -> str | None:
    """How many pictures the page could not show, the first of them with its reason, and the file with the others."""
    if not (missing := missing_images(workspace)):
        return None
    image, about = next(iter(missing.items()))
    path, number = missing_file(workspace).relative_to(workspace.root), number_of(len(missing), "picture")
    return f"{number} could not be shown; the first is {image}: {about['reason']} (all: {path})"
