"""The command describes the pictures of its workers: none of them loads torch, and the bytes stay the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ndec_builder.core.executor.asking import answering
from ndec_builder.core.executor.plan import Shard
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.engines.trunk_source import TrunkSource
from ndec_builder.embeddings.inference import Inference
from ndec_builder.embeddings.preprocess import to_array
from ndec_builder.training.fused import run as run_module
from ndec_builder.training.fused.describe import PictureDescriber
from ndec_builder.training.fused.measure import MeasureShard, features_of_pictures
from ndec_builder.training.fused.run import measured, prepare_training
from ndec_builder.training.fused.settings import FusedConfig
from ndec_builder.training.view_cache import torch_threads, trunk_features
from ndec_builder.training.views import TRUNK_BATCH
from support.pictures import scene

Rows = dict[str, list[dict[str, Any]]]
NO_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "openvino"):
            raise ImportError(f"{name} in a worker process")

if "--multiprocessing-fork" in sys.argv:
    sys.meta_path.insert(0, Refuse())
"""


def pairs_of(config: FusedConfig) -> list[bytes]:
    _, made = measured(config, prepare_training(config))
    return [path.read_bytes() for path in made for path in (path, path.with_suffix(".parquet"))]


@pytest.mark.slow
def test_workers_that_measure_pairs_load_no_torch(
    tmp_path: Path, tiny: str, tables: Rows, write_manifest: Callable[[Rows], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NO_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    monkeypatch.setattr(run_module, "SHARD_ITEMS", 6)  # several shards: a single one is measured in this process
    manifest = write_manifest(tables)
    given = {"backbone": tiny, "dim": 4, "views": 2, "copies": 1, "editor_copies": 1}
    found = [pairs_of(FusedConfig(tmp_path / str(workers), manifest, workers=workers, **given)) for workers in (1, 2)]
    assert found[0] == found[1] and len(found[0]) == 2 * 3


@pytest.mark.slow
def test_a_task_on_another_machine_describes_its_own_pictures_with_the_same_bits(
    tmp_path: Path, tiny: str, tables: Rows, write_manifest: Callable[[Rows], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FusedConfig(tmp_path / "one", write_manifest(tables), backbone=tiny, dim=4, views=2, copies=1)
    known = prepare_training(config)
    uris = [known.manifest.resolve(uri) for uri in known.data.images["uri"].to_pylist()]
    given = config, known.data, uris, [0] * len(uris), known.vectors, known.whitening
    found = []
    for trunk in (None, TrunkSource.of(known.backbone, "off")):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        with answering(PictureDescriber(known.backbone, "off")):
            outcome = MeasureShard(folder, *given, trunk)(Shard(0, 0, 3))
        found.append([(folder / name).read_bytes() for name in outcome.files])
    assert found[0] == found[1]


def test_pictures_are_described_in_full_batches_in_their_order(tiny: str) -> None:
    backbone = load_backbone(tiny)
    pictures = [scene(number, (40 + number, 33)) for number in range(TRUNK_BATCH + 3)]
    pictures[1] = pictures[1].convert("L")
    with torch_threads(1):
        found = features_of_pictures(pictures, PictureDescriber(backbone, "off"))
        padded = np.zeros((2 * TRUNK_BATCH, 3, 32, 32), np.uint8)
        padded[: len(pictures)] = [to_array(picture, 32) for picture in pictures]
        model = Inference(backbone, "off")
        expected = [trunk_features(model, part) for part in np.split(padded, 2)]
    np.testing.assert_array_equal(found, np.concatenate(expected)[: len(pictures)])
