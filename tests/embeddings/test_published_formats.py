"""Checkpoints built here in each published format, and the same weights run by plain torchvision and timm code."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from ndec_builder.core.errors import NdecError, UsageError
from ndec_builder.embeddings.backbones import Backbone, load_backbone
from ndec_builder.embeddings.model_kinds import MODEL_KINDS
from ndec_builder.embeddings.model_names import parse_model

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _random_weights_from_a_seed() -> object:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def settled(net: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, so that leaving one out would show."""
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.uniform_(module.weight, 0.5, 1.0)
    return net.eval()


def gem(maps: torch.Tensor, p: float) -> torch.Tensor:
    return F.avg_pool2d(maps.clamp(min=1e-6).pow(p), maps.shape[-2:]).pow(1 / p).flatten(1)


def same(backbone: Backbone, expected: Callable[[torch.Tensor], torch.Tensor], size: int) -> None:
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        got, wanted = backbone(images), expected(images)
    assert got.shape == wanted.shape and torch.allclose(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def multigrain_file(path: Path, p: float | None = 3.0) -> nn.Module:
    net = settled(torchvision.models.resnet50(num_classes=10))
    state = {f"features.{name}": value for name, value in net.state_dict().items() if not name.startswith("fc.")}
    state |= {f"classifier.{name}": value for name, value in net.fc.state_dict().items()}
    if p is not None:
        state["pool.p"] = torch.tensor(p)
    torch.save({"model_state": state, "epoch": 119}, path)
    return net


def test_multigrain(tmp_path: Path) -> None:
    net = multigrain_file(tmp_path / "joint.pth", p=2.5)
    maps = nn.Sequential(*list(net.children())[:-2])
    backbone = load_backbone(f"multigrain:{tmp_path / 'joint.pth'}@96")
    assert (backbone.dim, backbone.size, backbone.keep_shape) == (2048, 96, True)
    same(backbone, lambda images: gem(maps(images), 2.5), 96)
    same(load_backbone(f"multigrain:{tmp_path / 'joint.pth'}@96,p=7"), lambda images: gem(maps(images), 7.0), 64)
    name = parse_model(f"multigrain:{tmp_path / 'joint.pth'},p=7")
    assert (name.p, name.size, name.whitening_dim) == (7.0, None, 1500)
    assert name.fingerprint() != parse_model(f"multigrain:{tmp_path / 'joint.pth'}").fingerprint()
    multigrain_file(tmp_path / "bare.pth", p=None)
    bare = load_backbone(f"multigrain:{tmp_path / 'bare.pth'}")
    assert (bare.pool.p, bare.license, bare.target(1024, 768)) == (3.0, "CC-BY-NC-4.0", (512, 384))


class PlainDescriptor(nn.Module):
    """The ISC21 winner's network as its paper draws it: trunk, GeM, linear, batch norm."""

    def __init__(self, architecture: str, dim: int) -> None:
        super().__init__()
        import timm

        self.backbone = timm.create_model(architecture, pretrained=False, features_only=True)
        self.fc = nn.Linear(self.backbone.feature_info.channels()[-1], dim, bias=False)
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.bn(self.fc(gem(self.backbone(images)[-1], 4.0)))


def test_isc21(tmp_path: Path) -> None:
    net = settled(PlainDescriptor("tf_efficientnetv2_b0", 256))
    args = argparse.Namespace(arch="tf_efficientnetv2_b0", gem_p=3.0, gem_eval_p=4.0, input_size=512, workers=8)
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    torch.save({"epoch": 9, "arch": args.arch, "args": args, "state_dict": state}, tmp_path / "v98.pth.tar")
    backbone = load_backbone(f"isc21:{tmp_path / 'v98.pth.tar'}@64")
    assert (backbone.dim, backbone.size, backbone.mean) == (256, 64, (0.485, 0.456, 0.406))
    assert load_backbone(f"isc21:{tmp_path / 'v98.pth.tar'}").size == 512
    same(backbone, net, 64)


class Evil:
    def __reduce__(self) -> tuple:
        return (print, ("code was run",))


def test_isc21_refuses_what_is_not_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = argparse.Namespace(arch="resnet18", callback=Evil())
    torch.save({"arch": "resnet18", "args": args, "state_dict": {"a": torch.zeros(1)}}, tmp_path / "evil.pth.tar")
    with pytest.raises(NdecError, match=r"evil\.pth\.tar was refused.*could run code"):
        load_backbone(f"isc21:{tmp_path / 'evil.pth.tar'}")
    assert "code was run" not in capsys.readouterr().out


def test_isc21_names_a_few_of_what_another_file_holds(tmp_path: Path) -> None:
    torch.save({f"layer{n}": torch.zeros(1) for n in range(120)}, tmp_path / "other.pth")
    with pytest.raises(NdecError, match=r"holds layer0, layer1, layer2, layer3, layer4 and 115 more; expected arch"):
        load_backbone(f"isc21:{tmp_path / 'other.pth'}")


class Gem(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * p)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return gem(maps, float(self.p.detach()))


class Ibn(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        self.IN, self.BN = nn.InstanceNorm2d(planes // 2, affine=True), nn.BatchNorm2d(planes - planes // 2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        first, second = torch.split(maps, maps.shape[1] // 2, 1)
        return torch.cat((self.IN(first.contiguous()), self.BN(second.contiguous())), 1)


class PlainBot(nn.Module):
    """A ResNet as a list of layers with last stride 1, GeM and a projector, as the field's baselines lay it out."""

    def __init__(self, projector: nn.Sequential, p: float, ibn: bool) -> None:
        super().__init__()
        net = torchvision.models.resnet50()
        net.layer4[0].conv2.stride = net.layer4[0].downsample[0].stride = (1, 1)
        if ibn:
            for layer in (net.layer1, net.layer2, net.layer3):
                for block in layer:
                    block.bn1 = Ibn(block.bn1.num_features)
        wave = nn.Identity()
        self.base = nn.Sequential(
            net.conv1,
            net.bn1,
            net.maxpool,
            net.relu,
            net.layer1,
            net.layer2,
            wave,
            net.layer3,
            wave,
            net.layer4,
            Gem(p),
        )
        self.projector_feat_bn = projector
        self.classifier = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.projector_feat_bn(self.base(images))


@pytest.mark.parametrize("form", ["bot", "d2lv with ibn"])
def test_bot_and_d2lv(form: str, tmp_path: Path) -> None:
    inner = nn.Sequential(nn.Linear(2048, 64), nn.BatchNorm1d(64), nn.LeakyReLU(0.2), nn.Linear(64, 96))
    projector = nn.Sequential(nn.BatchNorm1d(2048)) if form == "bot" else nn.Sequential(inner, nn.BatchNorm1d(96))
    net = settled(PlainBot(projector, 3.5, ibn=form != "bot"))
    torch.save(net.state_dict(), tmp_path / "baseline.pth")
    backbone = load_backbone(f"bot:{tmp_path / 'baseline.pth'}@64")
    assert backbone.dim == (2048 if form == "bot" else 96)
    assert load_backbone(f"bot:{tmp_path / 'baseline.pth'}").size == 256
    same(backbone, net, 64)


def test_bot_with_a_second_projector(tmp_path: Path) -> None:
    net = settled(PlainBot(nn.Sequential(nn.BatchNorm1d(2048)), 3.0, ibn=False))
    second = settled(nn.Sequential(nn.Linear(2048, 32), nn.BatchNorm1d(32)))
    state = net.state_dict() | {f"projector_feat_bn_1.{name}": value for name, value in second.state_dict().items()}
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "strong.pth")
    same(load_backbone(f"bot:{tmp_path / 'strong.pth'}@64"), lambda images: second(net(images)), 64)


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_onnx(batch: int | None, tmp_path: Path) -> None:
    """A ReLU'd convolution written as an ONNX graph, with a free and with a fixed batch size."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    conv = nn.Conv2d(3, 6, 5, stride=4)
    helper, tensor = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Conv", ["images", "w", "b"], ["maps"], kernel_shape=[5, 5], strides=[4, 4]),
        helper.make_node("Relu", ["maps"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", tensor.FLOAT, [batch or "n", 3, 48, 48])],
        [helper.make_tensor_value_info("features", tensor.FLOAT, [batch or "n", 6, 11, 11])],
        [onnx.numpy_helper.from_array(v.detach().numpy(), k) for k, v in (("w", conv.weight), ("b", conv.bias))],
    )
    path = tmp_path / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    backbone = load_backbone(f"onnx:{path}")
    assert (backbone.size, backbone.dim, backbone.autocast) == (48, 6, False)
    same(backbone, lambda images: gem(F.relu(conv(images)), 3.0), 48)
    with pytest.raises(NdecError, match="takes images of 48 px, not 64"):
        load_backbone(f"onnx:{path}@64")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(NdecError, match="onnxruntime cannot load"):
        load_backbone(f"onnx:{path}")


class Sscd(nn.Module):
    """SSCD's form: a trunk, GeM, a linear layer, L2."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.linear = nn.Conv2d(3, 16, 7, stride=8), nn.Linear(16, 12)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.trunk(images)).clamp(min=1e-6).pow(3.0)
        return F.normalize(self.linear(maps.mean(dim=[2, 3]).pow(1.0 / 3.0)))


def test_torchscript(tmp_path: Path) -> None:
    net = Sscd().eval()
    torch.jit.script(net).save(str(tmp_path / "disc.torchscript.pt"))
    backbone = load_backbone(str(tmp_path / "disc.torchscript.pt"))
    assert (backbone.dim, backbone.size) == (12, 288)
    same(backbone, net, 288)


def test_timm(tmp_path: Path) -> None:
    import timm

    net = settled(timm.create_model("resnet10t"))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    same(
        load_backbone(f"timm:resnet10t@{tmp_path / 'net.pth'}"),
        lambda images: gem(net.forward_features(images), 3.0),
        96,
    )


def test_open_clip_file(tmp_path: Path) -> None:
    import open_clip

    net = open_clip.create_model("ViT-S-32-alt", precision="fp32").eval()
    torch.save(net.state_dict(), tmp_path / "tower.pt")
    backbone = load_backbone(f"open_clip:ViT-S-32-alt@{tmp_path / 'tower.pt'}")
    same(backbone, net.encode_image, 224)


@pytest.mark.parametrize("kind", ["multigrain", "isc21", "bot"])
def test_the_wrong_format_is_named(kind: str, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(NdecError, match=r"other\.pth (has no weights named|holds conv1\.weight;)"):
        load_backbone(f"{kind}:{tmp_path / 'other.pth'}")
    with pytest.raises(NdecError, match=r"nowhere\.pth does not exist"):
        load_backbone(f"{kind}:{tmp_path / 'nowhere.pth'}")
    with pytest.raises(UsageError, match="SIZE is at least 32 px and P at least 1"):
        parse_model(f"{kind}:{tmp_path / 'other.pth'}@8")


def test_weights_of_another_depth_or_width(tmp_path: Path) -> None:
    net = torchvision.models.resnet18()
    torch.save({"model_state": {f"features.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "r18.pth")
    with pytest.raises(NdecError, match=r"2 blocks named layer3\.N; expected a ResNet-50"):
        load_backbone(f"multigrain:{tmp_path / 'r18.pth'}")
    multigrain_file(tmp_path / "r50.pth")
    checkpoint = torch.load(tmp_path / "r50.pth", weights_only=True)
    del checkpoint["model_state"]["features.conv1.weight"]
    torch.save(checkpoint, tmp_path / "cut.pth")
    with pytest.raises(NdecError, match=r"do not fit a torchvision ResNet.*conv1\.weight"):
        load_backbone(f"multigrain:{tmp_path / 'cut.pth'}")


def test_every_kind_says_what_it_needs() -> None:
    for kind, row in MODEL_KINDS.items():
        assert all((row.form, row.needs, row.input, row.license, row.commercial)), kind
        __import__(f"ndec_builder.embeddings.backbones.{row.module}")
    assert MODEL_KINDS["multigrain"].commercial == "no" and np.isclose(MODEL_KINDS["lite"].whitening_dim, 256)
