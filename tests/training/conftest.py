"""A tiny trunk and small manifests in the documented layout, read by the real reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ndec_builder.core.schemas import MANIFEST_TABLES, SCHEMA_VERSION, pair_id, table_of
from ndec_builder.core.storage import sha256_file, write_json, write_table
from ndec_builder.training.settings import TrainConfig
from support.pictures import scene
from support.tiny_trunk import tiny_model

BASIC, PAIRS = 14, 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors here are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a TorchScript backbone for 32 px inputs with random weights from a seed."""
    return tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of a manifest: BASIC scenes, the first PAIRS of them crops whose whole is the latter of a pair."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in MANIFEST_TABLES}

    def image(image_id: str, seed: int, box: tuple[int, int, int, int] | None = None) -> dict[str, Any]:
        picture = scene(seed, (96, 72))
        path = tmp_path / "files" / f"{image_id}.png"
        path.parent.mkdir(exist_ok=True)
        (picture.crop(box) if box else picture).save(path)
        return {"uri": f"files/{path.name}", "sha256": sha256_file(path), "group": f"scene-{seed}"}

    for i in range(BASIC):
        box = (10, 10, 60, 50) if i < PAIRS else None
        rows["train_basic"].append({"image_id": f"b{i:02d}", **image(f"b{i:02d}", i, box)})
    for i in range(PAIRS):
        rows["train_pair_images"].append({"image_id": f"l{i:02d}", **image(f"l{i:02d}", i)})
        latter, former = f"l{i:02d}", f"b{i:02d}"
        pair = {"pair_id": pair_id("train", latter, former), "latter_id": latter, "former_id": former}
        rows["train_pairs"].append({**pair, "score": 0.9, "basis": "agreed"})
    for i in range(3):
        rows["references"].append({"image_id": f"r{i}", **image(f"r{i}", 100 + i)})
        rows["queries"].append({"query_id": f"q{i}", "kind": "distractor", **image(f"q{i}", 200 + i)})
        rows["ground_truth"].append({"query_id": f"q{i}", "reference_id": None})
    return rows


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[[dict[str, list[dict[str, Any]]]], Path]:
    def write(rows: dict[str, list[dict[str, Any]]]) -> Path:
        directory = tmp_path / "manifests" / "m-1"
        for name, (split, schema) in MANIFEST_TABLES.items():
            path = directory / "data" / name / f"{split}-00000-of-00001.parquet"
            write_table(path, table_of(schema, rows[name]))
        write_json(directory / "manifest.json", {"schema_version": SCHEMA_VERSION, "images_root": "../.."})
        return directory

    return write


@pytest.fixture
def config(
    tmp_path: Path,
    tiny: str,
    tables: dict[str, list[dict[str, Any]]],
    write_manifest: Callable[[dict[str, list[dict[str, Any]]]], Path],
) -> Callable[..., TrainConfig]:
    """Small settings over the small manifest; keyword arguments change them."""
    manifest = write_manifest(tables)

    def make(**changes: Any) -> TrainConfig:
        values = {
            "recipe": "asl", "backbone": tiny, "steps": 12, "identities": 6, "views": 5, "pairs": 2, "dim": 8,
            "warmup": 2, "save_every": 5, "log_every": 1, "views_per_identity": 3, "keep_copies": 0.0,
            **changes,
        }  # fmt: skip
        return TrainConfig(tmp_path, manifest, **values)

    return make
