"""The signals of a pair for the fused scorer: its geometry, then its thumbnails."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ndec_builder.candidates.geometry.fitting import SIGNALS, fit_pictures
from ndec_builder.candidates.geometry.keypoints import DescribedPicture, describe_picture
from ndec_builder.training.fused.thumbnails import THUMBS, SearchableThumbnail, compare_thumbnails, make_thumbnail

PAIR_SIGNALS = (*SIGNALS, *THUMBS)


@dataclass(frozen=True, eq=False)
class PairPicture:
    """What comparing a picture with others needs, computed once per picture."""

    described: DescribedPicture
    thumbnail: SearchableThumbnail

    def without_colours(self) -> PairPicture:
        """A smaller one that can only be a reference: geometry needs the colours of queries only."""
        return replace(self, described=replace(self.described, rgb=self.described.rgb[:0]))


def prepare_picture(rgb: np.ndarray) -> PairPicture:
    """Keypoints and thumbnail of a picture (h, w, 3) uint8."""
    described = describe_picture(rgb)
    return PairPicture(described, make_thumbnail(described.grey))


def pair_vector(query: PairPicture, reference: PairPicture) -> np.ndarray:
    """PAIR_SIGNALS of a pair as (20,) float64."""
    geometry = fit_pictures(query.described, reference.described).vector()
    return np.concatenate([geometry, compare_thumbnails(query.thumbnail, reference.thumbnail)])
