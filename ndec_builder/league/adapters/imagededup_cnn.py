"""imagededup's CNN: MobileNetV3 features, trained on ImageNet. Its first run downloads the weights."""

from __future__ import annotations

import functools
from typing import Any

REQUIRES = ("imagededup==0.3.3.post2",)
COMPARE = "cosine"
THRESHOLD = 0.9
THRESHOLD_SOURCE = "default of find_duplicates: min_similarity_threshold = 0.9"
LIMITS = "needs weights from the web at its first run"


def describe(path: str) -> Any:
    vector = _encoder().encode_image(image_file=path)
    if vector is None:
        raise ValueError("imagededup could not read it")
    return vector[0]


@functools.cache
def _encoder() -> Any:
    from imagededup.methods import CNN

    return CNN(verbose=False)
