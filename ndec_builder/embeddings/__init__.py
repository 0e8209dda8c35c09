"""Decoding, backbones, pooling, whitening: images → vectors."""
