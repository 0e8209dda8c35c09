"""Shipped data (`annotation/`, `manifests/`): the same from a wheel, an editable install and a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ndec_builder.core.errors import NdecError


def shipped(name: str) -> Path:
    """Path of a shipped file or folder, e.g. `annotation/label_config.xml`. Raises NdecError when it is not there."""
    package = Path(str(resources.files("ndec_builder")))
    for candidate in (package / "shipped" / name, package.parent / name):
        if candidate.exists():
            return candidate
    raise NdecError(f"the shipped file {name!r} is missing from this installation ({package}); reinstall ndec-builder")
