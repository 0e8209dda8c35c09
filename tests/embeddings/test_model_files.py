"""Files of models as real tools write them: every file counts, every input type runs, the tag decides the config."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from torch import nn

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import fingerprint, sha256_file
from ndec_builder.core.workspace import Workspace
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.backbones.load import assumed_config
from ndec_builder.embeddings.embed import run
from ndec_builder.embeddings.extract import extract
from ndec_builder.embeddings.model_names import parse_model
from ndec_builder.embeddings.onnx_data import external_data
from ndec_builder.embeddings.settings import EmbedConfig
from ndec_builder.embeddings.stored_vectors import read_embeddings

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def weights_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(12, 3, 8, 8)).astype(np.float32)


def write_onnx(path: Path, weights: np.ndarray, dtype: str = "FLOAT", *, last: bool = False, **save: Any) -> Path:
    """images → [transpose] → [cast to float] → convolution with stride 8: (n, 12, 8, 8) for 64 px."""
    helper, tensor = onnx.helper, onnx.TensorProto
    half = dtype == "FLOAT16"
    nodes, name = [], "images"
    shape = ["n", 64, 64, 3] if last else ["n", 3, 64, 64]
    if last:
        nodes.append(helper.make_node("Transpose", [name], ["nchw"], perm=[0, 3, 1, 2]))
        name = "nchw"
    if dtype in ("UINT8", "INT64"):
        nodes.append(helper.make_node("Cast", [name], ["floats"], to=tensor.FLOAT))
        name = "floats"
    nodes.append(helper.make_node("Conv", [name, "w"], ["maps"], kernel_shape=[8, 8], strides=[8, 8]))
    values = weights.astype(np.float16 if half else np.float32)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", getattr(tensor, dtype), shape)],
        [helper.make_tensor_value_info("maps", tensor.FLOAT16 if half else tensor.FLOAT, ["n", 12, 8, 8])],
        [onnx.numpy_helper.from_array(values, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path, **save)
    return path


def write_split(path: Path, weights: np.ndarray) -> Path:
    """As torch 2.14's default export: the weights in NAME.data next to the graph."""
    path.with_suffix(".onnx.data").unlink(missing_ok=True)  # onnx appends
    return write_onnx(path, weights, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)


def test_equal_graphs_with_other_weights_have_other_fingerprints(tmp_path: Path) -> None:
    paths = [write_split(tmp_path / name / "m.onnx", weights_of(seed)) for seed, name in enumerate("ab")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    names = [parse_model(f"onnx:{path}") for path in paths]
    assert names[0].weights_sha256() == {p.name: sha256_file(p) for p in (paths[0], tmp_path / "a" / "m.onnx.data")}
    assert names[0].fingerprint() != names[1].fingerprint()


@pytest.mark.slow
def test_replaced_weights_are_embedded_again(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    config = EmbedConfig(workspace.root, "reference", model=f"onnx:{write_split(path, weights_of(0))}", whiten=False)
    first = read_embeddings(run(config)).vectors
    write_split(path, weights_of(1))
    second = read_embeddings(run(config)).vectors
    write_onnx(tmp_path / "whole.onnx", weights_of(1))
    fresh = read_embeddings(run(replace(config, model=f"onnx:{tmp_path / 'whole.onnx'}"))).vectors
    np.testing.assert_array_equal(second, fresh)
    assert not np.array_equal(first, second)


def test_a_model_in_one_file_keeps_its_fingerprint(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", weights_of(0))
    old = fingerprint([2, "onnx", "", None, None, None, [sha256_file(path)]])  # as version 0.1.0 computed it
    assert parse_model(f"onnx:{path}").fingerprint() == old


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    path = write_split(tmp_path / "m.onnx", weights_of(0))
    path.with_suffix(".onnx.data").unlink()
    with pytest.raises(NdecError, match=r"m\.onnx keeps its weights in 'm\.onnx\.data', which does not exist"):
        parse_model(f"onnx:{path}").fingerprint()


def test_data_files_of_nested_graphs_are_found(tmp_path: Path) -> None:
    helper, tensor = onnx.helper, onnx.TensorProto
    branches = []
    for name in ("then", "else"):
        constant = onnx.numpy_helper.from_array(np.ones(3, np.float32), name)
        onnx.external_data_helper.set_external_data(constant, f"{name}.bin")
        node = helper.make_node("Constant", [], [name], value=constant)
        value = helper.make_tensor_value_info(name, tensor.FLOAT, [3])
        branches.append(helper.make_graph([node], name, [], [value]))
    condition = helper.make_tensor_value_info("c", tensor.BOOL, [])
    out = helper.make_tensor_value_info("y", tensor.FLOAT, [3])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([choice], "g", [condition], [out])).SerializeToString())
    assert external_data(path) == ["else.bin", "then.bin"]


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff" * 40, b"plain text, no model at all"])
def test_a_file_that_is_no_model_has_no_data_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert external_data(tmp_path / "m.onnx") == []


@pytest.mark.parametrize(("dtype", "last"), [("FLOAT16", False), ("UINT8", False), ("UINT8", True), ("FLOAT", True)])
def test_onnx_inputs_of_any_type_and_layout(workspace: Workspace, tmp_path: Path, dtype: str, last: bool) -> None:
    weights = weights_of(0)
    path = write_onnx(tmp_path / "m.onnx", weights, dtype, last=last)
    images = workspace.read_images("reference").slice(0, 3)
    got = extract(load_backbone(f"onnx:{path}"), images, workspace.resolve, bf16="off").features
    pixels = np.stack([_squashed(workspace.resolve(uri)) for uri in images["uri"].to_pylist()]).astype(np.float64)
    if dtype != "UINT8":
        pixels = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    tiles = pixels.reshape(3, 8, 8, 8, 8, 3)  # image, row, y, column, x, channel
    maps = np.einsum("nrycxk,okyx->norc", tiles, weights.astype(np.float64))
    expected = (np.maximum(maps, 1e-6) ** 3).mean((2, 3)) ** (1 / 3)
    np.testing.assert_allclose(got, expected, rtol=0.02 if dtype == "FLOAT16" else 1e-3)


def _squashed(path: str) -> np.ndarray:
    from PIL import Image

    from ndec_builder.embeddings.preprocess import to_pixels

    return to_pixels(Image.open(path), (64, 64))


def test_an_input_type_that_is_no_picture_is_named(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", weights_of(0), "INT64")
    with pytest.raises(NdecError, match=r"takes images tensor\(int64\).*ndec feeds pictures as tensor\(float\)"):
        load_backbone(f"onnx:{path}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["levit_128s", "repvit_m0_9", "caformer_s18", "efficientvit_m0", "crossvit_tiny_240", "coat_tiny"]
)
def test_the_full_state_of_a_timm_model_loads(name: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        full = timm.create_model(name).eval()
    torch.save(full.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone(f"timm:{name}@{tmp_path / 'w.pth'}")
    images = torch.rand(1, 3, backbone.size, backbone.size)
    with torch.inference_mode():
        output = full.forward_features(images)
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            expected = output.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
        else:
            expected = full.forward_head(output, pre_logits=True)
        torch.testing.assert_close(backbone(images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_timm_file_takes_the_config_of_its_tag(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "w.pth")
    file = tmp_path / "w.pth"
    plain, small, bilinear = (
        load_backbone(f"timm:{name}@{file}") for name in ("resnet18", "resnet18.a3_in1k", "resnet18.tv_in1k")
    )
    assert (plain.size, small.size) == (224, timm.get_pretrained_cfg("resnet18.a3_in1k").input_size[-1])
    assert (plain.interpolation, bilinear.interpolation) == ("bicubic", "bilinear")
    assert plain.fingerprint != small.fingerprint != bilinear.fingerprint
    with pytest.raises(UsageError, match=r"timm has no tag 'a9_in1k' of resnet18.*a1_in1k"):
        load_backbone(f"timm:resnet18.a9_in1k@{file}")


def test_an_ambiguous_timm_file_names_the_assumed_config_and_the_others(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    text = assumed_config(f"timm:efficientnet_b0@{tmp_path / 'w.pth'}")
    assert "Assuming mean 0.485 0.456 0.406" in text
    assert "ra4_e3600_r224_in1k: mean 0.5 0.5 0.5, std 0.5 0.5 0.5" in text
    assert "write timm:efficientnet_b0.TAG@FILE" in text
    assert assumed_config(f"timm:efficientnet_b0.ra_in1k@{tmp_path / 'w.pth'}") == ""


@pytest.fixture
def clip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a tiny CLIP that open_clip knows by name, with three tags."""
    from open_clip import factory, pretrained

    tower = {"layers": 1, "width": 64}
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "head_width": 32, **tower},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "heads": 2, **tower},
    }
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-clip", config)
    half = {"url": "x", "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear"}
    tags = {"openai": {"url": "x", "quick_gelu": True}, "plain": {"url": "x"}, "half": half}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-clip", tags)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(open_clip.create_model("tiny-clip").state_dict(), tmp_path / "clip.pth")
    return tmp_path / "clip.pth"


def activations(backbone: nn.Module) -> set[str]:
    return {type(module).__name__ for module in backbone.modules() if "GELU" in type(module).__name__}


@pytest.mark.parametrize(
    ("tag", "mean", "std", "gelu", "interpolation"),
    [
        ("openai", 0.48145466, 0.26862954, "QuickGELU", "bicubic"),
        ("plain", 0.48145466, 0.26862954, "GELU", "bicubic"),
        ("half", 0.5, 0.5, "GELU", "bilinear"),
    ],
)
def test_an_open_clip_file_takes_the_config_of_its_tag(
    clip_file: Path, tag: str, mean: float, std: float, gelu: str, interpolation: str
) -> None:
    backbone = load_backbone(f"open_clip:tiny-clip@{tag}@{clip_file}")
    assert (backbone.mean[0], backbone.std[0], backbone.interpolation) == (mean, std, interpolation)
    assert activations(backbone) == {gelu}


def test_an_open_clip_file_alone_says_what_is_assumed(clip_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    name = f"open_clip:tiny-clip@{clip_file}"
    text = assumed_config(name)
    assert "Assuming mean 0.4815 0.4578 0.4082, std 0.2686 0.2613 0.2758, bicubic (as plain)" in text
    assert "openai: mean" in text and "QuickGELU; half: mean 0.5 0.5 0.5" in text
    assert load_backbone(name).mean[0] == 0.48145466
    before = parse_model(name).fingerprint()
    monkeypatch.delitem(pretrained._PRETRAINED["tiny-clip"], "plain")
    monkeypatch.delitem(pretrained._PRETRAINED["tiny-clip"], "openai")  # now every tag has the same config
    assert assumed_config(name) == "" and load_backbone(name).mean[0] == 0.5
    assert parse_model(name).fingerprint() != before


def test_an_open_clip_file_with_the_default_config_keeps_its_fingerprint(clip_file: Path) -> None:
    old = fingerprint([2, "open_clip", "tiny-clip", None, None, None, [sha256_file(clip_file)]])  # version 0.1.0's
    assert parse_model(f"open_clip:tiny-clip@{clip_file}").fingerprint() == old


def test_an_unknown_open_clip_tag_lists_the_known_ones(clip_file: Path) -> None:
    with pytest.raises(UsageError, match=r"open_clip has no tag 'open' of tiny-clip.*openai, plain, half"):
        load_backbone(f"open_clip:tiny-clip@open@{clip_file}")


def test_a_path_may_contain_an_at_sign(tmp_path: Path) -> None:
    file = tmp_path / "me@home" / "w.pth"
    file.parent.mkdir()
    file.write_bytes(b"")
    for name, tag in (("timm:resnet18", None), ("timm:resnet18.a1_in1k", "a1_in1k"), ("open_clip:RN50", None)):
        model = parse_model(f"{name}@{file}")
        assert (model.weights, model.tag, model.architecture) == (file, tag, name.split(":")[1].split(".")[0])
    assert parse_model(f"open_clip:RN50@openai@{file}").tag == "openai"
    assert (parse_model(str(file)).weights, parse_model(f"{file}@96").size) == (file, 96)  # TorchScript


def test_half_precision_torchscript_takes_float_pictures(tmp_path: Path) -> None:
    net = torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU()), torch.zeros(1, 3, 64, 64)).half()
    torch.jit.save(net, tmp_path / "half.pt")
    assert load_backbone(f"{tmp_path / 'half.pt'}@64").dim == 4
