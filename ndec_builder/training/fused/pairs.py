"""Training pairs of the fused scorer: synthetic copies of training images against what looks like them and is no copy.

    copy         (edited copy of x, x)                            a copy
    rival        (edited copy of x, another training image)       none; the closest ones by descriptor
    reverse      (x, a crop of x)                                 none: the query shows more
    two_crops    (a crop of x, another crop of x)                 none, unless the query's crop lies inside the other
    hard         (latter, former) of train_pairs, re-encoded      none: people said so
    copy_of_hard (edited copy of latter or former, the same)      a copy that has a look-alike

Queries and references of the evaluated set are never read. Everything depends on the seed and the image's bytes only,
so any number of workers makes the same pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ndec_builder.edits.recipes import edit_image
from ndec_builder.training.data import TrainingSet

KINDS = ("copy", "rival", "reverse", "two_crops", "hard", "copy_of_hard")
MAX_CONTAINED = 0.9  # a crop whose share inside the other is larger is (nearly) a copy of it


@dataclass(frozen=True)
class Sample:
    """One pair: `query` is a picture made here; the reference is a picture too, or else the training image `row`."""

    kind: str
    is_copy: bool
    query: Image.Image
    reference: Image.Image | None
    row: int  # training image that the reference is, or was cut from
    source: int  # training image that the query was made from


def samples_of_image(
    row: int, picture: Image.Image, rng: np.random.Generator, backgrounds: list[Image.Image], copies: int
) -> list[Sample]:
    """The synthetic pairs of one training image; rivals are added where descriptors are known."""
    samples = [
        Sample("copy", True, edit_image(picture, "copy", rng, backgrounds).image, None, row, row) for _ in range(copies)
    ]
    part = edit_image(picture, "crop", rng)
    whole = edit_image(picture, "light", rng).image if rng.random() < 0.7 else picture
    samples.append(Sample("reverse", False, whole, part.image, row, row))
    other = edit_image(picture, "crop", rng)
    if contained(crop_box(other.edits), crop_box(part.edits)) < MAX_CONTAINED:
        samples.append(Sample("two_crops", False, other.image, part.image, row, row))
    return samples


def samples_of_pair(
    latter: int,
    former: int,
    pictures: tuple[Image.Image, Image.Image],
    rng: np.random.Generator,
    backgrounds: list[Image.Image],
) -> list[Sample]:
    """The pairs of one hard negative pair. Its query is passed on whole: a crop of it may be a copy of the former."""
    queries = [pictures[0], edit_image(pictures[0], "light", rng).image, edit_image(pictures[0], "light", rng).image]
    samples = [Sample("hard", False, query, None, former, latter) for query in queries]
    for row, picture in zip((latter, former), pictures, strict=True):
        samples.append(
            Sample("copy_of_hard", True, edit_image(picture, "copy", rng, backgrounds).image, None, row, row)
        )
    return samples


def rivals(sample: Sample, scores: np.ndarray, data: TrainingSet, count: int) -> list[Sample]:
    """The `count` training images closest to a copy, but for its source and what shares its class or group.

    scores: (n,) of the copy against all training images. Ties: the first row.
    """
    groups = data.images["group"].to_pylist()
    found: list[Sample] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if len(found) == count:
            break
        own = data.classes[row] == data.classes[sample.source] or row == sample.source
        if own or (groups[row] is not None and groups[row] == groups[sample.source]):
            continue
        found.append(replace(sample, kind="rival", is_copy=False, reference=None, row=row))
    return found


def crop_box(edits: tuple[dict[str, object], ...]) -> list[float]:
    """The box of the crop among recorded edits."""
    return next(edit["parameters"]["box"] for edit in edits if edit["operation"] == "crop")  # type: ignore[index]


def contained(inner: list[float], outer: list[float]) -> float:
    """Share of the box `inner` that lies inside `outer`; boxes are (left, top, right, bottom)."""
    wide = min(inner[2], outer[2]) - max(inner[0], outer[0])
    tall = min(inner[3], outer[3]) - max(inner[1], outer[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return max(wide, 0.0) * max(tall, 0.0) / area
