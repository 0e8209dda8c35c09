"""The largest picture that is decoded: `[ingest] max_pixels`, the same for every stage of a workspace.

`ndec ingest` records its limit. The other stages of the workspace take it from there, and hand it to their worker
processes in the environment.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

MAX_PIXELS = 200_000_000  # the default: far above any photo
_VARIABLE = "NDEC_MAX_PIXELS"
Result = TypeVar("Result")


def pixel_limit() -> int:
    """The limit of the workspace whose stage is running, MAX_PIXELS outside of one."""
    value = os.environ.get(_VARIABLE, "")
    return int(value) if value.isdigit() else MAX_PIXELS


@contextlib.contextmanager
def limit_of(workspace: Path | None) -> Iterator[None]:
    """While it is open, `pixel_limit` is the largest limit with which images of the workspace were ingested."""
    limits = [limit for path in _records(workspace) if isinstance(limit := _recorded(path), int)]
    before = os.environ.get(_VARIABLE)
    if limits:
        os.environ[_VARIABLE] = str(max(limits))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def with_pixel_limit(run: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """Decorate the `run(config)` of a stage: it decodes with the limit of `config.workspace`."""

    @functools.wraps(run)
    def limited(config: Any) -> Result:
        with limit_of(getattr(config, "workspace", None)):
            return run(config)

    return limited


def _records(workspace: Path | None) -> list[Path]:
    return sorted((workspace / "images").glob("*.run.json")) if workspace is not None else []


def _recorded(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8"))["config"].get("max_pixels")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # damaged by hand, or of another stage
