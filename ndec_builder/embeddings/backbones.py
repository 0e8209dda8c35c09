"""Backbones: a trunk and its pooling behind one interface, whatever library they come from."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.embeddings.model_names import ModelName, parse
from ndec_builder.embeddings.pooling import GeM

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The Lite weights come from TensorFlow, which feeds (x - 127) / 128 with x in 0…255.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
Triple = tuple[float, float, float]


class Backbone(nn.Module):
    """Images (n, 3, h, w) float32, normalised with `mean` and `std` → descriptors (n, dim) float32, not normalised.

    Feature maps (n, c, h, w) of the trunk are pooled by GeM (p = 3); a trunk that ends in vectors keeps its own
    pooling, since transformers' tokens are signed and GeM would cut off half of them.
    """

    def __init__(
        self,
        trunk: nn.Module,
        name: ModelName,
        size: int,
        mean: Triple,
        std: Triple,
        license: str,
        autocast: bool = True,
    ) -> None:
        super().__init__()
        self.trunk, self.pool = trunk, GeM()
        self.name, self.size, self.mean, self.std, self.license = name.name, size, mean, std, license
        self.autocast = autocast  # whether bfloat16 autocast may be used on the trunk
        self.fingerprint, self.weights = name.fingerprint(), name.weights_sha256()
        self.dim = self._probe_dim()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.trunk(images)
        if isinstance(output, (tuple, list)):
            output = output[0]
        return self.pool(output) if output.ndim == 4 else output.float()

    def _probe_dim(self) -> int:
        self.eval()
        try:
            with torch.inference_mode():
                shape = tuple(self(torch.zeros(1, 3, self.size, self.size)).shape)
        except RuntimeError as error:
            raise NdecError(
                f"the model {self.name} does not take images of {self.size}x{self.size} px "
                f"({str(error).strip().splitlines()[-1]}); give its size as FILE@SIZE"
            ) from None
        if len(shape) != 2:
            raise NdecError(f"the model {self.name} answers with the shape {shape}; expected (n, d) or (n, c, h, w)")
        return shape[1]


def load_backbone(name: str, device: str | torch.device = "cpu") -> Backbone:
    """Load a backbone by name (see `model_names`), frozen in evaluation mode, channels_last, on the device.

    Raises UsageError for a name that does not exist, NdecError for weights that are missing, refused or do not fit.
    """
    model = parse(name)
    build = {"lite": _lite, "timm": _timm, "open_clip": _open_clip, "torchscript": _torchscript}[model.kind]
    backbone = build(model).eval()
    return backbone.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def best_device(wanted: str = "auto") -> str:
    """`auto` → cuda when there is one, else cpu. Raises UsageError when CUDA is asked for and absent."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise UsageError(f"device {wanted!r} is unknown; it is one of auto, cpu, cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda was asked for, but this torch sees no CUDA device; pass --device cpu")
    return wanted


class _LiteTrunk(nn.Module):
    """EfficientNet-Lite up to its last feature map: (n, 3, h, w) → (n, 1280, h/32, w/32)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.net.extract_features(images)  # type: ignore[operator]
        return maps


def _lite(model: ModelName) -> Backbone:
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name(model.architecture)
    net.load_state_dict(read_state(_file_of(model)))
    net._fc = nn.Identity()  # the classifier is not part of a descriptor
    return Backbone(_LiteTrunk(net), model, 224, LITE_MEAN, LITE_STD, "Apache-2.0")


class _TimmTrunk(nn.Module):
    """A timm model without classifier: its feature map (n, c, h, w), or its own descriptor when it ends in tokens."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.net.forward_features(images)  # type: ignore[operator]
        if output.ndim == 4 and getattr(self.net, "output_fmt", "NCHW") != "NHWC":
            return output
        head: torch.Tensor = self.net.forward_head(output, pre_logits=True)  # type: ignore[operator]
        return head


def _timm(model: ModelName) -> Backbone:
    import timm

    if not timm.is_model(model.architecture):
        raise UsageError(
            f"timm has no model {model.architecture!r}; `python -c 'import timm; print(timm.list_models())'` lists them"
            f"{nearest(model.architecture, timm.list_models())}"
        )
    if model.weights is None:
        architecture = f"{model.architecture}.{model.tag}" if model.tag else model.architecture
        net = _from_hub(model, lambda: timm.create_model(architecture, pretrained=True, num_classes=0))
    else:
        net = timm.create_model(model.architecture, pretrained=False, num_classes=0)
        _load_all_but_classifier(net, read_state(model.weights), model)
    data = timm.data.resolve_model_data_config(net)
    license = net.pretrained_cfg.get("license") or "see the model's card"
    return Backbone(_TimmTrunk(net), model, data["input_size"][-1], data["mean"], data["std"], license)


def _open_clip(model: ModelName) -> Backbone:
    import open_clip

    known = open_clip.list_models()
    if model.architecture not in known:
        raise UsageError(f"open_clip has no model {model.architecture!r}{nearest(model.architecture, known)}")
    if model.weights is None and model.tag is None:
        tags = open_clip.list_pretrained_tags_by_model(model.architecture)
        raise UsageError(
            f"{model.name!r} names no weights; write {model.name}@FILE or @TAG with one of {', '.join(tags)}"
        )
    source = str(model.weights or model.tag)
    try:
        net = open_clip.create_model(model.architecture, pretrained=source, precision="fp32").visual
    except Exception as error:  # a hub out of reach, a refused pickle, weights that do not fit
        raise NdecError(f"cannot load {model.name}: {_short(error)} Give a file as {_with_file(model)}") from None
    config: dict[str, Any] = net.preprocess_cfg
    size = config["size"][0] if isinstance(config["size"], (tuple, list)) else config["size"]
    return Backbone(net, model, size, tuple(config["mean"]), tuple(config["std"]), "see the model's card")


def _torchscript(model: ModelName) -> Backbone:
    path = _file_of(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the format is on its way out; SSCD is published in it
            net = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError):
        raise NdecError(
            f"{path} is no TorchScript file; weights alone need the name of their architecture: timm:NAME@{path}"
        ) from None
    size = model.size or 0
    return Backbone(net, model, size, IMAGENET_MEAN, IMAGENET_STD, "unknown", autocast=False)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read weights from .safetensors or a torch file, never running code from it; wrappers and `module.` are taken off.

    Raises NdecError when the file holds anything but tensors or cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NdecError(
            f"{path} was refused: it is a pickle that holds more than tensors and could run code ({_short(error)}). "
            "If you trust it, load it yourself and save its state_dict alone as .safetensors"
        ) from None
    except Exception as error:  # safetensors and zip readers have their own error types
        raise NdecError(f"{path} cannot be read as weights ({_short(error)}); is the download complete?") from None
    for key in ("state_dict", "model_state", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NdecError(f"{path} holds no state_dict (name → tensor); save the model's state_dict() and pass that file")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _load_all_but_classifier(net: Any, state: dict[str, torch.Tensor], model: ModelName) -> None:
    classifier = net.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    state = {name: value for name, value in state.items() if not name.startswith(tuple(h + "." for h in heads))}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise NdecError(f"the weights in {model.weights} do not fit {model.architecture}: {_short(error)}") from None


def _from_hub(model: ModelName, create: Any) -> Any:
    try:
        return create()
    except Exception as error:  # the hub client has a dozen error types, all of them mean: no weights
        raise NdecError(
            f"cannot fetch the weights of {model.name} from its hub: {_short(error)} Without a connection to it, get "
            f"the file elsewhere and pass {_with_file(model)}"
        ) from None


def _with_file(model: ModelName) -> str:
    return f"{model.kind}:{model.architecture}@/path/to/weights.safetensors"


def _file_of(model: ModelName) -> Path:
    assert model.weights is not None, "lite and torchscript models always name a file"
    return model.weights


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
