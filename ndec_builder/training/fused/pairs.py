"""Training pairs of the fused scorer: synthetic copies of training images, and look-alikes that are not copies.

* copy: (edited copy of x, x), a copy.
* rival: (edited copy of x, a different training image), not a copy; the closest images by descriptor.
* far_rival: (edited copy of x, any other training image), not a copy; added by `run.far_rivals`.
* reverse: (x, a crop of x), not a copy: the query shows more.
* two_crops: (a crop of x, another crop of x), not a copy, unless the query's crop is inside the other.
* hard: (latter, former) of train_pairs, re-encoded, not a copy, as annotators decided.
* hard_edited: the same with effects of image editors.
* copy_of_hard: (edited copy of latter or former, the same), a copy that has a look-alike.

Queries and references of the evaluated set are never read. The pairs depend only on seed and image bytes,
so any number of workers makes the same pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ndec_builder.edits.recipes import edit_image
from ndec_builder.training.data import TrainingSet

PAIR_KINDS = ("copy", "rival", "far_rival", "reverse", "two_crops", "hard", "hard_edited", "copy_of_hard")
MAX_CONTAINED = 0.9  # a crop with a larger share inside the other is (nearly) a copy of it


@dataclass(frozen=True)
class PairSample:
    """One pair: `query` is a picture made here; the reference is one too, or the stored training image `row`."""

    kind: str
    is_copy: bool
    query: Image.Image
    reference: Image.Image | None
    row: int  # training image of the reference
    source: int  # training image that the query was made from


def samples_of_image(
    row: int,
    picture: Image.Image,
    rng: np.random.Generator,
    backgrounds: Sequence[Image.Image],
    copies: int,
    editor_copies: int = 0,
) -> list[PairSample]:
    """The synthetic pairs of one training image; rivals are added later, with the descriptors.

    editor_copies: made last, so that the other pairs do not depend on their number.
    """
    samples = [
        PairSample("copy", True, edit_image(picture, "copy", rng, backgrounds).image, None, row, row)
        for _ in range(copies)
    ]
    part = edit_image(picture, "crop", rng)
    full = edit_image(picture, "light", rng).image if rng.random() < 0.7 else picture
    samples.append(PairSample("reverse", False, full, part.image, row, row))
    other = edit_image(picture, "crop", rng)
    if contained(recorded_crop_box(other.edits), recorded_crop_box(part.edits)) < MAX_CONTAINED:
        samples.append(PairSample("two_crops", False, other.image, part.image, row, row))
    for _ in range(editor_copies):
        samples.append(PairSample("copy", True, _edited(picture, rng, backgrounds), None, row, row))
    return samples


def samples_of_pair(
    latter: int,
    former: int,
    pictures: tuple[Image.Image, Image.Image],
    rng: np.random.Generator,
    backgrounds: Sequence[Image.Image],
    editor_copies: int = 0,
) -> list[PairSample]:
    """Pairs of one hard negative pair. Its query is not cropped: a crop of it may be a copy of the former."""
    queries = [pictures[0], edit_image(pictures[0], "light", rng).image, edit_image(pictures[0], "light", rng).image]
    samples = [PairSample("hard", False, query, None, former, latter) for query in queries]
    for row, picture in zip((latter, former), pictures, strict=True):
        samples.append(
            PairSample("copy_of_hard", True, edit_image(picture, "copy", rng, backgrounds).image, None, row, row)
        )
    for _ in range(editor_copies):
        made = [_edited(picture, rng, backgrounds, cropped=False) for picture in pictures]
        samples.append(PairSample("hard_edited", False, made[0], None, former, latter))
        samples.append(PairSample("copy_of_hard", True, made[1], None, former, former))
    return samples


def _edited(
    picture: Image.Image, rng: np.random.Generator, backgrounds: Sequence[Image.Image], cropped: bool = True
) -> Image.Image:
    """The picture with effects of image editors, at most as large as before (a collage is larger).

    cropped: whether a crop may be among them.
    """
    while True:
        made = edit_image(picture, "editor", rng, backgrounds)
        if cropped or all(edit["operation"] != "crop" for edit in made.edits):
            break
    made.image.thumbnail(picture.size, Image.Resampling.BICUBIC)
    return made.image


def rivals(sample: PairSample, scores: np.ndarray, data: TrainingSet, count: int) -> list[PairSample]:
    """The `count` training images closest to a copy, without its source, its class and its group.

    scores: (n,) of the copy against all training images. Ties: the first row.
    """
    groups = data.images["group"].to_pylist()
    found: list[PairSample] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if len(found) == count:
            break
        own = data.classes[row] == data.classes[sample.source] or row == sample.source
        if own or (groups[row] is not None and groups[row] == groups[sample.source]):
            continue
        found.append(replace(sample, kind="rival", is_copy=False, reference=None, row=row))
    return found


def recorded_crop_box(edits: tuple[dict[str, object], ...]) -> list[float]:
    """The box of the crop among recorded edits."""
    return next(edit["parameters"]["box"] for edit in edits if edit["operation"] == "crop")  # type: ignore[index]


def contained(inner: list[float], outer: list[float]) -> float:
    """Share of the box `inner` that lies inside `outer`; boxes are (left, top, right, bottom)."""
    wide = min(inner[2], outer[2]) - max(inner[0], outer[0])
    tall = min(inner[3], outer[3]) - max(inner[1], outer[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return max(wide, 0.0) * max(tall, 0.0) / area
