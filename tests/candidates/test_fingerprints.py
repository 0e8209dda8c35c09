"""Each input of mining, changed one at a time, makes it mine again; what changes no result does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ndec_builder.candidates.mine import _mark
from ndec_builder.candidates.role_vectors import is_embedded
from ndec_builder.candidates.settings import MineConfig
from ndec_builder.candidates.split_exclusions import OtherSplit
from ndec_builder.core.config import file_settings
from ndec_builder.core.fingerprints import images_fingerprint
from ndec_builder.core.schemas import IMAGES, table_of
from ndec_builder.core.storage import read_json, read_table, sha256_file, write_json, write_table
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.model_names import parse_model

OTHER = {
    "top": 9, "max_per_query": 2, "max_per_reference": 3, "model": "other", "geometry": False, "workers": 3, "block": 9,
    "rank_by": "normalized", "normalization_factor": 2.0, "normalization_neighbours": 5, "normalization_mode": "min",
    "search": "faiss", "pictures": False, "shortlist": "both",
}  # fmt: skip
MODEL = "efficientnet-lite0"


@pytest.fixture
def config(tmp_path: Path) -> MineConfig:
    workspace = Workspace(tmp_path)
    for role in ("pool", "reference", "basic"):
        row = {"image_id": role, "role": role, "uri": "u", "sha256": "s", "rotation": 0, "group": "g", "license": "l"}
        write_table(workspace.images(role), table_of(IMAGES, [row]))
        folder = workspace.embeddings(role, MODEL)
        folder.mkdir(parents=True)
        np.save(folder / "part-00000.npy", np.ones((1, 4), np.float16))
        write_table(
            folder / "part-00000.parquet", pa.table({"image_id": [role], "norm": pa.array([1.0], pa.float32())})
        )
        write_json(folder / "run.json", {"space": "s", "dim": 4, "parts": 1, "inputs": {}})
    (tmp_path / "a.csv").write_text("image_id,photo_id\na,1\n")
    return MineConfig(tmp_path, attribution=tmp_path / "a.csv")


def mark(config: MineConfig, first: OtherSplit | None = None) -> str:
    return _mark(config, Workspace(config.workspace), first)[0]


def test_every_setting_is_tried() -> None:
    assert set(OTHER) == set(file_settings(MineConfig))


@pytest.mark.parametrize("name", sorted(OTHER))
def test_settings_of_mining(name: str, config: MineConfig) -> None:
    assert (mark(config) != mark(replace(config, **{name: OTHER[name]}))) == file_settings(MineConfig)[name].result


@pytest.mark.parametrize("role", ["pool", "reference", "basic"])
@pytest.mark.parametrize("column", ["image_id", "uri", "sha256", "rotation", "group", "license"])
def test_columns_of_the_images(role: str, column: str, config: MineConfig) -> None:
    before = mark(config)
    path = Workspace(config.workspace).images(role)
    row: dict[str, Any] = read_table(path).to_pylist()[0]
    write_table(path, table_of(IMAGES, [row | {column: 90 if column == "rotation" else "other"}]))
    assert mark(config) != before


@pytest.mark.parametrize("role", ["pool", "reference", "basic"])
def test_vectors_and_their_space(role: str, config: MineConfig) -> None:
    folder = Workspace(config.workspace).embeddings(role, MODEL)
    marks = [mark(config)]
    np.save(folder / "part-00000.npy", np.full((1, 4), 2, np.float16))
    marks.append(mark(config))
    write_json(folder / "run.json", read_json(folder / "run.json") | {"space": "t"})
    marks.append(mark(config))
    assert len(set(marks)) == 3


def test_the_attribution_table_and_the_other_split(config: MineConfig) -> None:
    marks = [mark(config), mark(config, OtherSplit("train", frozenset("a"))), mark(replace(config, attribution=None))]
    marks.append(mark(config, OtherSplit("train", frozenset("b"))))
    (config.workspace / "a.csv").write_text("image_id,photo_id\na,2\n")
    marks.append(mark(config))
    assert len(set(marks)) == len(marks)


def test_vectors_of_replaced_weights_are_not_used(config: MineConfig, tmp_path: Path) -> None:
    workspace = Workspace(config.workspace)
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"1")
    folder = workspace.embeddings("pool", str(weights))
    folder.mkdir(parents=True)
    run = {"layer": "pooled", "weights": {"w.pt": sha256_file(weights)}}
    run |= {"inputs": {"images": images_fingerprint(workspace.read_images("pool"))}}
    write_json(folder / "run.json", run)
    assert is_embedded(workspace, "pool", str(weights))
    weights.write_bytes(b"2")
    assert not is_embedded(workspace, "pool", str(weights))
    weights.unlink()  # without them nothing can be made again
    assert is_embedded(workspace, "pool", str(weights))


@pytest.mark.parametrize("recorded", [True, False], ids=["with the fingerprint", "of an earlier version"])
def test_vectors_of_another_input_size_of_the_same_file_are_not_used(
    config: MineConfig, tmp_path: Path, recorded: bool
) -> None:
    """A TorchScript file has one folder, whatever size follows its name."""
    workspace, weights = Workspace(config.workspace), tmp_path / "w.pt"
    weights.write_bytes(b"1")
    made = f"{weights}@320"
    assert workspace.embeddings("pool", made) == workspace.embeddings("pool", str(weights))
    run = {"layer": "pooled", "weights": {"w.pt": sha256_file(weights)}, "config": {"model": made}}
    run |= {"inputs": {"images": images_fingerprint(workspace.read_images("pool"))}}
    run |= {"model_fingerprint": parse_model(made).fingerprint()} if recorded else {}
    write_json(workspace.embeddings("pool", made) / "run.json", run)
    assert is_embedded(workspace, "pool", made)
    assert not is_embedded(workspace, "pool", f"{weights}@288")
    assert not is_embedded(workspace, "pool", str(weights))  # 288 px
