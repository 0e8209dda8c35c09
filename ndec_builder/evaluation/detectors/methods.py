"""`--method NAME=SOURCE`: the detectors of a table or figure.

SOURCE is a predictions csv, ISC2021 descriptors (`queries.h5,references.h5`), a run of `ndec train-asl`, or a model
name. Several models or runs, separated by commas, are an ensemble.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ndec_builder.core.errors import UsageError
from ndec_builder.evaluation.settings import BenchmarkConfig

HDF5 = {".h5", ".hdf5"}


@dataclass(frozen=True)
class Method:
    """One detector. source: values for the fields of BenchmarkConfig that select it."""

    name: str
    source: dict[str, Any]

    @property
    def has_norms(self) -> bool:
        """Whether its own norms were trained, so that the filter needs no other network."""
        return "checkpoint" in self.source and "model" not in self.source


def parse_methods(texts: Sequence[str]) -> list[Method]:
    """Parse all methods. Raises UsageError for a malformed text, files that do not go together, or equal names."""
    methods = [parse_method(text) for text in texts]
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise UsageError(f"the methods {', '.join(names)} are not all different; give each its own name")
    return methods


def parse_method(text: str) -> Method:
    name, equals, source = text.partition("=")
    # a comma before KEY= belongs to the model: onnx:FILE,norm=clip
    parts = [part.strip() for part in re.split(r",(?!\s*\w+=)", source) if part.strip()]
    if not name.strip() or not equals or not parts:
        raise UsageError(f"--method {text!r} is not NAME=SOURCE, as in BoT=predictions.csv or Simple=runs/baseline")
    kinds = [_kind(part) for part in parts]
    if "predictions" in kinds:
        if len(parts) > 1:
            raise UsageError(f"--method {text!r}: a predictions csv is a complete method; give only the csv")
        return Method(name.strip(), {"predictions": Path(parts[0])})
    if "descriptors" in kinds:
        if set(kinds) != {"descriptors"}:
            raise UsageError(f"--method {text!r} mixes HDF5 files with models; give either files or models")
        return Method(name.strip(), {"descriptors": tuple(map(Path, parts))})
    found: dict[str, tuple[Any, ...]] = {
        "checkpoint": tuple(Path(p) for p, kind in zip(parts, kinds, strict=True) if kind == "checkpoint"),
        "model": tuple(p for p, kind in zip(parts, kinds, strict=True) if kind == "model"),
    }
    return Method(name.strip(), {key: values for key, values in found.items() if values})


def config_of(method: Method, protocol: BenchmarkConfig, **changes: Any) -> BenchmarkConfig:
    """The benchmark of one method under the protocol's settings, with the scorer `cosine` unless changed."""
    values = {field.name: getattr(protocol, field.name) for field in fields(BenchmarkConfig)}
    empty: dict[str, Any] = {"asl_checkpoint": None, "scorer": "cosine"}
    if "predictions" in method.source:  # already searched
        empty |= {"k": None, "norm_factor": 0.0}
    if "predictions" in method.source or "descriptors" in method.source:
        empty |= {"test_size": ()}
    config = BenchmarkConfig(**{**values, **empty, **method.source, **changes})
    config.check()
    return config


def _kind(part: str) -> str:
    path = Path(part)
    if path.suffix.lower() == ".csv":
        return "predictions"
    if path.suffix.lower() in HDF5:
        return "descriptors"
    if path.is_dir() or path.name in ("checkpoint.safetensors", "checkpoint.json"):
        return "checkpoint"
    return "model"
