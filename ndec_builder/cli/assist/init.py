"""`ndec init`: a workspace directory with an `ndec.toml` that shows every setting."""

from __future__ import annotations

from pathlib import Path

from ndec_builder.commands import settings_sections
from ndec_builder.core.config import template
from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import write_text
from ndec_builder.core.workspace import Workspace


def run(directory: Path) -> Path:
    """Make the directory and its settings file. Raises NdecError for an existing settings file."""
    path = Workspace(directory).settings
    if path.exists():
        raise NdecError(f"{path} already exists; edit it, or delete it to start over")
    if directory.exists() and not directory.is_dir():
        raise NdecError(f"{directory} is a file; give a directory")
    return write_text(path, settings_template())


def settings_template() -> str:
    return template(settings_sections())
