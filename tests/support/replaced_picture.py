"""A picture gets other bytes under the same id, as `ndec ingest` does it, and the labels of a fake Label Studio."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ndec_builder.annotation import pull, push
from ndec_builder.annotation.settings import PullConfig, PushConfig
from ndec_builder.annotation.tables import AnnotationTables
from ndec_builder.core.schemas import IMAGES
from ndec_builder.core.storage import read_table, sha256_file, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.sources.pictures_over_time import record_replaced
from support.fake_label_studio import FakeLabelStudio
from support.pictures import scene

QUERY = "pool-003"  # the query of one of the first six pairs


def replace_picture(
    workspace: Workspace, role: str, image_id: str, seed: int, size: tuple[int, int] = (64, 48)
) -> None:
    """The image's file becomes another scene; equal seeds give equal bytes."""
    table = read_table(workspace.images(role))
    rows = table.to_pylist()
    (row,) = (row for row in rows if row["image_id"] == image_id)
    path = workspace.files(role) / Path(row["uri"]).name
    scene(seed, size).save(path)
    row["sha256"] = sha256_file(path)
    list_images(workspace, role, pa.Table.from_pylist(rows, IMAGES))


def list_images(workspace: Workspace, role: str, images: pa.Table) -> None:
    """The role has these images (schema IMAGES) from now on."""
    coming = workspace.images(role).with_name("coming.parquet")
    write_table(coming, images.cast(IMAGES))
    record_replaced(workspace, role, coming)
    coming.replace(workspace.images(role))


@dataclass
class Team:
    """Annotators at a fake Label Studio. A page that is open keeps the pictures that it was opened with."""

    workspace: Workspace
    server: FakeLabelStudio

    def push(self, *annotators: str, round_: str = "first", **more: Any) -> None:
        config = PushConfig(self.workspace.root, annotators=annotators, round=round_, accounts="shared", **more)
        push.run(config)

    def pull(self, **more: Any) -> None:
        pull.run(PullConfig(self.workspace.root, **more))

    @property
    def tables(self) -> AnnotationTables:
        return AnnotationTables(self.workspace, "test")

    def tasks(self, annotator: str, round_: str = "first", pair: str = "") -> list[dict[str, Any]]:
        """The tasks in the annotator's project, oldest first."""
        state, name = self.server.state(), f" {round_} {annotator}"
        return [
            task
            for _, task in sorted(state["tasks"].items())
            if state["projects"][task["project"]]["title"].endswith(name) and pair in ("", task["data"]["pair_id"])
        ]

    def open(self, annotator: str, round_: str = "first") -> list[str]:
        """The pairs of the tasks without an answer."""
        return [task["data"]["pair_id"] for task in self.tasks(annotator, round_) if not task["annotations"]]

    def answer(self, annotator: str, label: str | None, round_: str = "first", pairs: Any = None) -> None:
        """The annotator answers the open tasks, of these pairs only."""
        for task in self.tasks(annotator, round_):
            pair = task["data"]["pair_id"]
            if not task["annotations"] and (pairs is None or pair in pairs):
                assert self.server.label(task["project"], pair, label, task=task["id"])


def pair_of_query(team: Team) -> str:
    """The pair of QUERY."""
    (pair,) = {row["pair_id"] for row in team.tables.tasks.to_pylist() if row["query_id"] == QUERY}
    return str(pair)


def labelled_pair(team: Team) -> str:
    """Ann gets all pairs and labels them hard_negative; returns the pair of QUERY."""
    team.push("ann")
    team.answer("ann", "hard_negative")
    team.pull()
    return pair_of_query(team)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What the commands said since the last call, in one line."""
    return " ".join(capsys.readouterr().err.split())
