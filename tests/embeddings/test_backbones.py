"""Backbones by name: shapes, fingerprints, hostile and missing files."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.core.storage import sha256_file
from ndec_builder.embeddings.backbones import Backbone, best_device, load_backbone, read_state
from ndec_builder.embeddings.model_names import parse_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def default() -> Backbone:
    return load_backbone("efficientnet-lite0")


def test_default_backbone(default: Backbone) -> None:
    assert (default.name, default.dim, default.size) == ("efficientnet-lite0", 1280, 224)
    assert list(default.weights.values()) == [sha256_file(parse_model("efficientnet-lite0").weights)]  # type: ignore[arg-type]
    assert not default.training and default.license == "Apache-2.0"
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        maps = default.trunk(images)
        pooled = default(images)
    assert maps.shape == (2, 1280, 7, 7) and pooled.shape == (2, 1280) and pooled.dtype == torch.float32
    expected = np.power(np.power(np.maximum(maps.double().numpy(), 1e-6), 3).mean((2, 3)), 1 / 3)
    assert pooled.numpy() == pytest.approx(expected, rel=1e-4)


def test_default_normalisation_is_the_one_the_weights_were_trained_with(default: Backbone) -> None:
    """(x - 127) / 128 brings the stem's variances near the batch norm's own, ImageNet's figures less so."""
    from ndec_builder.embeddings.preprocess import to_array
    from support.pictures import scene

    pixels = torch.from_numpy(np.stack([to_array(scene(i), 224) for i in range(8)])).float()
    net = default.trunk.net
    with torch.inference_mode():
        errors = [
            (net._conv_stem(images).var((0, 2, 3)) / net._bn0.running_var).log().median().abs().item()
            for images in ((pixels - 127) / 128, (pixels / 255 - 0.45) / 0.225)
        ]
    assert errors[0] < errors[1]
    assert default.mean == (127 / 255,) * 3 and default.std == (128 / 255,) * 3


def test_timm_with_a_file(timm_file: Path, tmp_path: Path) -> None:
    backbone = load_backbone(f"timm:mobilenetv3_small_050@{timm_file}")
    assert (backbone.dim, backbone.size, backbone.mean) == (288, 224, (0.485, 0.456, 0.406))
    wrapped = tmp_path / "wrapped.pth"
    state = torch.load(timm_file, weights_only=True)
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, wrapped)
    safe = tmp_path / "safe.safetensors"
    save_file(state, safe)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        for other in (wrapped, safe):
            assert torch.equal(load_backbone(f"timm:mobilenetv3_small_050@{other}")(images), backbone(images))


def test_timm_transformer_keeps_its_own_pooling(tmp_path: Path) -> None:
    import timm

    net = timm.create_model("test_vit", num_classes=0).eval()
    save_file(net.state_dict(), tmp_path / "vit.safetensors")
    backbone = load_backbone(f"timm:test_vit@{tmp_path / 'vit.safetensors'}")
    images = torch.randn(1, 3, backbone.size, backbone.size)
    with torch.inference_mode():
        assert torch.allclose(backbone(images), net(images), atol=1e-5)


def test_torchscript_file_and_size(tiny_file: Path) -> None:
    backbone = load_backbone(str(tiny_file))
    assert (backbone.dim, backbone.size, backbone.autocast) == (12, 288, False)
    assert load_backbone(f"{tiny_file}@64").size == 64
    assert load_backbone(f"{tiny_file}@64").fingerprint != backbone.fingerprint


def test_fingerprint_depends_on_content_not_on_place(tiny_file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "renamed.pt"
    shutil.copy(tiny_file, moved)
    assert parse_model(str(moved)).fingerprint() == parse_model(str(tiny_file)).fingerprint()
    moved.write_bytes(moved.read_bytes() + b"x")
    assert parse_model(str(moved)).fingerprint() != parse_model(str(tiny_file)).fingerprint()


def test_names_are_taken_apart(timm_file: Path) -> None:
    name = parse_model(f"timm:resnet18@{timm_file}")
    assert (name.kind, name.architecture, name.weights) == ("timm", "resnet18", timm_file)
    name = parse_model("open_clip:ViT-B-32@laion2b_s34b_b79k")
    assert (name.architecture, name.tag, name.weights) == ("ViT-B-32", "laion2b_s34b_b79k", None)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "efficientnet-lite",
            UsageError,
            "Known forms: efficientnet-lite0, timm:NAME.*did you mean 'efficientnet-lite0'",
        ),
        ("timm:", UsageError, "names no model"),
        ("timm:resnett18", UsageError, "timm has no model 'resnett18'.*did you mean 'resnet"),
        ("open_clip:ViT-B-3", UsageError, "open_clip has no model 'ViT-B-3'; did you mean"),
        ("open_clip:ViT-B-32", UsageError, "names no weights; write .* openai"),
        ("/nowhere/sscd.torchscript.pt", NdecError, "weights file /nowhere/sscd.torchscript.pt does not exist"),
        ("timm:resnet18@/nowhere/w.pth", NdecError, "weights file /nowhere/w.pth does not exist"),
        ("timm:resnet18.tv_in1k@FILE", NdecError, "weights file FILE does not exist"),
        ("model.pt@big", UsageError, "input size in px, not 'big'"),
    ],
)
def test_unknown_names_and_missing_files(name: str, error: type[NdecError], message: str) -> None:
    with pytest.raises(error, match=message):
        load_backbone(name)


class _Evil:
    def __reduce__(self) -> tuple:
        return (print, ("code was run",))


def test_a_pickle_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": _Evil()}, path)
    with pytest.raises(NdecError, match=r"evil\.pth was refused.*could run code"):
        read_state(path)
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(NdecError, match=r"evil\.pth"):
        load_backbone(f"timm:mobilenetv3_small_050@{path}")
    assert "code was run" not in capsys.readouterr().out


def test_other_bad_weights(tmp_path: Path, timm_file: Path, tiny_file: Path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(timm_file.read_bytes()[:5000])
    with pytest.raises(NdecError, match="is the download complete"):
        read_state(cut)
    (tmp_path / "cut.safetensors").write_bytes(b"1234567890")
    with pytest.raises(NdecError, match="is the download complete"):
        read_state(tmp_path / "cut.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(NdecError, match="holds no state_dict"):
        read_state(tmp_path / "list.pth")
    with pytest.raises(NdecError, match="do not fit resnet18"):
        load_backbone(f"timm:resnet18@{timm_file}")
    with pytest.raises(NdecError, match="is not a TorchScript file"):
        load_backbone(str(timm_file))


def test_best_device() -> None:
    assert best_device("cpu") == "cpu"
    assert best_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="device 'tpu' is unknown"):
        best_device("tpu")
