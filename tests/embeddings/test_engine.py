"""The engine of the trunks: torch's features, the same bits for any lanes, what happens when it cannot be used."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ndec_builder.candidates.role_vectors import load_search_vectors
from ndec_builder.core.errors import NdecError
from ndec_builder.core.executor.plan import Plan, marker
from ndec_builder.core.storage import read_json, write_json
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.embeddings.embed import run
from ndec_builder.embeddings.engines import record
from ndec_builder.embeddings.engines.openvino_trunk import PICTURES_A_CALL
from ndec_builder.embeddings.engines.record import engine_name, engine_of_shards
from ndec_builder.embeddings.extract import extract
from ndec_builder.embeddings.inference import Inference
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.stored_vectors import map_embeddings
from support.needs import missing
from support.pictures import write_scenes

Ingest = Callable[[Path, str, list[Path]], None]


@pytest.fixture(autouse=True)
def installed() -> None:
    """A plain `import openvino` would start its telemetry; ndec blocks that package before it imports OpenVINO."""
    if importlib.util.find_spec("openvino") is None:
        missing("OpenVINO is not installed: pip install 'ndec-builder[cpu]'")


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def backbone(tiny_file: Path) -> Backbone:
    return load_backbone(f"{tiny_file}@64")


class Unsupported(nn.Module):
    """OpenVINO has no operation for singular values."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(images.flatten(1, 2))[:, :12]


class DependsOnData(nn.Module):
    """The tracer keeps the branch that a picture of one colour takes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 12, 8, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.net(images))
        return maps if (images == images[:, :, :1, :1]).all() else maps + 1


@pytest.mark.slow
@pytest.mark.parametrize("model", ["efficientnet-lite0", "timm"])
def test_features_are_those_of_torch(model: str, timm_file: Path) -> None:
    backbone = load_backbone(f"timm:mobilenetv3_small_050@{timm_file}" if model == "timm" else model)
    size = backbone.size
    pixels = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    inference = Inference(backbone, "off")
    got = inference(pixels)
    with torch.inference_mode():
        expected = backbone(backbone.normalised(pixels.permute(0, 3, 1, 2)))
    assert inference.used is not None and inference.used.engine.startswith("openvino")
    assert (torch.nn.functional.cosine_similarity(got, expected) > 0.99999).all()


@pytest.mark.slow
def test_the_same_bits_for_any_number_of_lanes(backbone: Backbone, tmp_path: Path) -> None:
    import pyarrow as pa

    paths = write_scenes(tmp_path, 9)
    table = pa.table({"image_id": [path.stem for path in paths], "uri": [str(path) for path in paths]})
    one, two, five = (extract(backbone, table, str, batch_size=4, threads=lanes).features for lanes in (1, 2, 5))
    assert np.array_equal(one, two) and np.array_equal(one, five)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_batch_is_computed_a_few_pictures_at_a_time(backbone: Backbone, pixels: torch.Tensor, count: int) -> None:
    few = math.gcd(count, PICTURES_A_CALL["float32"])
    whole = Inference(backbone, "off")(pixels[:count])
    parts = [Inference(backbone, "off")(part) for part in pixels[:count].split(few)]
    assert whole.shape == (count, backbone.dim)
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trunk", "reason"), [(Unsupported(), "cannot convert it"), (DependsOnData(), "differ from torch's")]
)
def test_a_model_that_cannot_be_converted_runs_on_torch(
    trunk: nn.Module, reason: str, backbone: Backbone, pixels: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    record.report_fallback.cache_clear()
    backbone.trunk = trunk
    inference = Inference(backbone, "off")
    got = [inference(pixels) for _ in range(2)]
    with torch.inference_mode():
        expected = backbone(backbone.normalised(pixels.permute(0, 3, 1, 2)))
    assert all(torch.equal(features, expected) for features in got)
    used = inference.used
    assert used is not None and used.engine.startswith("torch") and reason in used.fallback
    said = capsys.readouterr().err
    assert said.count("runs on torch") == 1 and backbone.name in said and reason in said.replace("\n", " ")


@pytest.mark.slow
def test_changed_weights_are_converted_again(timm_file: Path) -> None:
    backbone = load_backbone(f"timm:mobilenetv3_small_050@{timm_file}")
    pixels = torch.full((1, backbone.size, backbone.size, 3), 99, dtype=torch.uint8)
    before = Inference(backbone, "off")(pixels)
    with torch.no_grad():
        for parameter in backbone.trunk.parameters():
            parameter.mul_(1.1)
    assert not torch.allclose(Inference(backbone, "off")(pixels), before)


@pytest.mark.slow
def test_openvino_reports_nothing_to_its_makers(tmp_path: Path) -> None:
    """Its converter would import a telemetry package, which writes an id to the home folder and sends events."""
    code = (
        "import sys, torch\n"
        "from ndec_builder.embeddings.engines.openvino_trunk import _converted, _import_openvino\n"
        "_import_openvino()\n"
        "net = torch.nn.Conv2d(3, 2, 3)\n"
        "net.mean = net.std = (1.0, 1.0, 1.0)\n"
        "_converted(net, (1, 8, 8, 3))\n"
        "import openvino.tools.ovc\n"
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])\n"
    )
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[]", done.stderr
    assert not (tmp_path / "intel").exists()


@pytest.mark.slow
def test_run_json_names_engine_and_precision(workspace: Workspace, tiny_file: Path) -> None:
    facts = read_json(run(EmbedConfig(workspace.root, "reference", model=f"{tiny_file}@64")) / "run.json")
    assert facts["engine"].startswith("openvino ") and facts["precision"] == "float32"  # TorchScript: never bfloat16
    assert "fallback" not in facts


def test_shards_of_different_precisions_are_refused(tmp_path: Path) -> None:
    plan = Plan(items=5, shard_size=2, fingerprint="f" * 64)
    for shard, precision in zip(plan.shards, ("float32", "bfloat16", "float32"), strict=True):
        engine = "openvino 1" if shard.index else "torch 2"
        write_json(tmp_path / engine_name(shard), {"engine": engine, "precision": precision, "fallback": ""})
        write_json(marker(tmp_path, shard), {})
    with pytest.raises(NdecError, match="1 in bfloat16, 2 in float32"):
        engine_of_shards(tmp_path, plan)
    assert [marker(tmp_path, shard).is_file() for shard in plan.shards] == [True, False, True]


def test_engines_of_one_precision_may_be_mixed(tmp_path: Path) -> None:
    plan = Plan(items=5, shard_size=2, fingerprint="f" * 64)
    made = [("torch 2", "no conversion"), ("openvino 1", ""), ("openvino 1", "")]
    for shard, (engine, fallback) in zip(plan.shards, made, strict=True):
        write_json(tmp_path / engine_name(shard), {"engine": engine, "precision": "float32", "fallback": fallback})
    expected = {"engine": "openvino 1, torch 2", "precision": "float32", "fallback": "no conversion"}
    assert engine_of_shards(tmp_path, plan) == expected


@pytest.mark.slow
def test_precisions_of_two_roles(workspace: Workspace, tiny_file: Path, ingest: Ingest, tmp_path: Path) -> None:
    """Another precision is refused by name; a folder of an older version, which names none, is read as before."""
    ingest(workspace.root, "pool", write_scenes(tmp_path / "pool", 3, 50))
    config = EmbedConfig(workspace.root, "reference", model=f"{tiny_file}@64", whiten=False)
    folders = [run(replace(config, role=role)) for role in ("reference", "pool")]
    path = folders[1] / "run.json"
    facts = read_json(path)
    write_json(path, facts | {"precision": "bfloat16"})
    with pytest.raises(NdecError, match="those of pool are bfloat16, those of reference are float32"):
        load_search_vectors(workspace, "test", config.model)
    write_json(path, {name: value for name, value in facts.items() if name not in ("engine", "precision")})
    made = path.read_bytes()
    run(replace(config, role="pool"))
    assert path.read_bytes() == made  # nothing is computed again
    pool, gallery, _ = load_search_vectors(workspace, "test", config.model)
    assert (pool.precision, gallery.precision) == (None, "float32")
    assert map_embeddings(folders[1]).precision is None
