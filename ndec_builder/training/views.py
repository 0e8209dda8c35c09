"""Views of training images: the original, crops of it and edited copies, each with its share of the content."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ndec_builder.core.decode import DecodeError, decode
from ndec_builder.core.storage import read_uri, sha256_bytes
from ndec_builder.edits.layers import HashedPictures
from ndec_builder.edits.recipes import edit_image
from ndec_builder.embeddings.preprocess import longest_side, to_array

ORIGINAL, CROP = "original", "edited-crop"  # recipes of `edits`
COPIES = ("copy", "view")  # the mix of test copies, and the training views of BoT
TRUNK_BATCH = 8  # inputs of the trunk at a time; the last batch of a shard is padded
MAX_BACKGROUNDS = 24  # training images that copies are pasted on; never evaluation images


@dataclass(frozen=True)
class View:
    """One input of the trunk and how it was made."""

    pixels: np.ndarray  # (3, size, size) uint8
    recipe: str  # original, edited-crop, copy or view
    content_share: float  # of the original, 0 … 1
    adds_content: bool  # shows content that the original lacks: not in the norm term
    edits: str  # json: the operations with their parameters


def view_kinds(count: int) -> tuple[str, ...]:
    """Kinds of the views of an image: the original, crops, then copies of both kinds in turn.

    There are as many crops as copies, or one more. The crops are edited too: with bare crops the norm learns the scale
    of the content instead of the loss through edits (AUC of the recipe `asl`: .71 with bare crops, .78 with one bare
    and three edited ones, .80 with three edited ones).

    """
    crops = count // 2
    return (ORIGINAL, *(CROP,) * crops, *(COPIES[i % 2] for i in range(count - 1 - crops)))


def load_picture(
    uri: str, side: int, rotation: int = 0, sha256: str | None = None, *, scaled: bool = False
) -> Image.Image:
    """Decode one image to upright RGB with its longer side at most `side` px, so that the edits are cheap.

    scaled: a JPEG may be scaled down while it is decoded, to at least twice that side. It is faster for large photos.
    Raises core.decode.DecodeError, also for bytes with another `sha256`, or OSError when the file cannot be read: both
    mean a row in the rejects.
    """
    data = read_uri(uri)
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise DecodeError("its bytes have changed since it was ingested")
    picture = decode(data, rotation, target=longest_side(2 * side) if scaled else None)
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return picture


def load_backgrounds(
    uris: Sequence[str], side: int, rotations: Sequence[int], sha256: Sequence[str], *, scaled: bool = False
) -> HashedPictures:
    """Pictures to paste copies on: up to MAX_BACKGROUNDS, evenly spread over the training images that can be read."""
    spread = np.linspace(0, len(uris) - 1, min(MAX_BACKGROUNDS, len(uris))).round().astype(int)
    pictures = []
    for row in dict.fromkeys(spread.tolist()):
        try:
            pictures.append(load_picture(uris[row], side, rotations[row], sha256[row], scaled=scaled))
        except (ValueError, OSError):  # counted as a reject of the views
            continue
    return HashedPictures(pictures)


def view_generator(seed: int, sha256: str, *numbers: int) -> np.random.Generator:
    """The generator of one view: a function of seed, image bytes and the numbers of the view, not of any order."""
    return np.random.default_rng([seed, int(sha256[:15], 16), *numbers])


def make_view(
    picture: Image.Image, kind: str, generator: np.random.Generator, size: int, backgrounds: Sequence[Image.Image]
) -> View:
    """Make one view of a picture for a trunk that takes `size` px."""
    if kind == ORIGINAL:
        return View(to_array(picture, size), kind, 1.0, False, "[]")
    edited = edit_image(picture, kind, generator, backgrounds)
    edits = json.dumps(list(edited.edits), sort_keys=True)
    return View(to_array(edited.image, size), kind, float(edited.content_share), bool(edited.adds_content), edits)


@dataclass(frozen=True)
class ViewMaker:
    """Makes views of training images, for the cache and for online training."""

    uris: Sequence[str]  # resolved, row by row
    sha256: Sequence[str]
    size: int  # px of the trunk's input
    seed: int
    backgrounds: Sequence[Image.Image]
    rotations: Sequence[int]  # clockwise degrees of each image

    @property
    def side(self) -> int:
        return 2 * self.size  # a crop of a quarter of the area still fills the input of the trunk

    def views(self, row: int, kinds: Sequence[str], *numbers: int) -> list[View]:
        """Views of one image. Raises what `load_picture` raises."""
        picture = load_picture(self.uris[row], self.side, self.rotations[row], self.sha256[row], scaled=True)
        return [
            make_view(
                picture, kind, view_generator(self.seed, self.sha256[row], *numbers, i), self.size, self.backgrounds
            )
            for i, kind in enumerate(kinds)
        ]


def view_maker(images: Sequence[dict[str, Any]], resolve: Callable[[str], str], size: int, seed: int) -> ViewMaker:
    """A maker for rows with `uri`, `sha256` and perhaps `rotation`."""
    uris = [resolve(row["uri"]) for row in images]
    rotations = [row.get("rotation") or 0 for row in images]
    sha256 = [row["sha256"] for row in images]
    backgrounds = load_backgrounds(uris, 2 * size, rotations, sha256, scaled=True)
    return ViewMaker(uris, sha256, size, seed, backgrounds, rotations)
