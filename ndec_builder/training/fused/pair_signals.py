"""The signals of a pair for the fused scorer: its geometry, thumbnails, edges and layout."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ndec_builder.candidates.geometry.fitting import SIGNALS
from ndec_builder.candidates.geometry.keypoints import DescribedPicture, describe_picture
from ndec_builder.training.fused.edges import EDGES, edge_agreement, edge_square, fit_either_tone
from ndec_builder.training.fused.layout import LAYOUT, Layout, compare_layouts, make_layout
from ndec_builder.training.fused.thumbnails import (
    THUMBS,
    SearchableThumbnail,
    compare_thumbnails,
    make_thumbnail,
    whole_correlation,
)

PAIR_SIGNALS = (*SIGNALS, *THUMBS, *EDGES, *LAYOUT)


@dataclass(frozen=True, eq=False)
class PairPicture:
    """What comparing a picture with others needs, computed once per picture."""

    described: DescribedPicture
    thumbnail: SearchableThumbnail
    edges: np.ndarray  # of `edge_square`
    layout: Layout

    def packed(self) -> PairPicture:
        """A smaller one that can only be a reference: without colours, and each number of its descriptors in a byte."""
        nothing = self.described.rgb[:0].copy()  # a view would keep all colours
        return self._describing(rgb=nothing, descriptors=self.described.descriptors.astype(np.uint8))

    def unpacked(self) -> PairPicture:
        """Ready for `pair_vector`."""
        return self._describing(descriptors=self.described.descriptors.astype(np.float32))

    def _describing(self, **arrays: np.ndarray) -> PairPicture:
        return replace(self, described=replace(self.described, **arrays))


def prepare_picture(rgb: np.ndarray) -> PairPicture:
    """Keypoints, thumbnail, edges and layout of a picture (h, w, 3) uint8."""
    described = describe_picture(rgb)
    grey = described.grey
    return PairPicture(described, make_thumbnail(grey), edge_square(grey), make_layout(grey))


def pair_vector(query: PairPicture, reference: PairPicture) -> np.ndarray:
    """PAIR_SIGNALS of a pair as (30,) float64."""
    geometry, by_edges = fit_either_tone(query.described, reference.described)
    edges = edge_agreement(query.described, reference.described, geometry)
    found = compare_thumbnails(query.thumbnail, reference.thumbnail)
    outlines = whole_correlation(query.edges, reference.edges)
    negative = whole_correlation(-query.thumbnail.square, reference.thumbnail.square)
    layout = compare_layouts(query.layout, reference.layout)
    return np.concatenate([geometry.vector(), found, [by_edges, *edges, outlines, negative], layout])
