"""The default model loaded, and converted for OpenVINO, once for many commands in one process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import pytest
import torch


@contextlib.contextmanager
def one_backbone() -> Iterator[None]:
    """It is frozen, and loading it is most of a small run's time. Not for training of a whole network."""
    from ndec_builder.embeddings import backbones
    from ndec_builder.training import checkpoint, train

    with pytest.MonkeyPatch.context() as patch:
        load = functools.cache(backbones.load_backbone)

        def loaded(name: str, device: str | torch.device = "cpu") -> backbones.Backbone:
            return load(name, str(device))

        for module in (backbones, checkpoint, train):
            patch.setattr(module, "load_backbone", loaded)
        yield
