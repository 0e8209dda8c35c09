"""Backbones: a trunk with its pooling. One module per published format."""

from ndec_builder.embeddings.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from ndec_builder.embeddings.backbones.load import best_device, load_backbone
from ndec_builder.embeddings.backbones.weights import read_state

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "best_device", "load_backbone", "read_state"]
