"""Pictures of the worst mistakes: false positives at the top of the list, and missed copies."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.annotation.web.overlays import align_pictures, difference_pixels
from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.pictures.ingested import read_image
from ndec_builder.evaluation.dataset import Dataset
from ndec_builder.evaluation.metrics.estimates import STRATA
from ndec_builder.evaluation.metrics.ranked import RankedList
from ndec_builder.evaluation.predictions import Predictions

THUMBNAIL = 200  # longest side in pixels
OVERLAY = 320
SOURCE = 500  # longest side of the images that are aligned: enough to see what differs


@dataclass(frozen=True)
class Exhibit:
    """One pair with its pictures as data URIs (empty if unreadable, None if not asked for) and facts about it.

    overlay: difference of the query and the reference after alignment by the fitted homography: black where they are
    equal, blue for content of the query only, orange for content of the reference only; empty if no fit was found.
    """

    query_id: str
    reference_id: str
    query_picture: str | None
    reference_picture: str | None
    facts: tuple[str, ...]
    overlay: str = ""


def worst_false_positives(
    dataset: Dataset, final: Predictions, ranked: RankedList, count: int, pictures: bool = True
) -> list[Exhibit]:
    """The first `count` negatives of the final list. ranked: `final` in rank order."""
    ranks = np.flatnonzero(~ranked.is_match)[:count]
    exhibits = []
    for place in ranks:
        row = ranked.rows[place]
        query, reference = int(final.query[row]), int(final.reference[row])
        stratum = STRATA[dataset.stratum[query]]
        kind = dataset.kinds[query].replace("_", " ")
        exhibits.append(make_exhibit(dataset, query, reference, (
            f"rank {place + 1:,}", f"score {final.scores[row]:.2f}",
            f"query: {kind}" if stratum == "none" else f"query: {kind}, {stratum.replace('_', ' ')}",
        ), pictures))  # fmt: skip
    return exhibits


def missed_copies(
    dataset: Dataset,
    final: Predictions,
    ranked: RankedList,
    searched: Predictions,
    n: int,
    count: int,
    pictures: bool = True,
) -> list[Exhibit]:
    """Ground-truth pairs below the cut at N: first those not found, then those filtered out, then the lowest ranked.

    Of those filtered out, the best scored come first: they are mistakes of the filter.
    """
    order = final.pairs(len(dataset.references))[ranked.rows].tolist()
    ranks = {pair: place for place, pair in enumerate(order, start=1)}
    scores = dict(zip(searched.pairs(len(dataset.references)).tolist(), searched.scores.tolist(), strict=True))
    missed = []
    for pair in dataset.truth.tolist():
        if pair not in scores:
            missed.append((0, 0, pair, "not found by the search"))
        elif pair not in ranks:
            missed.append((1, -scores[pair], pair, f"rejected by the norm ratio, score {scores[pair]:.2f}"))
        elif ranks[pair] > n:
            missed.append((2, -ranks[pair], pair, f"rank {ranks[pair]:,}, score {scores[pair]:.2f}"))
    return [
        make_exhibit(dataset, pair // len(dataset.references), pair % len(dataset.references), (fact,), pictures)
        for _, _, pair, fact in sorted(missed)[:count]
    ]


def worst_mistakes(false_positives: Sequence[Exhibit], missed: Sequence[Exhibit], count: int = 5) -> list[Exhibit]:
    """The worst of both galleries in turn, false positives first; `count` in all if there are as many."""
    turns = itertools.zip_longest(false_positives, missed)
    return [exhibit for pair in turns for exhibit in pair if exhibit is not None][:count]


def make_exhibit(
    dataset: Dataset, query: int, reference: int, facts: tuple[str, ...], pictures: bool = True
) -> Exhibit:
    """The exhibit of a pair given by its rows in the dataset. Without `pictures` no image is read."""
    if not pictures:
        return Exhibit(dataset.query_ids[query], dataset.reference_ids[reference], None, None, facts)
    left = _image(dataset, dataset.queries.slice(query, 1).to_pylist()[0])
    right = _image(dataset, dataset.references.slice(reference, 1).to_pylist()[0])
    return Exhibit(
        dataset.query_ids[query], dataset.reference_ids[reference], _inline(left, THUMBNAIL), _inline(right, THUMBNAIL),
        facts, _overlay(left, right),
    )  # fmt: skip


def _overlay(query: Image.Image | None, reference: Image.Image | None) -> str:
    if query is None or reference is None:
        return ""
    aligned = align_pictures(query, reference)
    return "" if aligned is None else _inline(Image.fromarray(difference_pixels(aligned)), OVERLAY)


def _image(dataset: Dataset, row: dict[str, Any]) -> Image.Image | None:
    try:
        image = decode(read_image(dataset.resolve(row["uri"]), row["sha256"]), row.get("rotation") or 0).convert("RGB")
    except (DecodeError, OSError):
        return None
    image.thumbnail((SOURCE, SOURCE))
    return image


def _inline(image: Image.Image | None, side: int) -> str:
    """A data URI of at most `side` pixels; empty without an image."""
    if image is None:
        return ""
    small = image.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
