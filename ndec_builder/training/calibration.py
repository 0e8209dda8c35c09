"""Choose the filter's threshold on training data that a second head was not trained on.

Norm ratios look better on images that the head was trained on: there, the paper's ratio 1 seems to keep nearly all
copies. So a second head is trained without part of the groups, and the threshold is chosen on that part.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ndec_builder.training.data import TrainingSet
from ndec_builder.training.model import Head, norms_of
from ndec_builder.training.view_cache import CachedViews

_PARTS = 5  # one of this many parts is held out
_FEWEST = 20  # with fewer held-out copies no threshold is chosen


@dataclass(frozen=True)
class Threshold:
    """The least query_over_reference, not below 1, that keeps `keep` of the held-out copies.

    copies: how many · kept, kept_at_1: share of them at or below the threshold, and at or below 1 ·
    hard: held-out hard negative pairs · rejected, rejected_at_1: share of them above; None without pairs.
    """

    value: float
    keep: float
    copies: int
    kept: float
    kept_at_1: float
    hard: int
    rejected: float | None
    rejected_at_1: float | None


def held_out(data: TrainingSet) -> set[str]:
    """Ids of the images of one in _PARTS groups, chosen by a hash of the name. Without a group, an image is its own."""
    names = zip(data.images["image_id"].to_pylist(), data.images["group"].to_pylist(), strict=True)
    return {image for image, group in names if _hash(group or image) % _PARTS == 0}


def _hash(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)


def choose_threshold(copies: np.ndarray, hard: np.ndarray, keep: float) -> Threshold | None:
    """From query_over_reference of held-out copies (c,) and hard negative pairs (h,); None with too few copies."""
    if len(copies) < _FEWEST:
        return None
    least = math.ceil(keep * len(copies) - 1e-9)  # .8 · 25 is 20, not 21
    value = max(1.0, float(np.sort(copies)[max(least, 1) - 1]))

    def rejected(at: float) -> float | None:
        return float((hard > at).mean()) if len(hard) else None

    return Threshold(
        value, keep, len(copies), float((copies <= value).mean()), float((copies <= 1).mean()), len(hard),
        rejected(value), rejected(1.0),
    )  # fmt: skip


def held_out_ratios(
    head: Head, data: TrainingSet, views: CachedViews, held: set[str], kinds: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """query_over_reference of held-out images: each edited copy over its original, each latter over its former.

    `views`: in the order of the training set; `kinds`: the kind of each view. Only the kind `copy` counts as a copy,
    because its mix of edits is that of test copies.
    """
    ids = data.images["image_id"].to_pylist()
    rows = np.array([row for row in range(data.basic) if ids[row] in held], dtype=np.int64)
    columns = [column for column, kind in enumerate(kinds) if kind == "copy"]
    lengths = norms_of(head, views.features)  # view 0 is the original
    copies = lengths[rows][:, columns] / lengths[rows, :1]
    inside = np.array([ids[a] in held and ids[b] in held for a, b in data.pairs.tolist()], dtype=bool)
    latter, former = data.pairs[inside & data.directed].T
    return copies.reshape(-1), lengths[latter, 0] / lengths[former, 0]
