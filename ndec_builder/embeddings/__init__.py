"""Decoding, backbones, pooling, whitening: images → vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone, load_backbone
    from ndec_builder.embeddings.pooling import GeM
    from ndec_builder.embeddings.settings import DescriptorsConfig, EmbedConfig
    from ndec_builder.embeddings.store import Embeddings, read_embeddings
    from ndec_builder.embeddings.whitening import Whitening

__all__ = [
    "Backbone",
    "DescriptorsConfig",
    "EmbedConfig",
    "Embeddings",
    "GeM",
    "Whitening",
    "load_backbone",
    "read_embeddings",
]
__getattr__, __dir__ = lazy(__name__, __file__)
