"""`--method NAME=SOURCE`: what it may be, and the benchmark it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndec_builder.core.errors import UsageError
from ndec_builder.evaluation.detectors.methods import config_of, parse_method, parse_methods
from ndec_builder.evaluation.settings import PaperConfig


@pytest.mark.parametrize(
    ("text", "source", "norms"),
    [
        ("BoT=a/b.csv", {"predictions": Path("a/b.csv")}, False),
        ("SSCD=q.h5,r.hdf5", {"descriptors": (Path("q.h5"), Path("r.hdf5"))}, False),
        ("X=efficientnet-lite0", {"model": ("efficientnet-lite0",)}, False),
        ("X=timm:resnet50, efficientnet-lite0", {"model": ("timm:resnet50", "efficientnet-lite0")}, False),
        ("X=onnx:m.onnx@288,norm=clip,output=e", {"model": ("onnx:m.onnx@288,norm=clip,output=e",)}, False),
        ("X=onnx:m.onnx,p=3,a.pt", {"model": ("onnx:m.onnx,p=3", "a.pt")}, False),
        ("X=runs/checkpoint.json", {"checkpoint": (Path("runs/checkpoint.json"),)}, True),
        (" X = m , runs/checkpoint.json", {"model": ("m",), "checkpoint": (Path("runs/checkpoint.json"),)}, False),
    ],
)
def test_sources(text: str, source: dict[str, object], norms: bool) -> None:
    method = parse_method(text)
    assert (method.source, method.has_norms) == (source, norms)
    assert method.name == text.split("=")[0].strip()


def test_a_folder_is_a_run(tmp_path: Path) -> None:
    assert parse_method(f"Own={tmp_path}").source == {"checkpoint": (tmp_path,)}


@pytest.mark.parametrize("text", ["BoT", "=a.csv", "BoT=", "X=a.csv,b.csv", "X=q.h5,efficientnet-lite0"])
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_method(text)


def test_equal_names_are_refused() -> None:
    with pytest.raises(UsageError, match="not all different"):
        parse_methods(["X=a.csv", "X=b.csv"])


def test_predictions_take_no_search_of_the_protocol() -> None:
    protocol = PaperConfig(
        workspace=Path(), manifest=Path("m"), table=1, method=("X=a.csv",), asl_checkpoint=Path("asl"), k=10,
        norm_factor=2.0, n=7,
    )  # fmt: skip
    plain = config_of(parse_method("X=a.csv"), protocol)
    assert (plain.k, plain.norm_factor, plain.n, plain.asl_checkpoint) == (None, 0.0, 7, None)
    model = config_of(parse_method("X=efficientnet-lite0"), protocol)
    assert (model.k, model.norm_factor) == (10, 2.0)


P = Path("x")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "one at a time"),
        ({"table": 1, "figure": 6}, "one at a time"),
        ({"table": 3}, "table is 3; it must be 1 or 2"),
        ({"figure": 5}, "figure is 5; it must be 6, 7 or 8"),
        ({"table": 1}, "at least one --method"),
        ({"figure": 6}, "at least one --method"),
        ({"table": 1, "method": ("X=m",)}, "needs --asl-checkpoint"),
        ({"table": 2, "method": ("X=m",)}, "trains its own detectors"),
        ({"table": 2, "model": "m"}, "not as --model"),
        ({"table": 2, "seeds": 0}, "seeds is 0"),
        ({"figure": 6, "method": ("X=m",), "shares": 1}, "shares is 1; it must be at least 2"),
        ({"table": 2, "manifest": None, "queries": P, "references": P, "ground_truth": P}, "need a --manifest"),
    ],
)
def test_paper_settings_that_make_no_sense(fields: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PaperConfig(**{"workspace": P, "manifest": P, **fields}).check()  # type: ignore[arg-type]
