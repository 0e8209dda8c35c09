"""Planted pairs: edited copies and the crops for reverse crops. Their truth is known by construction."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ndec_builder.demo.corpus.prepare import PreparedPicture, to_jpeg
from ndec_builder.edits.operations import apply_edits
from ndec_builder.edits.recipes import edit_image, edit_json

CROP_AREA = (0.3, 0.7)  # area of the crop as a share of the picture's area
_ASPECT = (0.8, 1.25)  # of the crop, relative to the picture's own
_RECIPE = "copy"


@dataclass(frozen=True)
class Derived:
    """A picture made from another, with how it was made (JSON for the edits table)."""

    image_id: str
    jpeg: bytes
    size: tuple[int, int]
    edit: str


def crop_of(source: PreparedPicture, seed: int) -> Derived:
    """Crop a picture to a box of CROP_AREA. With the uncropped picture as query, this makes a reverse crop."""
    rng = _rng(source.image_id, seed, 2)
    box = random_crop_box(rng)
    edits = [{"operation": "crop", "parameters": {"box": box}}]
    image = apply_edits(_open(source), edits)
    edit = json.dumps({"recipe": "reverse_crop", "seed": seed, "edits": edits}, sort_keys=True)
    return Derived(_derived_id(source.image_id, "crop", seed), to_jpeg(image), image.size, edit)


def copy_of(source: PreparedPicture, seed: int, backgrounds: Sequence[Image.Image]) -> Derived:
    """Make an edited copy by the recipe `copy`."""
    edited = edit_image(_open(source), _RECIPE, _rng(source.image_id, seed, 3), backgrounds)
    image_id = _derived_id(source.image_id, "copy", seed)
    return Derived(image_id, to_jpeg(edited.image), edited.image.size, edit_json(edited, _RECIPE, seed))


def random_crop_box(rng: np.random.Generator) -> list[float]:
    """A random (left, top, right, bottom), fractions of the sides, with an area in CROP_AREA."""
    area, aspect = rng.uniform(*CROP_AREA), rng.uniform(*_ASPECT)
    width, height = min(1.0, float(np.sqrt(area * aspect))), min(1.0, float(np.sqrt(area / aspect)))
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return [round(float(value), 6) for value in (left, top, left + width, top + height)]


def _open(source: PreparedPicture) -> Image.Image:
    return Image.open(io.BytesIO(source.jpeg)).convert("RGB")


def _derived_id(source_id: str, kind: str, seed: int) -> str:
    """An id that does not reveal kind or source to an annotator."""
    return "image-" + hashlib.sha256(f"{kind}/{source_id}/{seed}".encode()).hexdigest()[:12]


def _rng(image_id: str, seed: int, stream: int) -> np.random.Generator:
    """One generator per picture, so that no result depends on the other pictures or on threads."""
    return np.random.default_rng([seed, stream, zlib.crc32(image_id.encode())])
