"""Datasets where nothing can be written, and files from a newer version."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.storage import read_table, write_table
from ndec_builder.manifests.export import run as export
from ndec_builder.manifests.settings import ExportConfig
from ndec_builder.manifests.validate import validate
from support.decided_world import World, make_world

NOBODY = 65534


@contextmanager
def nobody() -> Iterator[None]:
    """Root may write anywhere: do this part without its rights."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may look into; pytest's own is for one user alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def writable(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.slow
def test_read_only_storage(open_folder: Path) -> None:
    world = make_world(open_folder)
    directory = export(ExportConfig(world.workspace.root))
    read_only(world.workspace.root)
    try:
        with nobody():
            assert {finding.code for finding in validate(directory)} == {"M401", "M403"}
            for options in ({"name": "other"}, {}, {"name": "packed", "materialize": "tar"}):
                with pytest.raises(NdecError, match=r"cannot (be written to|write) .*Permission denied"):
                    export(ExportConfig(world.workspace.root, **options))
        assert {finding.code for finding in validate(directory)} == {"M401", "M403"}  # the failed export left it whole
    finally:
        writable(world.workspace.root)


def newer(path: Path) -> None:
    table = pq.read_table(path)
    write_table(path, table.replace_schema_metadata({**table.schema.metadata, b"ndec_schema_version": b"12"}))


def test_a_table_of_a_newer_version_is_not_guessed_at(world: World) -> None:
    path = world.workspace.images("reference")
    newer(path)
    with pytest.raises(
        NdecError, match=r"written by a newer version of ndec: its schema version is 12, this ndec reads"
    ):
        read_table(path)
    with pytest.raises(NdecError, match="written by a newer version"):
        export(ExportConfig(world.workspace.root))


def test_damaged_tables_of_the_workspace(world: World) -> None:
    path = world.workspace.images("reference")
    data = path.read_bytes()
    path.write_bytes(data[:200] + b"\0" * 60 + data[260:])
    with pytest.raises(NdecError, match=r"reference\.parquet"):
        export(ExportConfig(world.workspace.root))
