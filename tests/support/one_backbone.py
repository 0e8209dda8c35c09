"""The default model loaded, and converted for OpenVINO, once for many commands in one process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import pytest
import torch


@contextlib.contextmanager
def one_backbone(*, in_training: bool = False) -> Iterator[None]:
    """It is frozen, and loading it is most of a small run's time.

    in_training: also in `train-asl`. Not for training of a whole network, which changes the model, and so not where
    other tests run inside the context.
    """
    from ndec_builder.embeddings import backbones
    from ndec_builder.training import checkpoint, train

    with pytest.MonkeyPatch.context() as patch:
        load = functools.cache(backbones.load_backbone)

        @functools.wraps(backbones.load_backbone)
        def loaded(name: str, device: str | torch.device = "cpu") -> backbones.Backbone:
            return load(name, str(device))

        for module in (backbones, checkpoint, *([train] if in_training else [])):
            patch.setattr(module, "load_backbone", loaded)
        yield
