"""ONNX files that do not describe themselves completely: the model name says the rest, or ndec says what it assumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.embeddings.backbones import load_backbone
from ndec_builder.embeddings.backbones.load import assumed_config
from ndec_builder.embeddings.model_names import parse_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def write(path: Path, *, side: int | str = 64, batch: int | str = "n", text: bool = False, two: bool = False) -> Path:
    """pictures → the mean of each channel as `means` (n, 3), and twice that as `doubled`; `text` adds an input."""
    helper, tensor = onnx.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info("pictures", tensor.FLOAT, [batch, 3, side, side])]
    nodes = [helper.make_node("ReduceMean", ["pictures"], ["means"], axes=[2, 3], keepdims=0)]
    outputs = [helper.make_tensor_value_info("means", tensor.FLOAT, [batch, 3])]
    if two:
        nodes.append(helper.make_node("Add", ["means", "means"], ["doubled"]))
        outputs.append(helper.make_tensor_value_info("doubled", tensor.FLOAT, [batch, 3]))
    if text:
        inputs.insert(0, helper.make_tensor_value_info("ids", tensor.INT64, ["rows", "tokens"]))
        nodes.append(helper.make_node("Cast", ["ids"], ["text"], to=tensor.FLOAT))
        outputs.insert(0, helper.make_tensor_value_info("text", tensor.FLOAT, ["rows", "tokens"]))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def descriptors(name: str, pixels: np.ndarray) -> np.ndarray:
    """What a model makes of pixels (n, h, w, 3) from 0 to 255, normalised as its backbone asks."""
    backbone = load_backbone(name)
    values = (pixels / 255 - np.array(backbone.mean)) / np.array(backbone.std)
    with torch.inference_mode():
        return backbone(torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32))).numpy()


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3))
MEANS = PIXELS.mean((1, 2))  # (3, 3), from 0 to 255


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", (MEANS / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        (",norm=half", MEANS / 127.5 - 1),
        (",norm=unit", MEANS / 255),
        (",norm=bytes", MEANS),
        (",mean=0.1/0.2/0.3,std=0.5/1/2", (MEANS / 255 - [0.1, 0.2, 0.3]) / [0.5, 1, 2]),
    ],
)
def test_floats_are_normalised_as_the_name_says(tmp_path: Path, said: str, expected: np.ndarray) -> None:
    path = write(tmp_path / "m.onnx")
    np.testing.assert_allclose(descriptors(f"onnx:{path}{said}", PIXELS), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_any_batch_and_a_size_that_the_file_leaves_open(tmp_path: Path, batch: int | str) -> None:
    path = write(tmp_path / "m.onnx", side="side", batch=batch)
    assert load_backbone(f"onnx:{path}").size == 224 and load_backbone(f"onnx:{path}@64").size == 64
    np.testing.assert_allclose(descriptors(f"onnx:{path}@64,norm=bytes", PIXELS), MEANS, rtol=1e-4)


class Means(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean((2, 3))


@pytest.mark.filterwarnings("ignore")
def test_one_net_as_torchscript_and_as_onnx(tmp_path: Path) -> None:
    torch.jit.trace(Means(), torch.zeros(1, 3, 64, 64)).save(str(tmp_path / "m.torchscript.pt"))
    traced = descriptors(f"{tmp_path / 'm.torchscript.pt'}@64", PIXELS)
    np.testing.assert_allclose(traced, descriptors(f"onnx:{write(tmp_path / 'm.onnx')}", PIXELS), rtol=1e-5, atol=1e-6)


def test_an_output_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", two=True)
    np.testing.assert_allclose(descriptors(f"onnx:{path},norm=unit", PIXELS), MEANS / 255, rtol=1e-4)
    np.testing.assert_allclose(descriptors(f"onnx:{path},norm=unit,output=doubled", PIXELS), MEANS / 127.5, rtol=1e-4)
    with pytest.raises(UsageError, match=r"no output 'double'; did you mean 'doubled'\?.*means tensor\(float\)"):
        load_backbone(f"onnx:{path},output=double")


def test_of_two_inputs_the_one_for_pictures_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", text=True)
    with pytest.raises(NdecError, match=r"ids tensor\(int64\).*pictures tensor\(float\).*input=NAME"):
        load_backbone(f"onnx:{path}")
    with pytest.raises(UsageError, match="no input 'images'"):
        load_backbone(f"onnx:{path},input=images")
    with pytest.raises(NdecError, match="expected one input of images"):
        load_backbone(f"onnx:{path},input=ids")
    name = f"onnx:{path},input=pictures,output=means,norm=unit"
    np.testing.assert_allclose(descriptors(name, PIXELS), MEANS / 255, rtol=1e-4)
    assert (
        assumed_config(name)
        == "m.onnx takes pictures tensor(float) ['n', 3, 64, 64]; assumed: zeros for the inputs ids"
    )


def test_what_is_assumed_is_said_with_the_way_to_change_it(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", side="side", two=True)
    text = assumed_config(f"onnx:{path}")
    assert text.startswith("m.onnx takes pictures tensor(float) ['n', 3, 'side', 'side']; assumed: ImageNet's mean")
    assert "224 px (or @SIZE)" in text and "the output means (or ,output=doubled)" in text and ",norm=clip|half" in text
    assert assumed_config(f"onnx:{path}@64,norm=unit,output=means") == ""


def test_the_fingerprint_depends_on_what_is_said_and_not_on_its_order(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", two=True)
    names = ("", ",norm=unit", ",norm=half", ",output=doubled", ",norm=unit,output=doubled")
    marks = [parse_model(f"onnx:{path}{said}").fingerprint() for said in names]
    assert len(set(marks)) == len(names)
    assert parse_model(f"onnx:{path},output=doubled,norm=unit").fingerprint() == marks[-1]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (",nrom=unit", "did you mean 'norm'"),
        (",norm=units", "did you mean 'unit'"),
        (",mean=1/2/3", "give mean=R/G/B and std=R/G/B together"),
        (",mean=1/2,std=1/1/1", "three numbers"),
        (",mean=0/0/0,std=1/0/1", "above 0"),
        (",p=x", "must be a number"),
    ],
)
def test_a_mistake_in_the_name_is_refused(tmp_path: Path, said: str, message: str) -> None:
    path = write(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=message):
        load_backbone(f"onnx:{path}{said}")


def test_a_comma_in_the_path_is_no_option(tmp_path: Path) -> None:
    path = write(tmp_path / "a,norm=unit")
    assert parse_model(f"onnx:{path}").weights == path
    assert parse_model(f"onnx:{path},norm=half").said == (("norm", "half"),)


def test_a_name_that_is_like_none_ends_the_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", two=True)
    with pytest.raises(UsageError, match=r"has no output 'zzz'\. It returns means"):
        load_backbone(f"onnx:{path},output=zzz")
    with pytest.raises(UsageError, match=r"norm is 'zzz'\. Known: imagenet"):
        load_backbone(f"onnx:{path},norm=zzz")


@pytest.mark.parametrize("name", ["m.onnx", "models/m.onnx", "models/m.onnx@224"])
def test_an_onnx_file_without_its_prefix_is_answered_with_it(name: str) -> None:
    with pytest.raises(UsageError, match=f"is an ONNX file; write onnx:{name}"):
        parse_model(name)
