"""A trunk loaded again by a task on another machine: the same descriptors, or a refusal."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.base import Engine
from ndec_builder.core.storage import sha256_file
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.embeddings.engines import describe_shards
from ndec_builder.embeddings.engines.describe_shards import describe_in_shards
from ndec_builder.embeddings.engines.trunk_source import TrunkSource
from ndec_builder.embeddings.extract import extract
from support.pictures import write_scenes
from support.tiny_trunk import tiny_model


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_model(tmp_path_factory.mktemp("model")))


def test_it_is_loaded_once_per_process_and_travels_as_a_name(backbone: Backbone) -> None:
    source = TrunkSource.of(backbone, "off")
    packed = pickle.dumps(source)
    assert len(packed) < 1000
    assert pickle.loads(packed).open() is source.open() is not backbone


def test_another_input_size_travels_too(backbone: Backbone) -> None:
    assert replace(TrunkSource.of(backbone, "off"), size=48).open().size == 48
    assert TrunkSource.of(backbone, "off").open().size == 32


def test_a_machine_of_another_precision_is_refused(backbone: Backbone) -> None:
    here = TrunkSource.of(backbone, "off")
    with pytest.raises(NdecError, match="in float32, the machine of the command in bfloat16, because their processors"):
        replace(here, half=True).open()


def test_other_weights_are_refused(backbone: Backbone) -> None:
    with pytest.raises(NdecError, match="its weights or its preprocessing differ; copy the same file to every node"):
        replace(TrunkSource.of(backbone, "off"), fingerprint="f" * 64).open()


@pytest.mark.slow
def test_shards_give_the_descriptors_and_rejects_of_one_process(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describe_shards, "DESCRIBED_PER_SHARD", 3)  # rounded up to full batches of 4
    paths = write_scenes(tmp_path / "in", 10)
    sums = [sha256_file(path) for path in paths]
    paths[5].write_bytes(b"no picture")
    paths[7].write_bytes(paths[8].read_bytes())  # changed since the ingest
    names = [path.stem for path in paths]
    table = pa.table({"image_id": names, "uri": [str(path) for path in paths], "sha256": sums})
    one = extract(backbone, table, str, batch_size=4, bf16="off")
    source = TrunkSource.of(backbone, "off")
    many = describe_in_shards(Engine(here=True), tmp_path / "out", source, table, 4, "f" * 64)
    assert many.ids == one.ids and many.rejects == one.rejects and len(one.rejects) == 2
    assert np.array_equal(many.features, one.features)
    assert not (tmp_path / "out" / "shards").exists()
