"""The command describes the pictures that its workers make, so that no worker loads torch and a trunk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ndec_builder.embeddings.backbones import Backbone
from ndec_builder.embeddings.inference import Inference
from ndec_builder.embeddings.preprocess import to_array
from ndec_builder.training.settings import TrainConfig
from ndec_builder.training.view_cache import trunk_features
from ndec_builder.training.views import TRUNK_BATCH


class PictureDescriber:
    """Up to TRUNK_BATCH pictures (h, w, 3) uint8 → (n, dim) float32 trunk features, in batches of one shape.

    May be called in several threads at once, under `torch_threads(1)`. `lanes` of them compute at a time; with as many
    as for the cached views, it uses their converted trunk.
    """

    def __init__(self, backbone: Backbone, bf16: str, lanes: int = TrainConfig.threads) -> None:
        self._size = backbone.size
        self._model = Inference(backbone, bf16, lanes)

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        # Channels last is the order of memory that the trunk takes.
        filled = np.zeros((TRUNK_BATCH, self._size, self._size, 3), np.uint8)
        for place, picture in enumerate(pictures):
            filled[place] = to_array(Image.fromarray(picture), self._size).transpose(1, 2, 0)
        return trunk_features(self._model, filled.transpose(0, 3, 1, 2))[: len(pictures)]
