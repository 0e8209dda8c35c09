"""Pictures for timm and open_clip models are as the libraries make them; `benchmarks/preprocessing.py` has 20."""

from __future__ import annotations

import pytest
from preprocessing import compare_open_clip, compare_timm


@pytest.mark.parametrize("name", ["resnet50.tv_in1k", "vit_base_patch16_224.augreg_in21k"])
def test_timm(name: str) -> None:
    found = compare_timm(name)
    assert found.differs == ()
    assert found.exact < 1e-3 and found.resized <= 1.001  # grey levels: torch's and Pillow's kernels round differently


def test_open_clip() -> None:
    found = compare_open_clip("ViT-B-16-SigLIP", "webli")
    assert found.differs == () and found.theirs == "squash"
    assert found.exact < 1e-3 and found.resized <= 1.001
