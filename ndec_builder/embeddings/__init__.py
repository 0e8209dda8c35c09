"""Turns images into vectors: backbones, pooling, whitening."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndec_builder.core.lazy import lazy

if TYPE_CHECKING:
    from ndec_builder.embeddings.backbones import Backbone as Backbone
    from ndec_builder.embeddings.backbones import load_backbone as load_backbone
    from ndec_builder.embeddings.backbones.pooling import GeM as GeM
    from ndec_builder.embeddings.settings import DescriptorsConfig as DescriptorsConfig
    from ndec_builder.embeddings.settings import EmbedConfig as EmbedConfig
    from ndec_builder.embeddings.stored_vectors import Embeddings as Embeddings
    from ndec_builder.embeddings.stored_vectors import read_embeddings as read_embeddings
    from ndec_builder.embeddings.whitening import Whitening as Whitening

__getattr__, __dir__ = lazy(__name__, __file__)
