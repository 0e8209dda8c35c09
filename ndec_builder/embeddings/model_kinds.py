"""The kinds of models: how each is written, what it needs, its licence. Data only, no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ModelKind:
    """One published form of weights. The licence is that of the published weights."""

    form: str  # as on the command line
    module: str  # ndec_builder/embeddings/backbones/<module>.py
    needs: str
    input: str
    license: str
    commercial: str  # commercial use: yes, no, or what it depends on
    whitening_dim: int = 256


MODEL_KINDS: dict[str, ModelKind] = {
    "lite": ModelKind(
        "efficientnet-lite0",
        "lite",
        "nothing: weights and code are installed with ndec",
        "224 px, squashed",
        "Apache-2.0 (trained on ImageNet)",
        "yes",
    ),
    "torchscript": ModelKind(
        "FILE[@SIZE]",
        "torchscript",
        "a TorchScript file (.pt, .pth, .ts, .jit), for example SSCD",
        "SIZE px (default 288), squashed",
        "SSCD: MIT; others: see the source of the file",
        "SSCD: yes",
    ),
    "multigrain": ModelKind(
        "multigrain:FILE[@SIZE][,p=P]",
        "multigrain",
        "MultiGrain's .pth with model_state (features.*)",
        "longest side 512 px, shape kept; GeM p from the file, the DISC21 benchmark used p=7",
        "CC-BY-NC-4.0",
        "no",
        whitening_dim=1500,
    ),
    "isc21": ModelKind(
        "isc21:FILE[@SIZE][,p=P]",
        "isc21",
        "the ISC21 descriptor winner's .pth.tar (arch, args, state_dict); v107 saw ISC ground truth, v98 did not",
        "512 px, squashed",
        "MIT (code; trained on DISC21, whose terms apply)",
        "code yes; ask about DISC21-trained weights",
    ),
    "bot": ModelKind(
        "bot:FILE[@SIZE][,p=P]",
        "bot",
        "a bare state_dict of BoT, D²LV or the NDEC baselines (base.N.*, projector_feat_bn.*)",
        "256 px, squashed",
        "MIT (code; trained on DISC21, whose terms apply)",
        "code yes; ask about DISC21-trained weights",
    ),
    "timm": ModelKind(
        "timm:NAME[.TAG][@FILE]",
        "timm_model",
        "a timm name; weights from FILE (.safetensors, .pth), else from its hub",
        "the model's own, squashed",
        "by model: `timm.get_pretrained_cfg(NAME).license`",
        "by model",
    ),
    "open_clip": ModelKind(
        "open_clip:NAME@FILE, @TAG or @TAG@FILE",
        "open_clip_model",
        "an open_clip name and its weights, a file or a tag of its hub",
        "the model's own, squashed",
        "by model and training set, see the card",
        "by model",
    ),
    "onnx": ModelKind(
        "onnx:FILE[@SIZE][,KEY=VALUE]…",
        "onnx_file",
        "an ONNX file with an image input (n, 3, h, w) or (n, h, w, 3), and `pip install 'ndec-builder[onnx]'`; "
        "input=NAME and output=NAME choose among several",
        "the size in the file, else 224 px, squashed; uint8 gets pixels; floats get norm=imagenet (default), clip, "
        "half, unit (0 to 1: the file normalises) or bytes (0 to 255), or mean=R/G/B,std=R/G/B",
        "see the source of the file",
        "see the source",
    ),
}


def model_kind_rows() -> list[dict[str, str]]:
    """The rows of `ndec embed --list-models`."""
    names = ("form", "needs", "input", "license", "commercial")
    return [{"kind": kind} | {name: asdict(row)[name] for name in names} for kind, row in MODEL_KINDS.items()]
