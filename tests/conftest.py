"""Fixtures for all tests: one real Label Studio, started when the first test needs it."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from ndec_builder.annotation.label_studio.connection import Connection, own_connection
from ndec_builder.annotation.label_studio.environment import find_server
from ndec_builder.annotation.label_studio.ports import page_origins
from ndec_builder.annotation.label_studio.server import LabelStudioServer
from ndec_builder.annotation.web.image_server import ImageServer
from ndec_builder.core.errors import NdecError
from ndec_builder.core.workspace import Workspace
from support.needs import free_port, in_memory, missing
from support.processes import folder_in_memory
from support.warm import Warm

# Threads of torch that wait for each other burn the cores that other tests need: three times the CPU time of a model.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
gc.disable()  # until the test modules are loaded: see no_collections in core/lazy.py
# Every result file is fsynced, 4 ms each on a disk: half a minute of `make quick`. pytest reads the variable.
if memory := in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
settings.register_profile("shared machine", deadline=None)  # slow disks must not fail a test
settings.load_profile("shared machine")


def pytest_collection_finish() -> None:
    """What is loaded now stays: no collection looks through it again."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skipped tests by reason: a run is green with them, and they prove nothing on this machine."""
    reports = terminalreporter.getreports("skipped")
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)
    if reasons:
        listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"{reasons.total()} tests did not run on this machine: {listed}", yellow=True)


@pytest.fixture(scope="session")
def label_studio() -> Iterator[Connection]:
    """A running server with its own data folder."""
    try:
        find_server()
    except NdecError as error:
        missing(f"no Label Studio server: {error}")
    with folder_in_memory("ndec-label-studio") as folder:
        workspace = Workspace(folder / "bench")
        workspace.root.mkdir()
        with LabelStudioServer(workspace.label_studio, free_port()) as server:
            yield own_connection(workspace, server.url, "")


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Commands and fault scripts in processes that have imported everything."""
    with Warm() as helper:
        yield helper


@pytest.fixture
def served(
    label_studio: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Workspace, Connection]]:
    """A new workspace connected to the server of the session, with its own image server."""
    workspace = Workspace(tmp_path / "bench")
    workspace.root.mkdir()
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    with ImageServer(workspace, 0, label_studio=page_origins(label_studio.url)) as images:
        yield workspace, replace(label_studio, image_url=images.url)
